/** B1: what needs more at one door needs it at every other. */
import assert from "node:assert/strict";
import { tokenSocket } from "../fakes/device.ts";
import type { FakeClient } from "../fakes/gateway_house.ts";
import { grantOf, installIn, probe } from "../fakes/plugins.ts";
import { openRealHouse } from "../fakes/real_house.ts";
import { say } from "../fakes/vendor.ts";

const MODEL = "anthropic:claude-test";

/** Says something in a session and waits for the answer. */
async function reply(
  socket: FakeClient,
  message: string,
  key: string,
): Promise<string> {
  const { payload } = await socket.call("chat.send", {
    sessionKey: key,
    message,
    idempotencyKey: crypto.randomUUID(),
  });
  const { runId } = payload;
  const done = await socket.call("agent.wait", { runId, timeoutMs: 5_000 });
  return done.payload.reply || done.payload.error;
}

Deno.test("B1: who may not choose the model does not choose it for a session either", async (t) => {
  await using house = await openRealHouse({ script: () => say("done") });
  using chat = await tokenSocket(
    house,
    await house.token({ scopes: ["read", "chat"] }),
  );
  await t.step("when it is made", async () => {
    const { error } = await chat.call("sessions.create", {
      key: "a",
      model: MODEL,
    });
    assert.equal(error?.code, "FORBIDDEN");
    const { ok } = await chat.call("sessions.create", { key: "a" });
    assert.equal(ok, true);
  });
  await t.step("later", async () => {
    const { error } = await chat.call("sessions.patch", {
      key: "a",
      model: MODEL,
    });
    assert.equal(error?.code, "FORBIDDEN");
    const { ok } = await chat.call("sessions.patch", {
      key: "a",
      model: null,
      label: "mine",
    });
    assert.equal(ok, true);
  });
  await t.step("by a command", async () => {
    assert.match(await reply(chat, `/model ${MODEL}`, "a"), /"write"/);
  });
  await t.step("by HTTP", async () => {
    const answer = await fetch(`${house.url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${await house.token({ scopes: ["chat"] })}`,
        "content-type": "application/json",
        "x-carapace-session-key": "b",
      },
      body: JSON.stringify({
        model: "carapace",
        messages: [{ role: "user", content: `/model ${MODEL}` }],
      }),
    });
    assert.match(await answer.text(), /write/);
  });
  assert.equal(await reply(chat, "hi", "a"), "done");
  assert.equal(house.anthropic.requests.length, 0);
  await t.step("and who may, does", async () => {
    using wide = await tokenSocket(house, await house.token());
    assert.match(await reply(wide, `/model ${MODEL}`, "c"), /answers from/);
    assert.equal(await reply(wide, "hi", "c"), "done");
    assert.equal(house.anthropic.requests.length, 1);
  });
});

Deno.test("B1: a program with every scope ends nothing of the owner's", async (t) => {
  await using house = await openRealHouse({ script: () => say("done") });
  using app = await tokenSocket(
    house,
    await house.token({ scopes: ["admin"] }),
  );
  using owner = await tokenSocket(house, house.owner);
  assert.equal(await reply(owner, "hi", "main"), "done");
  await t.step("conversations", async () => {
    const purge = { principal: "owner" };
    const { error } = await app.call("sessions.purge", purge);
    assert.equal(error?.code, "FORBIDDEN");
    const { payload } = await owner.call("sessions.list", {});
    assert.equal(payload.count, 1);
    assert.equal((await owner.call("sessions.purge", purge)).ok, true);
  });
  await t.step("credentials", async () => {
    const { payload } = await owner.call("token.list", {});
    const idOf = (name: string) =>
      payload.tokens.find((one: { name: string }) => one.name === name).id;
    const { error } = await app.call("token.revoke", { id: idOf("owner") });
    assert.equal(error?.code, "FORBIDDEN");
    // Its own, and one that may do less, it may.
    const { payload: child } = await app.call("token.create", {
      name: "child",
      scopes: ["chat"],
    });
    const { ok } = await app.call("token.revoke", { id: child.id });
    assert.equal(ok, true);
    const { payload: log } = await owner.call("audit.list", { limit: 50 });
    const row = log.rows.find((one: { event: string }) =>
      one.event === "token.revoke"
    );
    assert.match(row.fields.by, /^tok_/, "the log says who");
  });
});

Deno.test("B1: a plugin's tool is not run past its caller's own tools", async () => {
  await using house = await openRealHouse();
  using owner = await tokenSocket(house, house.owner);
  const { manifest, bytes } = await probe();
  await installIn(house, owner, { manifest, bytes });
  const plugins = { granted: { probe: await grantOf(manifest) } };
  house.house.adopt(house.settings({ plugins }));
  await owner.event("plugins.changed", ({ state }) => state === "ready");
  const call = { id: "probe", tool: "echo", args: { text: "hi" } };
  assert.equal((await owner.call("plugins.call", call)).ok, true);
  const narrow = { scopes: ["admin"], tools: ["current_time"] };
  const others = [
    await house.token({ scopes: ["admin"] }),
    await house.token({ ...narrow, kind: "owner", integrity: "owner" }),
  ];
  for (const token of others) {
    using socket = await tokenSocket(house, token);
    for (const tool of ["echo", "probe_echo"]) {
      const { error } = await socket.call("plugins.call", { ...call, tool });
      assert.equal(error?.code, "FORBIDDEN");
    }
  }
  using app = await tokenSocket(house, others[0] ?? "");
  for (const method of ["plugins.remove", "plugins.restart", "plugins.logs"]) {
    const { error } = await app.call(method, { id: "probe" });
    assert.equal(error?.code, "FORBIDDEN", method);
  }
});
