/**
 * What was granted and taken back, for the audit log.
 *
 * Never: a secret's value.
 *
 * @module
 */
import type { Audit } from "../store/audit.ts";
import type { Journal } from "../store/journal.ts";
import type { PluginGrant, PluginsConfig } from "./config.ts";

/** Writes down every grant that changed. */
export async function auditGrants(
  { before, after }: { before: PluginsConfig; after: PluginsConfig },
  { journal, audit }: {
    journal: Pick<Journal, "commit">;
    audit: Pick<Audit, "row">;
  },
): Promise<void> {
  const ids = new Set([
    ...Object.keys(before.granted),
    ...Object.keys(after.granted),
  ]);
  for (const id of ids) {
    const grant = after.granted[id];
    // Secrets print alike: their values never come here.
    if (JSON.stringify(before.granted[id]) === JSON.stringify(grant)) {
      continue;
    }
    const fields = grant === undefined ? { id } : auditFields(id, grant);
    await journal.commit([
      audit.row({
        event: grant === undefined ? "plugin.revoked" : "plugin.granted",
        fields,
      }),
    ]);
  }
}

function auditFields(
  id: string,
  grant: PluginGrant,
): Record<string, string | number | boolean | string[]> {
  const { enabled, http, secrets, kv, log, message, schedule, ...rest } = grant;
  const places = http.map(({ host, port, methods }) =>
    `${methods.join(",")} ${host}:${port}`.slice(0, 256)
  );
  return {
    id,
    enabled,
    http: places,
    secrets: Object.keys(secrets).slice(0, 64),
    kv: kv?.bytes ?? 0,
    log,
    message: message === undefined ? "" : JSON.stringify(message.to),
    schedule: schedule?.maxPerDay ?? 0,
    conversation: rest.conversation,
    wasi: rest.wasi,
    hooks: rest.hooks,
    webhooks: rest.webhooks,
    channel: rest.channel,
    policy: rest.policy,
    senders: rest.senders.length,
    limits: Object.entries(rest.limits).map(([name, value]) =>
      `${name} ${value}`
    ),
  };
}
