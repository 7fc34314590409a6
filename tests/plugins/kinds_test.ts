/** The contract of each kind of plugin: webhook, hook, channel, timer. */
import assert from "node:assert/strict";
import type { HookEvent } from "../../src/core/hooks.ts";
import { label } from "../../src/core/label.ts";
import { Secret } from "../../src/core/secret.ts";
import type { PluginGrant } from "../../src/plugins/config.ts";
import type { WebhookRequest } from "../../src/plugins/webhooks.ts";
import { until } from "../process/processes.ts";
import { type FakeHost, fakeHost, probe } from "../fakes/plugins.ts";

const SECRET = "a-shared-secret";

function hook(name: string, auth: unknown, more = {}) {
  return {
    name,
    auth,
    headersIn: ["x-event", "authorization", "cookie"],
    headersOut: ["x-probe", "content-type", "set-cookie"],
    export: "hooked",
    ...more,
  };
}

async function withWebhooks(): Promise<FakeHost> {
  const fake = await fakeHost();
  const hmac = { kind: "hmac", header: "x-signature", prefix: "sha256=" };
  const { manifest, bytes } = await probe({
    webhooks: [
      hook("signed", { ...hmac, secret: "key" }),
      hook("token", { kind: "token", header: "x-token", secret: "key" }, {
        eventId: "x-id",
      }),
      hook("scoped", { kind: "scope", scope: "hooks" }),
    ],
  });
  const view = await fake.add(manifest, bytes, {
    secrets: { key: new Secret(SECRET, "secret KEY") },
  });
  assert.equal(view.state, "ready", `${view.why}`);
  return fake;
}

async function sign(body: string, secret = SECRET): Promise<string> {
  const encoder = new TextEncoder();
  const key = await crypto.subtle.importKey(
    "raw",
    encoder.encode(secret),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  const mac = await crypto.subtle.sign("HMAC", key, encoder.encode(body));
  return `sha256=${new Uint8Array(mac).toHex()}`;
}

function request(
  body: string,
  headers: Record<string, string> = {},
  more: Partial<WebhookRequest> = {},
): WebhookRequest {
  return {
    method: "POST",
    query: new URLSearchParams("a=1"),
    headers: new Headers(headers),
    body: new TextEncoder().encode(body),
    hasScope: false,
    signal: new AbortController().signal,
    ...more,
  };
}

Deno.test("a webhook is verified on its raw body, taken once, and answers little", async (t) => {
  await using fake = await withWebhooks();
  const send = (name: string, asked: WebhookRequest) =>
    fake.host.webhook({ id: "probe", name }, asked);
  const unverified = async (run: Promise<Response>) => {
    await assert.rejects(run, (error: Error & { code?: string }) => {
      assert.equal(error.code, "unauthorized");
      assert.equal(error.message, "Cannot authenticate this request");
      return true;
    });
  };
  await t.step("signed: it passes, and sees what it was granted", async () => {
    const body = '{"n":1}';
    const answer = await send(
      "signed",
      request(body, {
        "x-signature": await sign(body),
        "x-event": "push",
        "x-other": "no",
        cookie: "no",
        authorization: "Bearer no",
      }),
    );
    assert.equal(answer.status, 202);
    assert.equal(await answer.text(), "took x");
    assert.equal(answer.headers.get("x-probe"), "yes");
    assert.equal(answer.headers.get("set-cookie"), null);
    assert.match(answer.headers.get("content-type") ?? "", /^text\/plain/);
    const kept = await fake.store.plugins.get("probe", "webhook");
    assert.deepEqual(JSON.parse(kept ?? ""), {
      name: "signed",
      method: "POST",
      query: { a: "1" },
      headers: { "x-event": "push" },
      body,
    });
  });
  await t.step("a second one of the same body is a duplicate", async () => {
    const body = '{"n":1}';
    const headers = { "x-signature": await sign(body), "x-id": "another" };
    const answer = await send("signed", request(body, headers));
    assert.deepEqual(await answer.json(), { ok: true, duplicate: true });
    assert.equal(await fake.store.plugins.get("probe", "times"), "x");
  });
  await t.step("whatever is not verified gets one answer", async () => {
    const right = await sign("b");
    const rows: [name: string, headers: Record<string, string>][] = [
      ["signed", {}],
      ["signed", { "x-signature": "" }],
      ["signed", { "x-signature": "sha256=" }],
      ["signed", { "x-signature": await sign("b", "another-secret") }],
      ["signed", { "x-signature": await sign("c") }],
      ["signed", { "x-signature": right.toUpperCase() }],
      ["signed", { "x-signature": right.replace("sha256=", "") }],
      ["signed", { "x-signature": `${right}00` }],
      ["token", {}],
      ["token", { "x-token": "" }],
      ["token", { "x-token": "a-shared-secre" }],
      ["scoped", { authorization: "Bearer anything" }],
      ["nothing", { "x-signature": right }],
    ];
    for (const [name, headers] of rows) {
      await unverified(send(name, request("b", headers)));
    }
    await unverified(
      fake.host.webhook({ id: "other", name: "signed" }, request("b")),
    );
  });
  await t.step("a failed one can be sent again", async () => {
    const headers = { "x-signature": await sign("trap") };
    await assert.rejects(send("signed", request("trap", headers)), /trapped/);
    await assert.rejects(send("signed", request("trap", headers)), /trapped/);
  });
  await t.step("token: its header names the event", async () => {
    const headers = { "x-token": SECRET, "x-id": "1" };
    assert.equal((await send("token", request("a", headers))).status, 202);
    const again = await send("token", request("other", headers));
    assert.deepEqual(await again.json(), { ok: true, duplicate: true });
  });
  await t.step("scope: the caller's own token opens it", async () => {
    const asked = request("a", {}, { hasScope: true });
    assert.equal((await send("scoped", asked)).status, 202);
  });
  await t.step("another method than its own", async () => {
    const body = "get";
    const headers = { "x-signature": await sign(body) };
    const asked = request(body, headers, { method: "GET" });
    await assert.rejects(send("signed", asked), /it takes POST/);
  });
});

Deno.test("a webhook without a secret verifies nobody", async () => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await probe({
    webhooks: [hook("token", { kind: "token", header: "x-t", secret: "key" })],
  });
  for (const value of [undefined, "", "short"]) {
    const secrets: PluginGrant["secrets"] = value === undefined
      ? {}
      : { key: new Secret(value, `secret ${value}`) };
    await fake.add(manifest, bytes, { secrets });
    await assert.rejects(
      fake.host.webhook(
        { id: "probe", name: "token" },
        request("a", { "x-t": value ?? "" }),
      ),
      /Cannot authenticate/,
    );
  }
});

