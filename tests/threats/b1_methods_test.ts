/**
 * B1 from outside, for every method there is: one scope short is refused,
 * whose a method is counts beside its scope, and no token sees another's.
 */
import assert from "node:assert/strict";
import { Scope } from "../../src/core/authority.ts";
import { type MethodContract, METHODS } from "../../src/core/methods.ts";
import {
  type AnyFrame,
  FakeClient,
  openGatewayHouse,
  principal,
  program,
} from "../fakes/gateway_house.ts";
import { openRealHouse } from "../fakes/real_house.ts";

const ROWS = Object.entries(METHODS) as [string, MethodContract][];

/** Every scope that neither is this one nor includes it. */
function without(scope: Scope): Scope[] {
  return Scope.options.filter((one) =>
    one !== scope && one !== "admin" &&
    !(one === "write" && ["read", "chat", "tools"].includes(scope))
  );
}

Deno.test("B1: for every method, a caller one scope short is refused", async (t) => {
  await using house = await openGatewayHouse({
    principals: Object.fromEntries(
      Scope.options.map((scope) => [
        `no-${scope}`,
        program(`tok_${scope}`, { scopes: without(scope) }),
      ]),
    ),
  });
  for (const scope of Scope.options) {
    using client = await house.socket({ token: `no-${scope}` });
    const hello = client.frames.find((f) => f.payload?.type === "hello-ok");
    for (const [method] of ROWS.filter(([, row]) => row.scope === scope)) {
      await t.step(`${method} without ${scope}`, async () => {
        assert.ok(!hello.payload.features.methods.includes(method));
        const { error } = await client.call(method, {});
        assert.equal(error?.code, "FORBIDDEN");
        assert.equal(error.details.code, "MISSING_SCOPE");
      });
    }
  }
});

Deno.test("B1: what is the owner's alone is nobody else's, whatever scopes they hold", async (t) => {
  await using house = await openGatewayHouse({
    principals: { admin: program("tok_admin", { scopes: ["admin"] }) },
  });
  using admin = await house.socket({ token: "admin" });
  for (const [method] of ROWS.filter(([, row]) => row.owner === true)) {
    await t.step(method, async () => {
      const { error } = await admin.call(method, {});
      assert.equal(error?.details.code, "OWNER_ONLY");
    });
  }
});

Deno.test("B1: a node's methods are a node's, and no other is", async (t) => {
  await using house = await openGatewayHouse({
    principals: {
      node: principal({
        principal: "node:x",
        kind: "node",
        credential: "node:x",
        // Even if its record were wrong.
        scopes: ["admin"],
        integrity: "untrusted",
      }),
    },
  });
  using node = await house.socket({ token: "node" });
  using owner = await house.socket({ token: "owner-token" });
  for (const [method, { scope }] of ROWS) {
    await t.step(method, async () => {
      const [who, code] = scope === "node"
        ? [owner, "NODE_ONLY"]
        : [node, undefined];
      const { error } = await who.call(method, {});
      assert.equal(error?.code, "FORBIDDEN");
      if (code !== undefined) assert.equal(error.details.code, code);
    });
  }
});

Deno.test("B1: no method shows a token another's sessions", async (t) => {
  await using house = await openRealHouse();
  const open = async (token: string) => {
    const client = new FakeClient(`${house.url.replace("http", "ws")}/ws`);
    await client.opened;
    assert.equal((await client.connect({ auth: { token } })).ok, true);
    return client;
  };
  using owner = await open(house.owner);
  using app = await open(await house.token());
  const secret = "the-owners-own-word";
  await owner.call("sessions.create", { key: secret, label: secret });
  const { payload } = await owner.call("chat.send", {
    sessionKey: secret,
    message: secret,
    idempotencyKey: "1",
  });
  await owner.event("chat", (p) => p.state === "final");
  const key = `agent:main:${secret}`;
  const params: Record<string, object> = {
    "agent.wait": { runId: payload.runId },
    "chat.abort": { sessionKey: key, runId: payload.runId },
    "sessions.preview": { keys: [key, secret] },
    "sessions.search": { query: secret },
    "sessions.create": { key: "own" },
    "tools.invoke": { name: "session_read", args: { key } },
    "tools.catalog": {},
    "agents.list": {},
    "models.list": {},
    "skills.status": {},
    "system-presence": {},
    health: {},
    status: {},
  };
  for (const [method, row] of ROWS) {
    // These begin something in a session of the caller's own.
    if (["chat.send", "agent", "sessions.purge"].includes(method)) continue;
    if (row.scope === "node" || method === "send") continue;
    await t.step(method, async () => {
      for (
        const own of [
          params[method] ?? {},
          { key },
          { sessionKey: key },
          { search: secret, includeLastMessage: true },
        ]
      ) {
        const answer: AnyFrame = await app.call(method, own);
        const text = JSON.stringify(answer.payload ?? {})
          // What it wrote itself comes back namespaced as its own.
          .replaceAll(/agent:main:client:token-[^"]*/g, "");
        const said = method === "sessions.preview"
          ? text.replaceAll(key, "").replaceAll(secret, "")
          : text;
        assert.ok(!said.includes(secret), `${method}: ${said}`);
      }
    });
  }
  assert.ok(
    !app.frames.some((f) =>
      f.type === "event" && JSON.stringify(f).includes(`"agent:main:${secret}`)
    ),
  );
  assert.ok(await house.house.store.sessions.find(key));
});
