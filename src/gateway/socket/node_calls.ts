/**
 * What connected nodes are asked, until they answer, leave or are too late.
 *
 * Never: a command that was not approved is sent; an answer counts that came
 * over another socket than the question went to; a question goes out before
 * its audit row is stored.
 *
 * @module
 */
import { canonicalJson } from "../../core/canonical.ts";
import { AppError } from "../../core/errors.ts";
import { makeId, sha256Hex } from "../../core/ids.ts";
import type { MethodInput, MethodOutput } from "../../core/methods.ts";
import { type NodeInvokeRequest, NODES } from "../../core/methods/node.ts";
import type { Clock } from "../../core/time.ts";

/** A node's socket, as much of it as a call needs. */
export interface NodeLink {
  readonly id: string;
  readonly node: { id: string; commands: readonly string[] } | undefined;
  sendEvent(event: "node.invoke.request", payload: NodeInvokeRequest): void;
}

/** What is asked of a node, and by whom. */
export interface NodeAsk {
  nodeId: string;
  command: string;
  params?: unknown;
  timeoutMs?: number | undefined;
  idempotencyKey: string;
  /** The principal, for the audit log; keys are each principal's own. */
  by: string;
  signal: AbortSignal;
}

export type NodeAnswer = MethodOutput<"node.invoke">;

/** What the audit log is told; resolves when it is stored. */
export type NodeAudit = (
  event: "node.invoke" | "node.invoke_end",
  fields: Record<string, string | boolean>,
) => Promise<void>;

interface Pending {
  link: NodeLink;
  settle(result: MethodInput<"node.invoke.result">): void;
  fail(error: AppError): void;
}

interface Kept {
  question: string;
  answer: Promise<NodeAnswer>;
  at: number;
  /** Of the answer as text; nothing while there is none. */
  chars: number;
}