const MAY = ["annotate", "change", "cancel"];

async function withHook(
  point: string,
  how: string,
  change: { may?: string[]; grant?: Partial<PluginGrant>; url?: string } = {},
): Promise<FakeHost> {
  const fake = await fakeHost();
  const { manifest, bytes } = await probe({
    hooks: [{ point, may: change.may ?? MAY, export: "hook" }],
  });
  const view = await fake.add(manifest, bytes, {
    config: { hook: how, url: change.url ?? "" },
    ...change.grant,
  });
  assert.equal(view.state, "ready", `${view.why}`);
  return fake;
}

function event(change: Partial<HookEvent> = {}): HookEvent {
  return {
    point: "before_tool_call",
    label: label("owner", ["owner"], { kind: "owner", ref: "test", at: 0 }),
    runId: "run_1",
    sessionKey: "agent:main:main",
    text: "private words",
    tool: { name: "web_fetch", args: { url: "https://a.test/" } },
    ...change,
  };
}

Deno.test("a hook annotates, changes and cancels what it may, as itself", async (t) => {
  await t.step("a change carries the guest's label", async () => {
    const answer = { args: { url: "https://b.test/" }, note: "moved" };
    await using fake = await withHook(
      "before_tool_call",
      JSON.stringify(answer),
    );
    const { hooks } = fake.host;
    assert.ok(hooks.has("before_tool_call") && hooks.holds("before_tool_call"));
    assert.ok(!hooks.has("before_reply"));
    const outcome = await hooks.run(event());
    assert.deepEqual(outcome.args, answer.args);
    assert.deepEqual(outcome.notes, [{ by: "probe", text: "moved" }]);
    assert.equal(outcome.label?.integrity, "untrusted");
    assert.deepEqual(outcome.label?.secrecy, ["owner"]);
    const seen = await fake.store.plugins.get("probe", "hook");
    assert.equal(JSON.parse(seen ?? "").text, "private words");
  });
  await t.step("without the grant it is not shown what is said", async () => {
    await using fake = await withHook("before_tool_call", "", {
      grant: { conversation: false },
    });
    assert.deepEqual(await fake.host.hooks.run(event()), { notes: [] });
    const seen = await fake.store.plugins.get("probe", "hook");
    assert.deepEqual(JSON.parse(seen ?? ""), {
      point: "before_tool_call",
      runId: "run_1",
      sessionKey: "agent:main:main",
      tool: { name: "web_fetch" },
    });
  });
  await t.step("a cancel says who and why", async () => {
    await using fake = await withHook(
      "before_tool_call",
      '{"cancel":"not on Sundays"}',
    );
    const { cancelled } = await fake.host.hooks.run(event());
    assert.deepEqual(cancelled, { by: "probe", reason: "not on Sundays" });
  });
  await t.step("what it may not do stops the act before it", async () => {
    for (const how of ['{"args":{}}', '{"cancel":"x"}', "trap", "nonsense"]) {
      await using fake = await withHook("before_tool_call", how, {
        may: ["annotate"],
      });
      const { cancelled } = await fake.host.hooks.run(event());
      assert.match(
        cancelled?.reason ?? "",
        /hook of plugin "probe" failed/,
        how,
      );
    }
  });
  await t.step("one that fails after the act changes nothing", async () => {
    await using fake = await withHook("after_tool_call", "trap");
    const outcome = await fake.host.hooks.run(
      event({ point: "after_tool_call" }),
    );
    assert.deepEqual(outcome, { notes: [] });
  });
  await t.step("a hook that was not granted is not called", async () => {
    await using fake = await withHook("before_tool_call", "trap", {
      grant: { hooks: [] },
    });
    assert.ok(!fake.host.hooks.has("before_tool_call"));
  });
});

