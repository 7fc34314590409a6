/**
 * What a provider's file tells the rest of this room about itself: one row.
 * Nothing outside the room names a vendor; it reads these.
 *
 * @module
 */
import type { Log } from "../core/log.ts";
import type { Provider } from "../core/model.ts";
import type { Secret } from "../core/secret.ts";
import type { ProviderConfig, ProviderKind } from "./config.ts";

/** A model name that means: whatever the server lists first. */
export const AUTO_MODEL = "auto";

/** What a provider is made of. */
export interface ProviderDeps {
  /** The name in `provider:model`. */
  id: string;
  baseUrl: URL;
  /** Absent for servers that want none. */
  apiKey: Secret | undefined;
  /** What was found under the row's {@linkcode VendorRow.secretEnv} names. */
  secrets?: Readonly<Record<string, Secret>>;
  /** Where a vendor has several places. */
  region?: string | undefined;
  /** The door out, for this provider's host only. */
  fetch: typeof fetch;
  log: Log;
}

/** What a vendor's file can do, in a few words each: a row of the documents' table. */
export interface Supports {
  /** How thinking is asked for, and what goes back with a tool's result. */
  thinking: string;
  /** What is marked for the vendor's prompt cache, and whether hits are counted. */
  cache: string;
  /** Structured output. */
  schema: string;
  /** Whether `/v1/chat/completions` passes its bytes through. */
  forward: boolean;
}

/** A vendor, or a kind of server. */
export interface VendorRow {
  /** The wire, as the configuration names it; also the provider's usual name. */
  kind: ProviderKind;
  /** The provider's usual name, where it shares its wire with others. */
  id?: string;
  /** For people. */
  title: string;
  /** The environment name of the key. */
  keyEnv?: string;
  /** Other names the vendor's own tools read the key from. */
  keyEnvAlso?: readonly string[];
  /** The environment name of the base URL. */
  baseUrlEnv?: string;
  /** Reads that name's value; only where it is not a plain URL. */
  parseBaseUrl?: (value: string) => URL;
  /** Where it lives when nothing else is said. */
  baseUrl?: string;
  /** Names of further secrets, read only for a provider that was asked for. */
  secretEnv?: readonly string[];
  /** Names of the region, the first that is set counts. */
  regionEnv?: readonly string[];
  /** The address, where it depends on a region. */
  regional?(region: string | undefined): URL;
  /** Hosts beside the base URL's. */
  alsoAt?(baseUrl: URL): readonly URL[];
  /** Its host is granted when a line or a variable asks for it, not before. */
  onDemand?: true;
  /** Whether {@linkcode baseUrl} refuses calls without a key. */
  needsKey: boolean;
  /** The model to begin with at {@linkcode baseUrl}; absent: ask the server. */
  model?: string;
  supports: Supports;
  make(deps: ProviderDeps, config: ProviderConfig): Provider;
}

/** The name a provider of this row has when nobody gives it another. */
export function usualId(row: VendorRow): string {
  return row.id ?? row.kind;
}
