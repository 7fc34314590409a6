import assert from "node:assert/strict";
import { openGatewayHouse } from "../../../tests/fakes/gateway_house.ts";
import {
  collect,
  fakeHouse,
  ownerAuthority,
  request,
} from "../../../tests/fakes/house.ts";
import { says } from "../../../tests/fakes/models.ts";
import { label } from "../../core/label.ts";

/** A gateway over a real desk, with the owner's and a program's session. */
async function open() {
  const house = await fakeHouse({ forever: says("ok") });
  await house.say("the plumber is mine");
  const gateway = await openGatewayHouse({
    deps: { operations: house.desk.operations, store: house.store },
  });
  const clients = {
    owner: await gateway.socket({ token: "owner-token" }),
    app: await gateway.socket({ token: "app-token" }),
  };
  return {
    house,
    ...clients,
    [Symbol.asyncDispose]: async () => {
      clients.owner[Symbol.dispose]();
      clients.app[Symbol.dispose]();
      await gateway[Symbol.asyncDispose]();
      await house[Symbol.asyncDispose]();
    },
  };
}

Deno.test("the session methods act on the caller's own keys, whatever it writes", async (t) => {
  await using world = await open();
  const { owner, app, house } = world;
  await t.step("another's session cannot be found", async () => {
    for (
      const [method, params] of [
        ["sessions.context", {}],
        ["sessions.export", {}],
        ["sessions.delete", {}],
        ["sessions.reset", {}],
        ["sessions.fork", { toKey: "mine" }],
      ] as const
    ) {
      for (const key of ["main", "agent:main:main"]) {
        const { ok, error } = await app.call(method, { key, ...params });
        assert.equal(ok, false, method);
        assert.equal(error.code, "NOT_FOUND", method);
      }
    }
    const { error } = await app.call("sessions.purge", { principal: "owner" });
    assert.equal(error.code, "FORBIDDEN");
    assert.ok(await house.store.sessions.find("agent:main:main"));
  });
  await t.step("its own can", async () => {
    const made = await app.call("sessions.create", { key: "work", label: "W" });
    assert.equal(made.ok, true, JSON.stringify(made));
    const { key } = made.payload;
    assert.match(key, /^agent:main:client:token-tok_app:work$/);
    const said = request("plumber, says the program", {
      sessionKey: key,
      authority: ownerAuthority({
        principal: "token:tok_app",
        kind: "program",
        scopes: ["write"],
      }),
    });
    said.inbound.label = label("untrusted", ["token:tok_app"]);
    await collect((await house.desk.start(said)).events);
    const found = await app.call("sessions.search", { query: "plumber" });
    assert.deepEqual(
      found.payload.results.map((r: { key: string }) => r.key),
      [key],
    );
    const renamed = await app.call("sessions.patch", {
      key: "work",
      queueMode: "collect",
    });
    assert.equal(renamed.payload.entry.queueMode, "collect");
  });
  await t.step("the owner sees all, also by what was said", async () => {
    const listed = await owner.call("sessions.list", { search: "plumber" });
    assert.equal(listed.payload.sessions.length, 2);
    const { payload } = await owner.call("sessions.preview", {
      keys: ["main", "nowhere"],
    });
    assert.deepEqual(
      payload.previews.map((p: { status: string }) => p.status),
      ["ok", "missing"],
    );
    const away = await owner.call("sessions.archive", { key: "main" });
    const archives = await owner.call("sessions.archives", {});
    assert.deepEqual(
      archives.payload.sessions.map((s: { key: string }) => s.key),
      [away.payload.key],
    );
  });
});
