/**
 * A8, A1, A3, A6: an address of the tailnet says who is calling only where
 * tailscaled says so, only where nothing else is shown, and only as far as the
 * owner's line goes.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  connectDevice,
  knock,
  makeDevice,
  pairDevice,
  tokenSocket,
} from "../fakes/device.ts";
import {
  GUEST,
  LAPTOP,
  openTailnetHouse,
  OWNER,
  PHONE,
  STRANGER,
  type TailnetHouse,
} from "../fakes/tailnet.ts";
import { until } from "../process/processes.ts";

/** A model that begins to speak and never ends. */
const ENDLESS = {
  script: () => ({
    text: ["one", "two"],
    after: "two",
    then: "hang" as const,
  }),
};

async function status(
  { get }: TailnetHouse,
  path = "/v1/models",
  headers: Record<string, string> = {},
): Promise<number> {
  const answer = await get(path, headers);
  await answer.body?.cancel();
  return answer.status;
}

Deno.test("a login of the tailnet is let in over HTTP, within its line", async () => {
  await using at = await openTailnetHouse("tailnet");
  assert.equal(await status(at), 200);
  at.from.hostname = LAPTOP;
  assert.equal(await status(at), 200);
  // A guest has no `tools`.
  const call = await fetch(`${at.house.url}/tools/invoke`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ tool: "time_now", args: {} }),
  });
  await call.body?.cancel();
  assert.equal(call.status, 403);
  assert.equal(await status(at, "/nowhere"), 404);
  at.from.hostname = STRANGER;
  assert.equal(await status(at), 401);
  assert.equal(await status(at, "/nowhere"), 401);
  for (const { port, text } of at.tailscaled.asked.map(parts)) {
    assert.ok(port > 0, text);
  }
});

function parts(text: string): { port: number; text: string } {
  return { port: Number(/:(\d+)$/.exec(text)?.[1]), text };
}

Deno.test("a login of the tailnet is let in at a WebSocket, within what it asks for", async () => {
  await using at = await openTailnetHouse("tailnet");
  using owner = await knock(at.house);
  const { payload } = await owner.connect();
  assert.deepEqual(payload.auth, {
    role: "operator",
    scopes: ["approvals", "chat", "read", "tools", "write"].map((scope) =>
      `operator.${scope}`
    ),
  });
  assert.equal(
    payload.snapshot.sessionDefaults.mainSessionKey,
    "agent:main:main",
  );
  using narrow = await knock(at.house);
  const narrowed = await narrow.connect({
    scopes: ["operator.read", "operator.pairing", "operator.metrics"],
  });
  assert.deepEqual(narrowed.payload.auth.scopes, ["operator.read"]);
  using empty = await knock(at.house);
  const none = await empty.connect({ scopes: [] });
  assert.deepEqual(none.payload.auth.scopes, []);
  at.from.hostname = LAPTOP;
  using guest = await knock(at.house);
  const hello = await guest.connect();
  assert.deepEqual(hello.payload.auth.scopes, [
    "operator.chat",
    "operator.read",
  ]);
  const key: string = hello.payload.snapshot.sessionDefaults.mainSessionKey;
  assert.match(key, /^agent:main:client:/);
  for (const method of ["token.create", "device.pair.list", "config.get"]) {
    const { ok } = await guest.call(method, {});
    assert.equal(ok, false, method);
  }
  const { payload: present } = await owner.call("system-presence");
  const logins = present.map(({ login }: { login?: string }) => login).sort();
  assert.deepEqual(logins, [GUEST, OWNER, OWNER, OWNER]);
});

Deno.test("A1: a role, a name or another user's word makes nobody more", async (t) => {
  await using at = await openTailnetHouse("tailnet");
  at.from.hostname = STRANGER;
  const client = { id: OWNER, version: "1", platform: "x", mode: "backend" };
  for (
    const change of [
      {},
      { role: "node" },
      { role: "operator", scopes: ["operator.admin"] },
      { client },
      { auth: {} },
    ]
  ) {
    await t.step(JSON.stringify(change), async () => {
      using socket = await knock(at.house);
      const { ok, error } = await socket.connect(change);
      assert.equal(ok, false);
      assert.match(error.code, /UNAUTHORIZED|RATE_LIMITED/);
    });
  }
  await t.step("a login is no node", async () => {
    at.from.hostname = PHONE;
    using socket = await knock(at.house);
    const { ok, error } = await socket.connect({ role: "node" });
    assert.equal(ok, false);
    assert.equal(error.code, "FORBIDDEN");
  });
});

