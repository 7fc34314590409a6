/**
 * What an MCP server says of a tool, cut to what is reasonable, hashed, and made
 * a tool of this house.
 *
 * Never: a server's word lowers what its tool is taken to do.
 *
 * @module
 */
import { z } from "zod";
import { scanJson } from "../../core/bounded.ts";
import { canonicalJson } from "../../core/canonical.ts";
import { AppError } from "../../core/errors.ts";
import { sha256Hex } from "../../core/ids.ts";
import type { Destination, Effect, Tool, ToolOutput } from "../../core/tool.ts";
import { tool as makeTool } from "../../core/tool.ts";
import type { McpServer } from "./config.ts";

/** Bounds of a definition. */
export const DEFINITION_LIMITS = {
  /** Tools taken of one MCP server; the others are left out. */
  toolsMax: 128,
  /** Characters of a tool's name; a longer one leaves the tool out. */
  nameCharsMax: 128,
  /** Characters of its description; the rest is cut. */
  aboutCharsMax: 1_024,
  /** Characters of its schema; a longer one leaves the tool out. */
  schemaCharsMax: 16_384,
  /** Levels of its schema; the same. */
  schemaDepthMax: 16,
  /** Values of its schema; the same. */
  schemaNodesMax: 2_000,
  /** Characters of a result; the rest is cut. */
  resultCharsMax: 4_194_304,
} as const;

/** A tool as a server describes it; more is left out. */
export const Definition = z.object({
  name: z.string().min(1).max(DEFINITION_LIMITS.nameCharsMax).regex(
    /^[A-Za-z0-9_./-]+$/,
  ),
  description: z.string().optional(),
  inputSchema: z.looseObject({ type: z.literal("object") }),
  annotations: z.object({
    readOnlyHint: z.boolean().optional(),
    destructiveHint: z.boolean().optional(),
    openWorldHint: z.boolean().optional(),
  }).optional(),
});
export type Definition = z.infer<typeof Definition>;

/** A definition that is within limits, or why it is not. */
export function readDefinition(raw: unknown): Definition | { why: string } {
  const parsed = Definition.safeParse(raw);
  if (!parsed.success) return { why: "its description does not fit" };
  const schema = JSON.stringify(parsed.data.inputSchema);
  const { schemaCharsMax, schemaDepthMax, schemaNodesMax } = DEFINITION_LIMITS;
  if (schema.length > schemaCharsMax) return { why: "its schema is too long" };
  try {
    scanJson(schema, { depthMax: schemaDepthMax, nodesMax: schemaNodesMax });
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { why: "its schema is too deep or too large" };
  }
  return parsed.data;
}

/** What a pin holds: everything a model is shown of it, and its hints. */
export async function definitionHash(definition: Definition): Promise<string> {
  const { name, description, inputSchema, annotations } = definition;
  // Through JSON once: what was not there and what was undefined are the same.
  const plain = JSON.parse(
    JSON.stringify({ name, description, inputSchema, annotations }),
  );
  return await sha256Hex(canonicalJson(plain));
}

/** A name that every vendor takes; no two tools of a server share one. */
export async function toolName(server: string, name: string): Promise<string> {
  const plain = `mcp_${server}_${name}`.replaceAll(/[^A-Za-z0-9_-]/g, "_");
  const isSame = plain.length <= 64 && /^[A-Za-z0-9_-]+$/.test(name);
  if (isSame) return plain;
  const hash = (await sha256Hex(`${server}\n${name}`)).slice(0, 8);
  return `${plain.slice(0, 55)}_${hash}`;
}

/** A description as a model is shown it: one paragraph, no hidden characters. */
function aboutOf(server: string, { name, description }: Definition): string {
  const text = (description ?? name).normalize("NFKC")
    .replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ")
    .replaceAll(/\s+/g, " ").trim();
  const { aboutCharsMax } = DEFINITION_LIMITS;
  const cut = text.length > aboutCharsMax
    ? `${text.slice(0, aboutCharsMax)}…`
    : text;
  return `(${server}) ${cut}`;
}

/** What a tool states and implies; an owner's line is the last word. */
export function effectOf(
  server: McpServer,
  { name, annotations }: Definition,
): { effect: Effect; implied?: Effect } {
  const said = Object.hasOwn(server.effects, name)
    ? server.effects[name]
    : undefined;
  if (said !== undefined) return { effect: said };
  const isReadOnly = annotations?.readOnlyHint === true &&
    annotations.destructiveHint !== true;
  // It is another's program: whatever it says, what it is told has left.
  return { effect: isReadOnly ? "none" : "write", implied: "outbound" };
}

/** What a server answered, in words. */
const Content = z.array(z.looseObject({ type: z.string() })).max(1_000);
const CallResult = z.object({
  content: Content.default([]),
  structuredContent: z.unknown().optional(),
  isError: z.boolean().optional(),
});

function blockText(block: Record<string, unknown>): string {
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  switch (block["type"]) {
    case "text":
      return text(block["text"]);
    case "image":
    case "audio":
      return `[${block["type"]}, not shown]`;
    case "resource_link":
      return `[${text(block["name"])}: ${text(block["uri"])}]`;
    case "resource": {
      const resource = block["resource"] as Record<string, unknown> | undefined;
      return text(resource?.["text"]) ||
        `[resource ${text(resource?.["uri"])}]`;
    }
    default:
      return "";
  }
}

/** A call's answer as an output. */
export function toOutput(raw: unknown): ToolOutput {
  const parsed = CallResult.safeParse(raw);
  if (!parsed.success) {
    return { text: "The server's answer is not one", isError: true };
  }
  const { content, structuredContent, isError } = parsed.data;
  const said = content.map(blockText).filter((text) => text !== "").join("\n");
  const text = said !== "" || structuredContent === undefined
    ? said
    : JSON.stringify(structuredContent);
  return {
    text: text.slice(0, DEFINITION_LIMITS.resultCharsMax) || "(no answer)",
    ...(isError === true ? { isError: true } : {}),
  };
}

/** What a call is given and how it is made. */
export type McpCall = (
  name: string,
  args: Record<string, unknown>,
  signal: AbortSignal,
) => Promise<unknown>;

/** A server's tool as one of this house. */
export async function toTool(
  definition: Definition,
  options: { serverName: string; server: McpServer; call: McpCall },
): Promise<Tool> {
  const { serverName, server, call } = options;
  const { name, inputSchema } = definition;
  const destinations: readonly Destination[] =
    Object.hasOwn(server.destinations, name)
      ? server.destinations[name] ?? []
      : [];
  return makeTool({
    name: await toolName(serverName, name),
    about: aboutOf(serverName, definition),
    // The server checks its own arguments; here only that they are such.
    input: z.record(z.string().max(256), z.json()),
    schema: inputSchema,
    scope: "tools",
    reach: "owner",
    ...effectOf(server, definition),
    result: {
      integrity: server.trusted ? "inherit" : "untrusted",
      secrecy: server.private ? "private" : "inherit",
    },
    destinations,
    binding: await definitionHash(definition),
    limitMs: server.timeoutMs,
    run: async (args, { signal, now }) => {
      const output = toOutput(await call(name, args, signal));
      return {
        ...output,
        label: {
          integrity: server.trusted ? "owner" : "untrusted",
          secrecy: [],
          origins: [{
            kind: "mcp",
            ref: `${serverName}/${name}`,
            at: now(),
          }],
        },
      };
    },
  });
}
