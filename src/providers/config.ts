/**
 * The providers' slice of the configuration: which vendors, by what key, at
 * which address. Keys and base URLs come from the vendors' usual environment
 * names when no line says otherwise.
 *
 * @module
 */
import { isAbsolute } from "node:path";
import { z } from "zod";
import { CLEAR_TEXT, isClearText } from "../core/clear_text.ts";
import { SecretField } from "../core/secret.ts";

/** The wires we speak. */
export const ProviderKind = z.enum([
  "anthropic",
  "openai",
  "gemini",
  "bedrock",
  "ollama",
  "demo",
]);
export type ProviderKind = z.infer<typeof ProviderKind>;

/** An account of the cloud that names its keys in parts. */
export const AwsConfig = z.strictObject({
  region: z.string().regex(/^[a-z]{2,3}(-[a-z]+)+-\d{1,2}$/).optional()
    .describe("The region; else AWS_REGION, else us-east-1"),
  accessKeyId: SecretField.optional().describe("Else AWS_ACCESS_KEY_ID"),
  secretAccessKey: SecretField.optional().describe(
    "Else AWS_SECRET_ACCESS_KEY",
  ),
  sessionToken: SecretField.optional().describe("Else AWS_SESSION_TOKEN"),
  profile: z.string().min(1).max(128).default("default").describe(
    "The section of profileFile",
  ),
  profileFile: z.string().max(1024).refine(
    (path) => isAbsolute(path),
    "write the whole path",
  ).optional().describe(
    "A credentials file with that section; the program may read this file only because it stands here",
  ),
});
export type AwsConfig = z.infer<typeof AwsConfig>;

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
  aws: AwsConfig.optional().describe(
    "For bedrock: the region and the account's keys",
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
}).refine(
  ({ baseUrl, apiKey, aws }) =>
    baseUrl === undefined || !isClearText(baseUrl) ||
    apiKey === undefined && aws === undefined,
  { error: CLEAR_TEXT, path: ["baseUrl"] },
);
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
