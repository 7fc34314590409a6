/**
 * `docs/plugin-abi.json`: what a guest may import and export, for those who write
 * plugins in other languages and for tools. Made of the schemas the host parses by.
 *
 * @module
 */
import { z } from "zod";
import { PluginManifest } from "../../src/core/plugin.ts";
import { PluginLimits } from "../../src/plugins/config.ts";
import { HookAnswer } from "../../src/plugins/hooks.ts";
import { ANSWERS, REQUESTS } from "../../src/plugins/host_functions.ts";
import {
  EXTISM_ENV,
  EXTISM_IMPORTS,
  EXTISM_USER,
  WASI,
} from "../../src/plugins/imports.ts";
import { RUNNER_LIMITS } from "../../src/plugins/live.ts";
import {
  WEBHOOK_BODY_BYTES_MAX,
  WebhookAnswer,
} from "../../src/plugins/webhooks.ts";
import { PLUGIN_BYTES_MAX } from "../../src/store/plugins.ts";

/** Extism's own functions, as WebAssembly types. An address is an i64. */
export const SIGNATURES: Readonly<Record<string, string>> = {
  input_length: "() -> i64",
  input_offset: "() -> i64",
  input_load_u8: "(i64) -> i32",
  input_load_u64: "(i64) -> i64",
  output_set: "(i64, i64) -> ()",
  error_set: "(i64) -> ()",
  length: "(i64) -> i64",
  length_unsafe: "(i64) -> i64",
  alloc: "(i64) -> i64",
  free: "(i64) -> ()",
  load_u8: "(i64) -> i32",
  load_u64: "(i64) -> i64",
  store_u8: "(i64, i32) -> ()",
  store_u64: "(i64, i64) -> ()",
  config_get: "(i64) -> i64",
  log_trace: "(i64) -> ()",
  log_debug: "(i64) -> ()",
  log_info: "(i64) -> ()",
  log_warn: "(i64) -> ()",
  log_error: "(i64) -> ()",
  get_log_level: "() -> i32",
};

/** The want that links each function of the host. */
const WANTS: Readonly<Record<keyof typeof REQUESTS, string>> = {
  carapace_http: "wants.http",
  carapace_kv_get: "wants.kv",
  carapace_kv_set: "wants.kv",
  carapace_kv_delete: "wants.kv",
  carapace_kv_list: "wants.kv",
  carapace_message: "wants.message",
  carapace_schedule: "wants.schedule",
  carapace_emit: "channel",
};

function schema(type: z.ZodType, io: "input" | "output" = "input"): unknown {
  const { $schema: _, ...rest } = z.toJSONSchema(type, {
    io,
    unrepresentable: "any",
  });
  return rest;
}

function functions(names: readonly { name: string }[]): unknown {
  return Object.fromEntries(
    names.map(({ name }) => [name, SIGNATURES[name] ?? "?"]),
  );
}

const Webhook = z.strictObject({
  name: z.string(),
  method: z.string(),
  query: z.record(z.string(), z.string()),
  headers: z.record(z.string(), z.string()),
  body: z.string().optional().describe("In UTF-8; else bodyBase64"),
  bodyBase64: z.string().optional(),
});
const Hook = z.strictObject({
  point: z.string(),
  runId: z.string().optional(),
  sessionKey: z.string().optional(),
  agentId: z.string().optional(),
  channel: z.string().optional(),
  text: z.string().optional().describe("With the conversation grant"),
  tool: z.strictObject({
    name: z.string(),
    args: z.json().optional().describe("With the conversation grant"),
  }).optional(),
});
const Send = z.strictObject({
  key: z.string().describe("The same key is sent once"),
  to: z.string().describe("Empty: wherever the settings say"),
  text: z.string(),
});
const Timer = z.strictObject({
  name: z.string(),
  due: z.int(),
  payload: z.string(),
});

/** The whole document. */
export function makePluginAbi(): Promise<string> {
  const user = Object.fromEntries(
    EXTISM_IMPORTS.user.map(({ name }) => {
      const known = name as keyof typeof REQUESTS;
      return [name, {
        signature: "(i64) -> i64",
        needs: WANTS[known],
        request: schema(REQUESTS[known]),
        answer: schema(ANSWERS[known], "output"),
      }];
    }),
  );
  const abi = {
    abi: 1,
    about:
      'A guest is a WebAssembly module made with any Extism PDK. Each function of extism:host/user takes the address of a block with a JSON request in UTF-8 and returns the address of a block with a JSON answer; a failure is {"ok": false, "code": …, "error": …} and never traps. A module that imports anything else, or anything that is not granted, is not loaded.',
    imports: {
      [EXTISM_ENV]: {
        always: functions(EXTISM_IMPORTS.kernel),
        "with wants.config": functions(EXTISM_IMPORTS.config),
        "with wants.log": functions(EXTISM_IMPORTS.log),
        never: EXTISM_IMPORTS.never.map(({ name }) => name),
      },
      [EXTISM_USER]: user,
      [WASI]: {
        needs: "wants.wasi",
        functions: EXTISM_IMPORTS.wasi.map(({ name }) => name),
      },
    },
    exports: {
      about:
        "Each export takes no parameters; its result is ignored. It reads its input with input_*, answers with output_set, and fails with error_set.",
      tool: {
        input: "the arguments, as the manifest's schema says",
        output: "text",
      },
      webhook: { input: schema(Webhook), output: schema(WebhookAnswer) },
      hook: { input: schema(Hook), output: schema(HookAnswer) },
      "channel.sendExport": { input: schema(Send), output: "nothing" },
      "channel.pollExport": { input: {}, output: "nothing" },
      "wants.schedule.export": { input: schema(Timer), output: "nothing" },
    },
    failure: {
      ok: false,
      code: [
        "bad_input",
        "forbidden",
        "rate_limited",
        "too_large",
        "timeout",
        "upstream",
        "unavailable",
        "internal",
      ],
      error: "what could not be done, and why",
    },
    limits: {
      ...PluginLimits.parse({}),
      ...RUNNER_LIMITS,
      moduleBytesMax: PLUGIN_BYTES_MAX,
      webhookBodyBytesMax: WEBHOOK_BODY_BYTES_MAX,
    },
    manifest: schema(PluginManifest),
  };
  return Promise.resolve(`${JSON.stringify(abi, null, 2)}\n`);
}
