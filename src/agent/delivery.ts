/**
 * The answer of a turn that came from a chat network, on its way to the outbox:
 * rows that go into the same unit as the turn's end.
 *
 * Never: an answer that is stored and not on its way, or on its way and not
 * stored.
 *
 * @module
 */
import type { Label } from "../core/label.ts";
import type { Row } from "../store/journal.ts";
import type { Run } from "../store/runs.ts";
import type { AgentDeps } from "./deps.ts";

/** Answers that mean that there is nothing to say. */
const SILENT: ReadonlySet<string> = new Set(["NO_REPLY", "HEARTBEAT_OK"]);

/** What a sender is told of a turn that ended without an answer. */
export function noticeOf(
  { message }: { message?: string | undefined },
): string {
  // Hints are for who runs this.
  return message ?? "Something went wrong";
}

/** The rows that carry a run's answer to where it was asked, if it is carried. */
export function deliveryRows(
  { store }: Pick<AgentDeps, "store">,
  { id: runId, deliver, authority }: Run,
  { text, label }: { text: string; label: Label },
): Row[] {
  if (deliver === undefined || text.trim() === "" || SILENT.has(text.trim())) {
    return [];
  }
  return store.outbox.queue({
    idempotencyKey: `reply:${runId}`,
    destination: deliver,
    parts: [{ kind: "text", text, label }],
    by: authority.principal,
    runId,
  }).rows;
}
