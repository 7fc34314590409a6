/**
 * The methods and events that existing clients of the field know, as data:
 * every one is there, with the scope the field gives it or a narrower one.
 */
import assert from "node:assert/strict";
import { EVENT_PAYLOADS } from "./event_payloads.ts";
import { type MethodContract, METHODS } from "../../src/core/methods.ts";
import { EVENTS } from "../../src/core/protocol.ts";

const NAMES: Readonly<Record<string, string>> = {
  read:
    "health status system-presence logs.tail models.list agents.list chat.history agent.identity.get sessions.list sessions.preview sessions.archives sessions.export channels.status cron.status cron.list cron.runs last-heartbeat node.list node.describe usage.status usage.cost usage.budget tools.catalog skills.status plugins.list",
  chat:
    "chat.send chat.abort agent agent.wait sessions.patch sessions.reset sessions.compact sessions.create sessions.fork sessions.archive sessions.restore",
  write:
    "send sessions.delete channels.logout cron.add cron.update cron.remove cron.run wake set-heartbeats node.rename node.invoke",
  tools: "tools.invoke",
  admin:
    "sessions.purge config.get config.set config.apply config.patch config.schema config.validate config.revisions config.undo plugins.install audit.list audit.verify",
  pairing:
    "device.pair.list device.pair.approve device.pair.reject device.token.rotate device.token.revoke node.pair.request node.pair.list node.pair.approve node.pair.reject node.pair.verify",
  approvals:
    "exec.approval.request exec.approval.resolve exec.approvals.get exec.approvals.set approval.list approval.resolve",
  node: "node.invoke.result node.event",
};

/**
 * Named by the protocol's table and not there: a grant is a line of the
 * configuration, and remembered answers go by `policy.list` and `policy.revoke`.
 */
const ELSEWHERE =
  "approval.grants approval.revoke plugins.grant plugins.enable plugins.disable";

const EVENT_NAMES =
  "connect.challenge tick presence health heartbeat shutdown chat agent cron device.pair.requested device.pair.resolved node.pair.requested node.pair.resolved node.invoke.request exec.approval.requested exec.approval.resolved sessions.changed config.changed outbox posture usage.budget";

Deno.test("every method that clients of the field call is there", async (t) => {
  for (const [scope, names] of Object.entries(NAMES)) {
    for (const name of names.split(" ")) {
      await t.step(name, () => {
        const row = (METHODS as Record<string, MethodContract>)[name];
        assert.ok(row !== undefined, `${name} is missing`);
        assert.equal(row.scope, scope);
      });
    }
  }
  for (const name of ELSEWHERE.split(" ")) {
    assert.ok(!Object.hasOwn(METHODS, name), `${name} is there now`);
  }
});

Deno.test("every event that clients of the field hear is there, and has a shape", () => {
  for (const name of EVENT_NAMES.split(" ")) {
    assert.ok(Object.hasOwn(EVENTS, name), name);
  }
  assert.deepEqual(
    Object.keys(EVENT_PAYLOADS).sort(),
    Object.keys(EVENTS).sort(),
  );
});