Deno.test("A8: what is shown and wrong is refused, and nobody is asked", async (t) => {
  await using at = await openTailnetHouse("tailnet");
  const { tailscaled } = at;
  const headers: Record<string, string>[] = [
    { authorization: "Bearer wrong" },
    { authorization: "Bearer " },
    { authorization: "" },
    { authorization: "Basic b3duZXI6" },
    { "x-api-key": "wrong" },
    { "x-api-key": "" },
    { "proxy-authorization": "Bearer wrong" },
  ];
  for (const own of headers) {
    for (const path of ["/v1/models", "/v1/messages"]) {
      await t.step(`${path} ${JSON.stringify(own)}`, async () => {
        assert.match(String(await status(at, path, own)), /^(401|429)$/);
      });
    }
  }
  const auths = [
    { token: "wrong" },
    { token: "" },
    { deviceToken: "card_wrong" },
    { bootstrapToken: "cari_wrong" },
    { password: "wrong" },
    { token: "wrong", password: "wrong" },
  ];
  for (const auth of auths) {
    await t.step(JSON.stringify(auth), async () => {
      using socket = await knock(at.house);
      assert.equal((await socket.connect({ auth })).ok, false);
    });
  }
  const device = makeDevice();
  for (
    const change of [
      { device: { signature: "AAAA" } },
      { signing: { nonce: "another" } },
      { skewMs: 3_600_000 },
      { auth: { token: "wrong" } },
      { auth: { deviceToken: "card_wrong" } },
      { role: "node" as const },
    ]
  ) {
    await t.step(`a device with ${JSON.stringify(change)}`, async () => {
      using socket = await knock(at.house);
      assert.equal((await connectDevice(socket, device, change)).ok, false);
    });
  }
  assert.deepEqual(tailscaled.asked, []);
});

Deno.test("A8: it is never asked about this machine, a stranger's net or a proxy", async (t) => {
  await using at = await openTailnetHouse("tailnet");
  const { tailscaled, from } = at;
  const headers = {
    "x-forwarded-for": PHONE,
    forwarded: `for=${PHONE}`,
    "x-real-ip": PHONE,
    "tailscale-user-login": OWNER,
    "tailscale-user-name": "Owner",
  };
  for (
    const hostname of [
      "127.0.0.1",
      "127.8.8.8",
      "::1",
      "::ffff:127.0.0.1",
      "10.0.0.7",
      "100.63.255.255",
      "100.128.0.0",
      "192.168.1.5",
      "203.0.113.9",
      "fd00::7",
      "fd7a:115c:a1e1::42",
      "fe80::1",
    ]
  ) {
    await t.step(hostname, async () => {
      from.hostname = hostname;
      for (const own of [{}, headers]) {
        assert.equal(await status(at, "/v1/models", own), 401);
      }
      using socket = await knock(at.house);
      assert.equal((await socket.connect()).ok, false);
    });
  }
  assert.deepEqual(tailscaled.asked, []);
});

Deno.test("A8: whoever comes through a named proxy is not the proxy's own address's", async () => {
  await using at = await openTailnetHouse("tailnet", {
    gateway: { trustedProxies: [PHONE, "127.0.0.1"] },
  });
  const { from, tailscaled } = at;
  const headers = { "x-forwarded-for": LAPTOP };
  for (const hostname of [PHONE, `::ffff:${PHONE}`, "127.0.0.1"]) {
    from.hostname = hostname;
    assert.equal(await status(at), 401, hostname);
    assert.equal(await status(at, "/v1/models", headers), 401, hostname);
  }
  assert.deepEqual(tailscaled.asked, []);
});

Deno.test("A8: what needs no credential asks nobody, and a webhook is not known by it", async () => {
  await using at = await openTailnetHouse("tailnet");
  for (const path of ["/health/live", "/health/ready", "/ui"]) {
    assert.equal(await status(at, path), 200, path);
  }
  const hook = await fetch(`${at.house.url}/plugins/none/hook`, {
    method: "POST",
    body: "{}",
  });
  await hook.body?.cancel();
  assert.equal(hook.status, 401);
  assert.deepEqual(at.tailscaled.asked, []);
});

