/**
 * `session_spawn`: gives a task to a run of its own, with a conversation of its
 * own and no more authority than its parent's.
 *
 * Never: a child of a child; a child that can ask the owner for what its parent
 * was refused; an answer without the label of all its run has read.
 *
 * @module
 */
import { z } from "zod";
import type { Authority } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import type { Label } from "../core/label.ts";
import { type Tool, tool } from "../core/tool.ts";

/** A task for a child. */
export interface ChildTask {
  task: string;
  agentId: string;
  sessionKey: string;
  /** Parent's ∩ requested. */
  authority: Authority;
  /** Whose words the task is. */
  label: Label;
  parentRunId: string;
  signal: AbortSignal;
}

/** How a child ended. */
export interface ChildEnd {
  reply: string;
  /** `done`, or why not. */
  reason: string;
  /** The join of everything it has read. */
  label: Label;
}

/** Runs a child to its end; given by the roof. */
export type RunChild = (task: ChildTask) => Promise<ChildEnd>;

const CHILD = ":subagent:";
const LIMIT_MS = 600_000;

/** `session_spawn`. */
export function sessionSpawn(run: RunChild): Tool {
  return tool({
    name: "session_spawn",
    about:
      "Give a task to a helper that works in a conversation of its own and answers",
    input: z.strictObject({
      task: z.string().min(1).max(32_000),
      tools: z.array(z.string().max(64)).max(64).optional().describe(
        "The tools it may use; all of yours without this",
      ),
    }),
    scope: "write",
    effect: "none",
    reach: "owner",
    result: { integrity: "inherit", secrecy: "inherit" },
    destinations: [],
    limitMs: LIMIT_MS,
    waits: true,
    run: async ({ task, tools }, context) => {
      const { agentId, sessionKey, authority, label, runId, signal } = context;
      if (sessionKey.includes(CHILD)) {
        throw new AppError("forbidden", "A helper has no helpers of its own");
      }
      // What the parent may not use, its child may not either.
      const own = context.tools?.().map(({ name }) => name) ?? [];
      const wanted = tools === undefined
        ? own
        : own.filter((name) => tools.includes(name));
      const end = await run({
        task,
        agentId,
        sessionKey: `agent:${agentId}${CHILD}${crypto.randomUUID()}`,
        authority: authority.narrow({
          tools: wanted.filter((name) => name !== "session_spawn"),
          integrity: label.integrity,
        }),
        label,
        parentRunId: runId,
        signal,
      });
      const isDone = end.reason === "done";
      return {
        text: isDone
          ? end.reply
          : `It ended: ${end.reason}. ${end.reply}`.trim(),
        label: end.label,
        isError: !isDone,
      };
    },
  });
}
