/**
 * The handlers of the methods an operator looks into the gateway with.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import type { MethodInput, MethodOutput } from "../../core/methods.ts";
import type { AuditItem, OPS_METHODS } from "../../core/methods/ops.ts";
import type { GatewayDeps } from "../deps.ts";
import type { Handlers } from "../methods.ts";

/** The newest log lines, as the gateway is given them. */
export interface LogTail {
  tail(query: MethodInput<"logs.tail">): MethodOutput<"logs.tail">;
}

/** The audit log, as the gateway is given it. */
export interface AuditBook {
  /** Newest first. */
  list(options: { limit: number; before?: number }): Promise<AuditItem[]>;
  verify(): Promise<MethodOutput<"audit.verify">>;
}

const ROWS_DEFAULT = 100;
/** Rows looked through for one answer that names an event. */
const SCANNED_MAX = 5_000;
const STEP = 500;

function auditOf({ audit }: GatewayDeps): AuditBook {
  if (audit !== undefined) return audit;
  throw new AppError("unavailable", "There is no audit log here");
}

async function auditRows(
  book: AuditBook,
  { limit = ROWS_DEFAULT, before, event }: MethodInput<"audit.list">,
): Promise<MethodOutput<"audit.list">> {
  const rows: AuditItem[] = [];
  let next = before;
  for (let scanned = 0; scanned < SCANNED_MAX; scanned += STEP) {
    const step = await book.list({
      limit: event === undefined ? limit : STEP,
      ...(next === undefined ? {} : { before: next }),
    });
    for (const row of step) {
      next = row.seq;
      if (event === undefined || row.event.startsWith(event)) rows.push(row);
      if (rows.length === limit) break;
    }
    const isFull = rows.length === limit;
    const isOver = step.length === 0 || next === 1;
    if (isOver) return { rows };
    if (isFull || event === undefined) break;
  }
  return next === undefined ? { rows } : { rows, next };
}

/** The rows for the table of methods. */
export function opsHandlers(
  deps: GatewayDeps,
): Pick<Handlers, keyof typeof OPS_METHODS> {
  return {
    "logs.tail": (params) => {
      if (deps.logs !== undefined) return deps.logs.tail(params);
      throw new AppError("unavailable", "No log lines are kept here");
    },
    "audit.list": (params) => auditRows(auditOf(deps), params),
    "audit.verify": () => auditOf(deps).verify(),
  };
}
