/**
 * The providers' slice of the configuration: which vendors, by what key, at
 * which address. Keys and base URLs come from the vendors' usual environment
 * names when no line says otherwise.
 *
 * @module
 */
import { z } from "zod";
import { SecretField } from "../core/secret.ts";

/** The wires we speak. */
export const ProviderKind = z.enum([
  "anthropic",
  "openai",
  "ollama",
  "demo",
]);
export type ProviderKind = z.infer<typeof ProviderKind>;

export const ProviderConfig = z.strictObject({
  kind: ProviderKind.optional().describe(
    "The wire it speaks; the provider's own name when that is one, else openai",
  ),
  baseUrl: z.url({ protocol: /^https?$/ }).optional().describe(
    "Address of the API, up to and including /v1 where the vendor has one",
  ),
  apiKey: SecretField.optional().describe(
    '"${secret:NAME}" or "${ENV_NAME}"',
  ),
  api: z.enum(["chat", "responses"]).optional().describe(
    "For openai: which API; chat when baseUrl is set, else responses",
  ),
  models: z.array(z.string().min(1).max(200)).max(256).default([]).describe(
    "Models to offer without asking the vendor",
  ),
  firstTokenMs: z.int().min(100).max(3_600_000).default(60_000).describe(
    "Longest wait for the first token",
  ),
  idleMs: z.int().min(100).max(3_600_000).default(90_000).describe(
    "Longest wait between two tokens",
  ),
  retriesMax: z.int().min(0).max(10).default(2).describe(
    "Attempts after the first, before the first token",
  ),
});
export type ProviderConfig = z.infer<typeof ProviderConfig>;

/** A provider's name, as in `provider:model`. */
export const ProviderId = z.string().regex(
  /^[a-z0-9][a-z0-9_-]{0,39}$/,
  "a provider's name is 1 to 40 of a-z, 0-9, _ and -",
);

export const ProvidersConfig = z.record(
  ProviderId,
  ProviderConfig.prefault({}),
).prefault({});
export type ProvidersConfig = z.infer<typeof ProvidersConfig>;