Deno.test("a channel's messages come in through one door and go out once", async (t) => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await probe();
  await fake.add(manifest, bytes);
  await t.step("in: a sender of the plugin's network, untrusted", async () => {
    const answer = await fake.ask("emit", {
      id: "m1",
      sender: { id: "u1", name: "Ann" },
      chat: { id: "c1" },
      text: "hello",
    });
    assert.deepEqual(answer, { ok: true, accepted: true });
    const { inbound } = fake.received[0] ?? {};
    assert.equal(inbound?.channel, "plugin:probe");
    assert.equal(inbound?.account, "default");
    assert.equal(inbound?.label.integrity, "untrusted");
  });
  const take = (key: string, text: string) =>
    fake.courier.take({
      idempotencyKey: key,
      destination: { channel: "plugin:probe", account: "default", chat: "c1" },
      parts: [{ kind: "text", text, label: label("owner", []) }],
      by: "owner",
    });
  const reached = async (id: string, state: string) => {
    const isThere = () =>
      fake.states.some((row) => row.id === id && row.state === state);
    await until(`${id} ${state}`, isThere);
  };
  await t.step("out: stored, delivered, and not twice", async () => {
    const { id } = await take("k", "hi");
    await reached(id, "sent");
    const again = await take("k", "hi");
    assert.deepEqual([again.id, again.state, again.isNew], [id, "sent", false]);
    const sent = await fake.store.plugins.get("probe", `sent:${id}`);
    assert.deepEqual(JSON.parse(sent ?? ""), { key: id, to: "c1", text: "hi" });
  });
  await t.step(
    "what the guest says it did not send is tried again",
    async () => {
      const { id } = await take("f", "refuse");
      await reached(id, "failed");
      const row = fake.states.findLast((one) => one.id === id);
      assert.match(row?.lastError ?? "", /network is down/);
      assert.ok((row?.due ?? 0) > (row?.updatedAt ?? 0));
      await fake.courier.drop(id, "owner");
    },
  );
  await t.step("a guest queues nothing where it was not granted", async () => {
    const before = fake.states.length;
    const request = { to: "probe", text: "from me", address: "c2" };
    const answer = await fake.ask("message", request);
    assert.equal(answer["ok"], false);
    assert.equal(fake.states.length, before);
  });
});

Deno.test("a timer calls the plugin once, when its time has come", async () => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await probe();
  await fake.add(manifest, bytes);
  await fake.ask("schedule", { name: "tea", inMs: 1_000, payload: "green" });
  await fake.ask("schedule", { name: "gone", inMs: 1_000 });
  await fake.ask("schedule", { name: "gone" });
  assert.equal((await fake.store.plugins.timers("probe")).length, 1);
  let seen: string | undefined;
  while (seen === undefined) {
    await new Promise((done) => setTimeout(done, 50));
    seen = await fake.store.plugins.get("probe", "timer");
  }
  const { name, payload } = JSON.parse(seen);
  assert.deepEqual([name, payload], ["tea", "green"]);
  assert.deepEqual(await fake.store.plugins.timers("probe"), []);
});
