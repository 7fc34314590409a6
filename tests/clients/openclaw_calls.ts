/**
 * The calls of `@openclaw/gateway-client` that are tried against this gateway,
 * and how each answer stands to the schema its package publishes. Data for the
 * test and for the document made of it.
 *
 * @module
 */

/**
 * `same`: it fits the schema. `more`: it fits, with fields of our own beside.
 * `other`: fields that the schema wants are missing or differ. `none`: no
 * schema is published for it, and the client takes what it gets. `refused`: on
 * purpose.
 */
export type Fit = "same" | "more" | "other" | "none" | "refused";

/** One call. */
export interface Call {
  method: string;
  params: Record<string, unknown>;
  fit: Fit;
  /** The published schema's name, without `Schema`. */
  schema?: string;
  note?: string;
}

function call(
  method: string,
  fit: Fit,
  more: Partial<Omit<Call, "method" | "fit">> = {},
): Call {
  return { method, fit, params: {}, ...more };
}

const KEY = "agent:main:probe";

/** In the order they are tried: what a later one needs, an earlier one made. */
export const CALLS: readonly Call[] = [
  call("health", "none"),
  call("status", "none"),
  call("system-presence", "none"),
  call("gateway.identity.get", "refused", { note: "not there" }),
  call("models.list", "more", { schema: "ModelsListResult" }),
  call("agents.list", "same", { schema: "AgentsListResult" }),
  call("agent.identity.get", "more", { schema: "AgentIdentityResult" }),
  call("sessions.create", "same", {
    params: { key: KEY },
    schema: "SessionsCreateResult",
  }),
  call("sessions.list", "none"),
  call("sessions.patch", "none", { params: { key: KEY, label: "probe" } }),
  call("sessions.preview", "none", { params: { keys: [KEY] } }),
  call("chat.send", "none", {
    params: {
      sessionKey: KEY,
      message: "hello",
      idempotencyKey: "probe-1",
    },
  }),
  call("chat.history", "none", { params: { sessionKey: KEY } }),
  call("chat.abort", "none", { params: { sessionKey: KEY } }),
  call("agent", "none", {
    params: { message: "hello", idempotencyKey: "probe-2" },
  }),
  call("sessions.compact", "none", { params: { key: KEY } }),
  call("sessions.reset", "none", { params: { key: KEY } }),
  call("sessions.delete", "same", {
    params: { key: KEY },
    schema: "SessionsDeleteResult",
  }),
  call("tools.catalog", "more", {
    schema: "ToolsCatalogResult",
    note: "with each tool's effect, scope and schema",
  }),
  call("tools.invoke", "more", {
    params: { name: "math_eval", args: { expression: "6*7" } },
    schema: "ToolsInvokeResult",
  }),
  call("skills.status", "none"),
  call("plugins.list", "other", {
    schema: "PluginsListResult",
    note: "our plugins are others: grants instead of a marketplace",
  }),
  call("channels.status", "other", {
    schema: "ChannelsStatusResult",
    note: "a list; the published answer is made of tables by channel",
  }),
  call("usage.status", "none"),
  call("usage.cost", "none"),
  call("logs.tail", "same", { schema: "LogsTailResult" }),
  call("config.get", "none"),
  call("config.schema", "same", { schema: "ConfigSchemaResponse" }),
  call("cron.status", "none"),
  call("cron.list", "none"),
  call("cron.add", "none", {
    params: {
      name: "probe",
      schedule: { kind: "every", everyMs: 3_600_000 },
      sessionTarget: "isolated",
      payload: { kind: "agentTurn", message: "hello" },
    },
  }),
  call("last-heartbeat", "none"),
  call("wake", "none", { params: { mode: "next-heartbeat", text: "hello" } }),
  call("exec.approvals.get", "same", { schema: "ExecApprovalsSnapshot" }),
  call("exec.approval.request", "refused", {
    note: "only this gateway's own decisions ask",
  }),
  call("device.pair.list", "none"),
  call("node.pair.list", "none"),
  call("node.list", "none"),
  call("audit.list", "other", {
    schema: "AuditListResult",
    note: "rows of a hash chain; `audit.verify` checks it",
  }),
];
