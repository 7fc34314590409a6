/**
 * Tools called by name from outside: `/tools/invoke`, and what `/mcp` and other
 * doors share with it.
 *
 * Never: a tool runs here; `invokeTool` is the only way, and decides.
 *
 * @module
 */
import { z } from "zod";
import { type Invoked, invokeTool } from "../../agent/invoke.ts";
import { parseJson } from "../../core/bounded.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import { makeId } from "../../core/ids.ts";
import type { ToolSpec } from "../../core/model.ts";
import { type Call, readJsonText } from "../call.ts";
import type { GatewayDeps } from "../deps.ts";
import { json } from "../http_errors.ts";
import { Caller } from "../keys.ts";
import { answerSoon } from "./late.ts";
import { labelsOf, toInbound } from "./chat_completions/agent.ts";
import type { RateByKind } from "../rate.ts";
import { checkServing } from "../serving.ts";
import type { ApiDeps } from "./target.ts";

/** `POST /tools/invoke`. */
export const InvokeBody = z.strictObject({
  tool: z.string().min(1).max(256),
  args: z.record(z.string(), z.unknown()).optional(),
  /** Becomes `args.action` where that is not there. */
  action: z.string().max(256).optional(),
  agentId: z.string().max(64).optional(),
  /** Taken for the sake of other clients: a call has a session of its own. */
  sessionKey: z.string().max(300).optional(),
}).meta({ title: "ToolInvocation" });

/** What `POST /tools/invoke` answers. */
export const InvokeAnswer = z.object({
  ok: z.literal(true),
  result: z.object({
    content: z.array(z.object({ type: z.literal("text"), text: z.string() })),
  }),
  runId: z.string(),
});

/** What it answers where the tool failed, was denied or is not there. */
export const InvokeRefusal = z.object({
  ok: z.literal(false),
  error: z.object({ type: z.string(), message: z.string() }),
  runId: z.string().optional(),
});

/** What calling a tool by name needs, at whichever door. */
export interface InvokeDeps {
  deps: GatewayDeps;
  turnRate: RateByKind;
  isAttended(): boolean;
}

/** The tools a caller may use by name. */
export function toolsOf(
  { deps }: Pick<InvokeDeps, "deps">,
  caller: Caller,
  { agentId = deps.agents().defaultId, channel = "http" }: {
    agentId?: string | undefined;
    channel?: string;
  } = {},
): readonly ToolSpec[] {
  const { authority } = caller;
  return deps.toolsOf?.({ agentId, authority, channel }) ?? [];
}

/**
 * Runs a tool with a caller's own authority and integrity, asking the owner
 * when one is there.
 *
 * @throws {AppError} `forbidden` for the agent, `rate_limited`, and what the
 * run could not be begun or ended with
 */
export async function invokeFor(
  caller: Caller,
  on: InvokeDeps,
  asked: {
    name: string;
    args: unknown;
    channel?: "http" | "ws";
    agentId?: string | undefined;
    /** Names the call, so that it is made once. */
    id?: string | undefined;
    signal: AbortSignal;
  },
): Promise<Invoked> {
  const { deps } = on;
  checkServing(deps);
  const { name, args, signal, channel = "http" } = asked;
  const now = deps.clock.now();
  on.turnRate.take(caller.principal, now);
  const agentId = caller.checkAgent(asked.agentId ?? deps.agents().defaultId);
  return await invokeTool(deps.turns, {
    inbound: toInbound(caller, {
      id: asked.id ?? makeId("req", now),
      channel,
      text: "",
      images: [],
      label: labelsOf(caller, now).user,
      now,
    }),
    authority: caller.authority,
    ...(asked.id === undefined ? {} : { isKeyed: true }),
    agentId,
    attended: on.isAttended(),
    call: { name, args },
    signal,
  });
}

/** What the HTTP doors have, as a call by name needs it. */
export function toInvoke({ deps, rates, isAttended }: ApiDeps): InvokeDeps {
  return { deps, turnRate: rates.turns, isAttended };
}

const STATUS = {
  done: 200,
  failed: 422,
  denied: 403,
  unfit: 400,
} as const satisfies Record<Invoked["outcome"], number>;

const TYPE = {
  failed: "tool_error",
  denied: "denied",
  unfit: "invalid_request",
} as const;

function refuse(type: string, message: string, status: number): Response {
  return json({ ok: false, error: { type, message } }, status);
}

/** `POST /tools/invoke` */
export async function toolsInvoke(call: Call, on: ApiDeps): Promise<Response> {
  const { limits } = on;
  const { bodyBytesMax: bytesMax } = limits;
  const text = await readJsonText(call.request, { bytesMax, limits });
  const parsed = InvokeBody.safeParse(parseJson(text, limits));
  if (!parsed.success) {
    return refuse("invalid_request", z.prettifyError(parsed.error), 400);
  }
  const { tool: name, args = {}, action, agentId } = parsed.data;
  const caller = await Caller.of(call.caller);
  if (agentId !== undefined) caller.checkAgent(agentId);
  if (!toolsOf(on, caller, { agentId }).some((tool) => tool.name === name)) {
    const message = `There is no tool "${name}" for this credential`;
    return refuse("not_found", message, 404);
  }
  const answer = invokeFor(caller, toInvoke(on), {
    name,
    args: action === undefined ? args : { action, ...args },
    agentId,
    id: call.request.headers.get("idempotency-key")?.slice(0, 512) || undefined,
    signal: call.signal,
  }).then(toResponse);
  return await answerSoon(answer, {
    call,
    limits,
    isStream: false,
    dialect: "plain",
  });
}

function toResponse({ outcome, text, runId }: Invoked): Response {
  if (outcome === "done") {
    const result = { content: [{ type: "text", text }] };
    return json({ ok: true, result, runId });
  }
  const error = { type: TYPE[outcome], message: text };
  return json({ ok: false, error, runId }, STATUS[outcome]);
}

/** A failure's words, as a tool's result says them. */
export function failureText(error: unknown): string {
  const known: ReadonlySet<ErrorCode> = new Set(["internal"]);
  if (!(error instanceof AppError) || known.has(error.code)) {
    return "Failed: something unexpected happened";
  }
  const { message, hint } = error;
  return hint === undefined
    ? `Failed: ${message}`
    : `Failed: ${message}. ${hint}`;
}
