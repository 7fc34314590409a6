/**
 * `docs/protocol.md`, from the tables that the gateway itself works with: the
 * routes, the methods' contracts, the events and the limits of the wire.
 */
import { z } from "zod";
import { EVENT_PAYLOADS } from "../contracts/event_payloads.ts";
import { type MethodContract, METHODS } from "../../src/core/methods.ts";
import {
  CLOSE,
  EVENTS,
  PROTOCOL,
  WIRE_LIMITS,
  WireErrorCode,
} from "../../src/core/protocol.ts";
import { ROUTES } from "../../src/gateway/routes.ts";
import { markdownTable } from "./markdown.ts";

interface JsonSchema {
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: JsonSchema | boolean;
}

/** A schema in one line, as a reader of TypeScript expects it. */
function toShape(schema: JsonSchema): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) {
    return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  }
  if (schema.anyOf !== undefined) {
    return [...new Set(schema.anyOf.map(toShape))].join(" | ");
  }
  if (schema.type === "array") {
    const item = toShape(schema.items ?? {});
    return item.includes(" | ") ? `(${item})[]` : `${item}[]`;
  }
  if (schema.type === "object") {
    const { properties = {}, required = [], additionalProperties } = schema;
    const fields = Object.entries(properties).map(([name, field]) =>
      `${name}${required.includes(name) ? "" : "?"}: ${toShape(field)}`
    );
    if (fields.length > 0) return `{${fields.join(", ")}}`;
    return typeof additionalProperties === "object"
      ? `{[name]: ${toShape(additionalProperties)}}`
      : "{}";
  }
  return schema.type ?? "any";
}

function shapeOf(schema: z.ZodType, io: "input" | "output"): string {
  return toShape(
    z.toJSONSchema(schema, { io, unrepresentable: "any" }) as JsonSchema,
  );
}

function code(text: string): string {
  return `\`${text}\``;
}

const INTRO = `# Protocol

Made from the program's own tables by \`deno task docs\`.

Every request carries \`Authorization: Bearer TOKEN\`; \`carapace token create\`
makes one. Loopback is no credential, cookies are not read, and \`Host\` and
\`Origin\` must be names this gateway knows (\`gateway.hosts\`, \`gateway.origins\`).
A path has one spelling: encoded slashes, dots and percents, empty and dot
segments are refused.`;

const CHAT = `## Chat completions

\`POST /v1/chat/completions\` speaks OpenAI's dialect, whole or streamed.

- \`carapace\`, \`carapace/AGENT\`, \`carapace:AGENT\` (and \`openclaw\`,
  \`openclaw/default\`, \`openclaw/AGENT\`, \`openclaw:AGENT\`, \`agent:AGENT\`) run an
  agent. The last user message is the inbound text, with the integrity of the
  token; \`system\` and \`developer\` messages steer as a labelled user part; earlier
  assistant and tool messages are untrusted. Function tools are the caller's to
  run and come back as \`tool_calls\`. Images are base64 data URLs.
- Without \`user\` or \`x-carapace-session-key\` a request runs in a session of its
  own that is not listed. A program's keys are namespaced under its token.
- \`x-carapace-agent-id\` chooses an agent, \`x-carapace-model\` its model (scope
  \`write\`). \`x-openclaw-…\` are aliases.
- \`PROVIDER/MODEL\` or \`PROVIDER:MODEL\` goes to the model itself. Where the vendor
  speaks this dialect the body is sent on as it is, only the name replaced.
- Errors are \`{"error": {message, type, param, code}}\`. An answer that takes long
  gets its headers before it is known; from then on a failure is an error object
  in the body (in a stream: an error frame) under status 200.
- Leaving ends the run or the provider's call.`;