Deno.test("A8: no header changes whom it is asked about, or who that is", async () => {
  await using at = await openTailnetHouse("tailnet");
  const { tailscaled, from } = at;
  const names = fc.oneof(
    fc.constantFrom(
      "x-forwarded-for",
      "x-forwarded-host",
      "x-real-ip",
      "forwarded",
      "via",
      "tailscale-user-login",
      "tailscale-user-name",
      "tailscale-headers-info",
      "x-remote-user",
      "x-client-ip",
      "cf-connecting-ip",
      "x-carapace-agent-id",
      "addr",
      "authorization",
      "x-api-key",
      "cookie",
      "origin",
      "referer",
      "sec-fetch-site",
      "sec-fetch-mode",
      "user-agent",
    ),
    fc.stringMatching(/^x-[a-z]{1,12}$/),
  );
  const values = fc.oneof(
    fc.constantFrom(
      PHONE,
      LAPTOP,
      OWNER,
      GUEST,
      `for=${PHONE};by=${LAPTOP}`,
      "127.0.0.1",
      "cross-site",
      "same-origin",
      "none",
      "null",
      "https://evil.example",
      "Mozilla/5.0",
    ),
    fc.stringMatching(/^[\x21-\x7e]{1,40}$/),
  );
  const headers = fc.dictionary(names, values, { maxKeys: 6 });
  const peer = fc.constantFrom(PHONE, LAPTOP, STRANGER, "127.0.0.1");
  await fc.assert(
    fc.asyncProperty(peer, headers, fc.integer({ min: 1, max: 65_535 }), async (
      hostname,
      own,
      port,
    ) => {
      Object.assign(from, { hostname, port });
      tailscaled.asked.length = 0;
      const code = await status(at, "/v1/models", own);
      const text = hostname.includes(":") ? `[${hostname}]` : hostname;
      for (const asked of tailscaled.asked) {
        assert.equal(asked, `${text}:${port}`);
      }
      const isKnown = hostname === PHONE || hostname === LAPTOP;
      if (!isKnown) assert.notEqual(code, 200);
      if (hostname === "127.0.0.1") assert.deepEqual(tailscaled.asked, []);
    }),
    { numRuns: 150 },
  );
});