/** The calls of one gateway. */
export class NodeCalls {
  readonly #on: {
    find(nodeId: string): NodeLink | undefined;
    audit: NodeAudit;
    clock: Clock;
  };
  readonly #pending = new Map<string, Pending>();
  readonly #kept = new Map<string, Kept>();
  #keptChars = 0;

  constructor(on: {
    find(nodeId: string): NodeLink | undefined;
    audit: NodeAudit;
    clock: Clock;
  }) {
    this.#on = on;
  }

  /**
   * Asks a node and waits for its answer.
   *
   * @throws {AppError} `unavailable` (not connected, left meanwhile), `timeout`,
   * `forbidden` (a command that was not approved), `rate_limited`,
   * `conflict` (the key belongs to another question), `upstream` (its failure)
   */
  async invoke(ask: NodeAsk): Promise<NodeAnswer> {
    const { nodeId, command, params, idempotencyKey, by } = ask;
    const now = this.#on.clock.now();
    this.#sweep(now);
    const key = JSON.stringify([by, idempotencyKey]);
    const question = canonicalJson([nodeId, command, params ?? null]);
    const before = this.#kept.get(key);
    if (before !== undefined) {
      if (before.question === question) return await before.answer;
      throw new AppError(
        "conflict",
        "Cannot ask the node: this idempotency key was used for something else",
      );
    }
    const answer = this.#ask(ask, this.#check(ask));
    this.#sweep(now, 1);
    const kept: Kept = { question, answer, at: now, chars: question.length };
    this.#kept.set(key, kept);
    this.#keptChars += kept.chars;
    const given = await answer;
    // It may have been forgotten while it was waited for.
    if (this.#kept.get(key) === kept) {
      const chars = given.payloadJSON?.length ?? 0;
      kept.chars += chars;
      this.#keptChars += chars;
      this.#sweep(now);
    }
    return given;
  }

  /** Forgets answers that are old, too many or too long together; oldest first. */
  #sweep(now: number, coming = 0): void {
    const { answerMs, answersMax, answersCharsMax } = NODES;
    for (const [key, { at, chars }] of this.#kept) {
      const isFull = this.#kept.size + coming > answersMax ||
        this.#keptChars > answersCharsMax;
      if (!isFull && now - at <= answerMs) break;
      this.#kept.delete(key);
      this.#keptChars -= chars;
    }
  }

  /** @throws {AppError} when the node may not be asked this, now */
  #check({ nodeId, command }: NodeAsk): NodeLink {
    const link = this.#on.find(nodeId);
    const name = nodeId.slice(0, 12);
    if (link?.node === undefined) {
      throw new AppError(
        "unavailable",
        `Cannot ask node "${name}": it is not connected`,
        { hint: "node.list says which are" },
      );
    }
    if (!link.node.commands.includes(command)) {
      throw new AppError(
        "forbidden",
        `Cannot ask node "${name}" for "${command}": it was not approved for that`,
        {
          details: { code: "COMMAND_NOT_APPROVED" },
          hint: "node.describe lists its commands; pair it anew for others",
        },
      );
    }
    let open = 0;
    for (const { link } of this.#pending.values()) {
      if (link.node?.id === nodeId) open++;
    }
    if (open >= NODES.pendingMax) {
      throw new AppError(
        "rate_limited",
        `Cannot ask node "${name}": ${open} questions wait for its answer`,
        { retryAfterMs: 1_000 },
      );
    }
    return link;
  }

  async #ask(ask: NodeAsk, link: NodeLink): Promise<NodeAnswer> {
    const { nodeId, command, params, by, idempotencyKey, signal } = ask;
    const { timeoutMs = NODES.timeoutMs } = ask;
    const { clock, audit } = this.#on;
    const paramsJSON = params === undefined ? null : JSON.stringify(params);
    if ((paramsJSON?.length ?? 0) > NODES.paramsCharsMax) {
      throw new AppError("too_large", "Cannot ask the node: too much to send");
    }
    const id = makeId("inv", clock.now());
    const { promise, resolve, reject } = Promise.withResolvers<
      MethodInput<"node.invoke.result">
    >();
    promise.catch(() => {}); // awaited below, after the audit row
    const over = new AbortController();
    const leave = () =>
      reject(new AppError("cancelled", "The caller left meanwhile"));
    // Known before it is sent, so that a node that leaves meanwhile is noticed.
    this.#pending.set(id, { link, settle: resolve, fail: reject });
    signal.addEventListener("abort", leave, { once: true });
    let isOk = false;
    try {
      const params = (await sha256Hex(paramsJSON ?? "")).slice(0, 32);
      await audit("node.invoke", { id, nodeId, command, by, params });
      signal.throwIfAborted();
      if (this.#on.find(nodeId) !== link) throw gone(nodeId);
      link.sendEvent("node.invoke.request", {
        id,
        nodeId,
        command,
        paramsJSON,
        timeoutMs,
        idempotencyKey,
      });
      void clock.sleep(timeoutMs, over.signal).then(
        () => reject(late(nodeId, timeoutMs)),
        () => {},
      );
      const answer = toAnswer(await promise, { nodeId, command });
      isOk = true;
      return answer;
    } finally {
      over.abort();
      signal.removeEventListener("abort", leave);
      this.#pending.delete(id);
      await audit("node.invoke_end", { id, nodeId, ok: isOk });
    }
  }

  /** Takes an answer; whether somebody waited for it. */
  take(
    result: MethodInput<"node.invoke.result">,
    from: { connId: string; nodeId: string },
  ): boolean {
    const pending = this.#pending.get(result.id);
    const isIts = pending?.link.id === from.connId &&
      pending.link.node?.id === from.nodeId && result.nodeId === from.nodeId;
    if (pending === undefined || !isIts) return false;
    this.#pending.delete(result.id);
    pending.settle(result);
    return true;
  }

  /** A socket closed: what it was asked has no answer any more. */
  left(connId: string): void {
    for (const [id, { link, fail }] of this.#pending) {
      if (link.id !== connId) continue;
      this.#pending.delete(id);
      fail(gone(link.node?.id ?? ""));
    }
  }
}

function gone(nodeId: string): AppError {
  return new AppError(
    "unavailable",
    `Node "${nodeId.slice(0, 12)}" disconnected before it answered`,
    { hint: "The command may or may not have been carried out" },
  );
}

function late(nodeId: string, timeoutMs: number): AppError {
  return new AppError(
    "timeout",
    `Node "${nodeId.slice(0, 12)}" did not answer within ${timeoutMs} ms`,
    { hint: "The command may or may not have been carried out" },
  );
}

/** @throws {AppError} `upstream`, `too_large` */
function toAnswer(
  result: MethodInput<"node.invoke.result">,
  { nodeId, command }: { nodeId: string; command: string },
): NodeAnswer {
  const { ok, payload, payloadJSON, error } = result;
  if (!ok) {
    throw new AppError(
      "upstream",
      `The node says that "${command}" failed: ${
        error?.message?.slice(0, 500) ?? "no reason given"
      }`,
      { details: { nodeCode: error?.code ?? "UNKNOWN" } },
    );
  }
  const text = payloadJSON ??
    (payload === undefined ? null : JSON.stringify(payload));
  if ((text?.length ?? 0) > NODES.resultCharsMax) {
    throw new AppError(
      "too_large",
      `The node's answer is longer than ${NODES.resultCharsMax} characters`,
    );
  }
  return {
    ok: true,
    nodeId,
    command,
    payload: payload === undefined ? parsed(text) : payload,
    payloadJSON: text,
  };
}

function parsed(text: string | null): unknown {
  if (text === null) return null;
  try {
    return JSON.parse(text);
  } catch {
    return text; // the node's words, whatever they are
  }
}
