/**
 * The handlers of the methods for approvals and policy.
 *
 * @module
 */
import type { GuardDesk } from "../../agent/guard_desk.ts";
import { AppError } from "../../core/errors.ts";
import type { Handlers, MethodCall } from "../methods.ts";

type GuardMethod =
  | "approval.list"
  | "approval.resolve"
  | "exec.approval.resolve"
  | "exec.approval.request"
  | "exec.approvals.get"
  | "exec.approvals.set"
  | "policy.list"
  | "policy.revoke"
  | "policy.explain"
  | "policy.replay";

/** What the gateway is given of the guard. */
export type GuardActs = Pick<
  GuardDesk,
  | "pending"
  | "answer"
  | "lines"
  | "revoke"
  | "approvalsFile"
  | "keepOnly"
  | "explain"
  | "replay"
>;

/** The rows for the table of methods. */
export function guardHandlers(
  guard: GuardActs | undefined,
): Pick<Handlers, GuardMethod> {
  const acts = (): GuardActs => {
    if (guard !== undefined) return guard;
    throw new AppError("unavailable", "There is no guard to ask here");
  };
  const resolve = async (
    { id, decision, hash }: Parameters<Handlers["approval.resolve"]>[0],
    { caller }: MethodCall,
  ) => {
    await acts().answer(caller.authority, { id, decision, hash });
    return { ok: true as const, id };
  };
  return {
    "approval.list": async (_, { caller }) => ({
      approvals: await acts().pending(caller.authority),
    }),
    "approval.resolve": resolve,
    "exec.approval.resolve": resolve,
    "exec.approval.request": () => {
      throw new AppError(
        "forbidden",
        "Cannot ask the owner for a client: only a decision of this gateway asks",
      );
    },
    "exec.approvals.get": async (_, { caller }) =>
      await acts().approvalsFile(caller.authority),
    "exec.approvals.set": async ({ file, baseHash }, { caller }) => {
      const ids = Object.values(file.agents ?? {})
        .flatMap(({ allowlist = [] }) => allowlist.map(({ id }) => id ?? ""));
      return await acts().keepOnly(caller.authority, {
        ids: new Set(ids),
        baseHash,
      });
    },
    "policy.list": async (_, { caller }) => ({
      lines: await acts().lines(caller.authority),
    }),
    "policy.revoke": async ({ id }, { caller }) => {
      await acts().revoke(caller.authority, id);
      return { ok: true, id };
    },
    "policy.explain": (params, { caller }) =>
      acts().explain(caller.authority, params),
    "policy.replay": (params, { caller }) =>
      acts().replay(caller.authority, params),
  };
}