Deno.test("A3: other lines end a login's socket, its stream and their runs at once", async (t) => {
  const kept = { [GUEST]: { scopes: ["chat", "read"] } };
  const rows: [what: string, users: unknown][] = [
    ["removed", kept],
    ["cut", { ...kept, [OWNER]: { as: "owner", scopes: ["read"] } }],
    ["made a peer", { ...kept, [OWNER]: { scopes: ["write", "approvals"] } }],
    ["nothing configured any more", undefined],
  ];
  for (const [what, users] of rows) {
    await t.step(what, async () => {
      await using at = await openTailnetHouse("tailnet", ENDLESS);
      const { house } = at;
      using socket = await knock(house);
      await socket.connect();
      const { ok } = await socket.call("chat.send", {
        sessionKey: "main",
        message: "go on",
        idempotencyKey: "k",
      });
      assert.ok(ok);
      await socket.event("chat", ({ state }) => state === "delta");
      const response = await fetch(`${house.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          model: "carapace",
          stream: true,
          messages: [{ role: "user", content: "go on" }],
        }),
      });
      assert.equal(response.status, 200);
      at.from.hostname = LAPTOP;
      using guest = await knock(house);
      await guest.connect();
      assert.equal(house.house.desk.counts().running, 2);
      const startedAt = performance.now();
      house.house.adopt(at.settings(users));
      assert.equal((await socket.closed).code, 1008);
      await response.text().catch(() => "");
      await until(
        "the runs' end",
        () => house.house.desk.counts().running === 0,
      );
      assert.ok(performance.now() - startedAt < 1_000);
      // Who did not change goes on.
      if (users !== undefined) assert.ok((await guest.call("status")).ok);
      at.from.hostname = PHONE;
      const isGone = what === "removed" || users === undefined;
      const left = what === "cut" ? 403 : 200;
      assert.equal(await status(at), isGone ? 401 : left);
    });
  }
});

Deno.test("A3: a run of a login whose line changed while nobody looked is not gone on with", async () => {
  await using at = await openTailnetHouse("tailnet");
  const { house } = at.house;
  using socket = await knock(at.house);
  await socket.connect();
  const record = (login: string) => {
    const credential = `tailscale:${login}`;
    const revision = house.identity.whois.standing(credential)?.revision ?? 0;
    return {
      principal: "owner",
      kind: "owner" as const,
      credential,
      revision,
      scopes: [],
      agents: "any" as const,
      models: "any" as const,
      tools: "any" as const,
      integrity: "owner" as const,
    };
  };
  const { credentials } = house.identity;
  const before = record(OWNER);
  assert.equal(await credentials.isLive(before), true);
  assert.equal(await credentials.isLive(record("x@example.com")), false);
  house.adopt(at.settings({ [OWNER]: { as: "owner", scopes: ["read"] } }));
  assert.equal(await credentials.isLive(before), false);
  assert.equal(await credentials.isLive(record(OWNER)), true);
});

Deno.test("a paired page comes as its device, and a new one as its login", async () => {
  await using at = await openTailnetHouse("tailnet");
  const { house, tailscaled, from } = at;
  from.hostname = "127.0.0.1";
  using owner = await tokenSocket(house, house.owner);
  const device = makeDevice();
  const scopes = ["operator.admin"];
  await pairDevice(house, owner, { device, scopes });
  from.hostname = PHONE;
  using page = await knock(house);
  const hello = await connectDevice(page, device, { scopes });
  assert.ok(hello.payload.auth.scopes.includes("operator.admin"));
  assert.ok(hello.payload.auth.deviceToken);
  assert.deepEqual(tailscaled.asked, []);

  const other = makeDevice();
  using fresh = await knock(house);
  const { payload } = await connectDevice(fresh, other, { scopes });
  // It asked for admin only, and its login has none.
  assert.deepEqual(payload.auth, {
    role: "operator",
    scopes: ["approvals", "chat", "read", "tools", "write"].map((one) =>
      `operator.${one}`
    ),
  });
  const { pending } = (await owner.call("device.pair.list", {})).payload;
  assert.deepEqual(
    pending.map(({ deviceId }: { deviceId: string }) => deviceId),
    [other.id],
  );

  await owner.call("device.token.revoke", { deviceId: device.id });
  tailscaled.asked.length = 0;
  using ended = await knock(house);
  const { error } = await connectDevice(ended, device, { scopes });
  assert.equal(error.code, "NOT_PAIRED");
  assert.deepEqual(tailscaled.asked, []);

  from.hostname = STRANGER;
  using stranger = await knock(house);
  const refused = await connectDevice(stranger, makeDevice());
  assert.equal(refused.error.code, "NOT_PAIRED");
});

Deno.test("a tailscaled that breaks down is a 401, a reason and a fix, never a 500", async () => {
  await using at = await openTailnetHouse("tailnet");
  const ready = async () => {
    const answer = await at.get("/health/ready", {
      authorization: `Bearer ${at.house.owner}`,
    });
    const { checks } = await answer.json();
    return checks.find(({ name }: { name: string }) => name === "tailscale");
  };
  at.tailscaled.state = "NeedsLogin";
  const check = await ready();
  assert.equal(check.ok, false);
  assert.match(check.why, /NeedsLogin/);
  assert.match(check.fix, /tailscale status.*gateway\.tailscale\.socket/);
  for (const answer of ["error", "not JSON", "huge"] as const) {
    at.tailscaled.nodes.set(PHONE, answer);
    assert.equal(await status(at), 401, answer);
  }
  const metrics = await at.get("/metrics", {
    authorization: `Bearer ${at.house.owner}`,
  });
  assert.match(
    await metrics.text(),
    /carapace_whois_total\{outcome="failed"\} 1/,
  );
});

Deno.test("A6: a stranger's knocks are refusals of the one account, told once a minute", async () => {
  await using at = await openTailnetHouse("tailnet");
  at.from.hostname = STRANGER;
  const codes = new Set<number>();
  for (let n = 0; n < 12; n++) codes.add(await status(at));
  assert.deepEqual([...codes], [401, 429]);
  assert.equal(at.tailscaled.asked.length, 1);
  const { store } = at.house.house;
  await store.probe();
  const rows = (await store.audit.list({ limit: 50 }))
    .filter(({ event }) => event === "auth.refused");
  assert.equal(rows.length, 1);
  assert.deepEqual(rows[0]?.fields["kinds"], ["tailnet 1"]);
  // And the owner is let in as ever.
  at.from.hostname = PHONE;
  assert.equal(await status(at), 200);
});
