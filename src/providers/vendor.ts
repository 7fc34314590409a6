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
  /** The door out, for this provider's host only. */
  fetch: typeof fetch;
  log: Log;
}

/** A vendor, or a kind of server. */
export interface VendorRow {
  /** The wire, as the configuration names it; also the provider's usual name. */
  kind: ProviderKind;
  /** For people. */
  title: string;
  /** The environment name of the key. */
  keyEnv?: string;
  /** The environment name of the base URL. */
  baseUrlEnv?: string;
  /** Reads that name's value; only where it is not a plain URL. */
  parseBaseUrl?: (value: string) => URL;
  /** Where it lives when nothing else is said. */
  baseUrl?: string;
  /** Whether {@linkcode baseUrl} refuses calls without a key. */
  needsKey: boolean;
  /** The model to begin with at {@linkcode baseUrl}; absent: ask the server. */
  model?: string;
  make(deps: ProviderDeps, config: ProviderConfig): Provider;
}
