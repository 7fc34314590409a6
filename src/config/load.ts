/**
 * Reads the configuration: file or environment, includes, references, schema.
 *
 * @module
 */

/** One thing wrong in the configuration, and where. */
export interface Problem {
  /** The file, or `CARAPACE_CONFIG_JSON`. */
  file: string;
  line?: number;
  column?: number;
  /** Dotted path of the field: `gateway.port`; empty for the whole. */
  path: string;
  message: string;
  hint?: string;
}

/** An invalid configuration is an outcome, not a failure: callers must branch. */
export type Loaded<T> =
  | {
    ok: true;
    value: T;
    /** The file's path, `CARAPACE_CONFIG_JSON`, or `defaults`. */
    source: string;
    /** SHA-256 of what was read, for `baseHash`. */
    hash: string;
    /** Every file that was read, includes too. */
    files: readonly string[];
    /** Where a field is written: `carapace.jsonc:12`, else the source. */
    where(path: string): string;
  }
  | { ok: false; problems: readonly Problem[]; source: string };
