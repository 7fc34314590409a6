/**
 * Whose a method is to call: the one place where a row's scope is checked.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import {
  type MethodContract,
  type MethodName,
  METHODS,
} from "../core/methods.ts";
import type { Caller } from "./keys.ts";

/** Whether a method is this caller's to call: its scope, and whose it is. */
export function mayCall(method: MethodName, caller: Caller): boolean {
  const { scope, owner }: MethodContract = METHODS[method];
  const isNode = caller.principal.kind === "node";
  if (scope === "node" || isNode) return scope === "node" && isNode;
  return caller.authority.scopes.has(scope) &&
    (owner !== true || caller.isOwner);
}

/** @throws {AppError} `forbidden`, naming what is missing */
export function checkCall(method: MethodName, caller: Caller): void {
  if (mayCall(method, caller)) return;
  const { scope } = METHODS[method];
  if (scope === "node") {
    throw new AppError(
      "forbidden",
      `Cannot call "${method}": it is for a node's own socket`,
      { details: { code: "NODE_ONLY" } },
    );
  }
  if (caller.authority.scopes.has(scope)) {
    throw new AppError(
      "forbidden",
      `Cannot call "${method}": it is the owner's`,
      { details: { code: "OWNER_ONLY" } },
    );
  }
  throw new AppError(
    "forbidden",
    `Cannot call "${method}": it needs the scope "${scope}"`,
    {
      details: { code: "MISSING_SCOPE", scope: `operator.${scope}` },
      hint: "Connect with a token that has it",
    },
  );
}