const SOCKET = `## WebSocket

At \`/ws\` and at \`/\`, UTF-8 JSON text frames, protocols ${PROTOCOL.min} to ${PROTOCOL.max}:

\`\`\`text
→ {"type":"req","id","method","params"?,"traceparent"?}
← {"type":"res","id","ok":true,"payload"} or {"type":"res","id","ok":false,"error"}
← {"type":"event","event","payload","seq"}
\`\`\`

The server sends \`connect.challenge\`; the client's first request is \`connect\`
with \`{minProtocol, maxProtocol, client:{id, version, platform, mode},
auth:{token}, scopes?, resume?}\`; the answer is \`hello-ok\`. Scopes come from the
server's record of the token, intersected with what was asked; nothing else a
client says widens them. Instead of a token, or beside it, \`device:{id, publicKey,
signature, signedAt, nonce}\` shows a device: an Ed25519 key, its id the hex
SHA-256 of the raw key, all base64url; signed is \`v2|id|client.id|client.mode|role|
scopes,…|signedAt|token|nonce\`, or \`v3\` with \`|platform|deviceFamily\` in lower
case behind it, where the token is \`auth.token\`, \`deviceToken\` or
\`bootstrapToken\`, the first that was sent, or nothing. \`signedAt\` is within two
minutes of the challenge's \`ts\`. An unknown key gets \`NOT_PAIRED\` with
\`details.requestId\`; see docs/security.md, Identity. The first \`hello-ok\` of a
paired device holds \`auth.deviceToken\`. An upgrade that carries \`Authorization\` may leave out
\`auth\`. Unknown properties are refused. \`seq\` counts a connection's events from
1 without gaps. Requests of one connection run at the same time; what is sent
to one session, and changes of it (\`sessions.patch\`, \`sessions.reset\`), keep their order. \`resume {sessionKey, runId, seq}\` sends a run's events
after \`seq\` again, words that follow one another as one; where some are not kept any
more, the first \`delta\` replaces.

Who is not the owner sees only its own sessions and runs, and its session keys
are namespaced under its token: \`main\` is \`agent:AGENT:client:TOKEN:main\`.

A run is told as \`agent\` events, by \`stream\`, and as \`chat\` events: \`delta\` with
the new \`deltaText\` and the whole \`message\` so far (\`replace\` when it begins
anew), then exactly one \`final\`, \`aborted\` or \`error\`. A reader that is slow gets
deltas merged, one that stays behind is closed.`;

/** Events that go by more than a scope. */
const WHO: Readonly<Record<string, string>> = {
  "node.invoke.request": "the one node that is asked, over its own socket",
  chat: "`read`, of whose run or session it is",
  agent: "`read`, of whose run or session it is",
  "sessions.changed": "`read`, of whose session it is",
  outbox: "the owner",
};

const EVENTS_INTRO =
  `Who may hear an event is its scope, and for what belongs to somebody that
they may see it. \`presence\` and \`health\` carry \`stateVersion\` beside the
payload. \`posture\` is told to everyone who connects; paths and hosts in it are
the owner's.`;

/** The whole document. */
export function makeProtocolDoc(): Promise<string> {
  const routes = ROUTES.map(({ method, path, scope, orScope, about }) => [
    code(`${method} ${path}`),
    orScope === undefined ? scope : `${scope} or ${orScope}`,
    about,
  ]);
  const methods = Object.entries(METHODS).map((
    [name, contract],
  ) => {
    const { scope, about, input, output, owner }: MethodContract = contract;
    const whose = owner === true ? ", the owner only" : "";
    return `### ${name}\n\n${about}. Scope \`${scope}\`${whose}.\n\n\`\`\`text\n→ ${
      shapeOf(input, "input")
    }\n← ${shapeOf(output, "output")}\n\`\`\``;
  });
  const events = Object.entries(EVENTS).map(([name, scope]) => {
    const shape = EVENT_PAYLOADS[name as keyof typeof EVENT_PAYLOADS];
    return `### Event ${name}\n\nTo ${WHO[name] ?? scope ?? "everyone"}.\n\n` +
      `\`\`\`text\n${shapeOf(shape, "output")}\n\`\`\``;
  });
  const limits = Object.entries(WIRE_LIMITS).map((
    [name, value],
  ) => [code(name), String(value)]);
  const closes = Object.entries(CLOSE).map((
    [name, value],
  ) => [String(value), name]);
  const sections = [
    INTRO,
    `## Routes\n\n${markdownTable(["route", "scope", ""], routes)}`,
    CHAT,
    SOCKET,
    `### Limits\n\n${markdownTable(["limit", "value"], limits)}`,
    `### Close codes\n\n${markdownTable(["code", "why"], closes)}`,
    `### Errors\n\n\`{code, message, retryable?, retryAfterMs?, details?}\`; ` +
    `\`details.hint\` says what to do. Codes: ${
      WireErrorCode.options.map(code).join(", ")
    }. Protocol 3 knows only the first five and gets \`INVALID_REQUEST\` for the ` +
    `others (a version mismatch excepted).`,
    `## Events\n\n${EVENTS_INTRO}\n\n${events.join("\n\n")}`,
    `## Methods\n\n${methods.join("\n\n")}`,
  ];
  return Promise.resolve(`${sections.join("\n\n")}\n`);
}
