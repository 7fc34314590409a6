/**
 * The methods that clients of the field call, over the whole house: what each
 * answers, to whom, and what it tells others.
 */
import assert from "node:assert/strict";
import { METHODS } from "../../src/core/methods.ts";
import { LogRing } from "../../src/ops/log_ring.ts";
import { EVENT_PAYLOADS } from "../contracts/event_payloads.ts";
import {
  type AnyFrame,
  FakeClient,
  openGatewayHouse,
} from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

async function join(
  { url }: RealHouse,
  token: string,
  change: object = {},
): Promise<FakeClient> {
  const client = new FakeClient(`${url.replace("http", "ws")}/ws`);
  await client.opened;
  const hello = await client.connect({ auth: { token }, ...change });
  assert.equal(hello.ok, true, JSON.stringify(hello));
  return client;
}

async function ask(
  client: FakeClient,
  method: keyof typeof METHODS,
  params: object = {},
): Promise<AnyFrame> {
  const { ok, payload, error } = await client.call(method, params);
  assert.ok(ok, `${method}: ${JSON.stringify(error)}`);
  METHODS[method].output.parse(payload);
  return payload;
}

Deno.test("what there is: agents, tools, skills, as far as the caller may", async (t) => {
  await using house = await openRealHouse({
    settings: {
      agents: {
        main: { model: "openai:gpt-test", name: "Ada" },
        other: { tools: ["current_time"] },
      },
    },
  });
  using owner = await join(house, house.owner);
  using narrow = await join(
    house,
    await house.token({ agents: ["other"], tools: ["current_time"] }),
  );
  await t.step("agents.list", async () => {
    const all = await ask(owner, "agents.list");
    assert.deepEqual(
      all.agents.map((a: AnyFrame) => [a.id, a.identity.name]),
      [["main", "Ada"], ["other", "other"]],
    );
    assert.equal(all.agents[0].model.primary, "openai:gpt-test");
    const own = await ask(narrow, "agents.list");
    assert.deepEqual(own.agents.map((a: AnyFrame) => a.id), ["other"]);
  });
  await t.step("agent.identity.get", async () => {
    assert.equal((await ask(owner, "agent.identity.get")).name, "Ada");
    const key = "agent:other:main";
    const named = await ask(owner, "agent.identity.get", { sessionKey: key });
    assert.equal(named.agentId, "other");
    const { error } = await narrow.call("agent.identity.get", {
      agentId: "main",
    });
    assert.equal(error.code, "FORBIDDEN");
    const lost = await owner.call("agent.identity.get", { agentId: "nobody" });
    assert.equal(lost.error.code, "NOT_FOUND");
  });
  await t.step("tools.catalog", async () => {
    const { groups } = await ask(owner, "tools.catalog");
    const tools = groups.flatMap((g: AnyFrame) => g.tools);
    const time = tools.find((tool: AnyFrame) => tool.id === "current_time");
    assert.equal(time.effect, "none");
    assert.equal(time.inputSchema.type, "object");
    assert.ok(groups.some((g: AnyFrame) => g.id === "memory"));
    const own = await ask(narrow, "tools.catalog", { agentId: "other" });
    assert.deepEqual(
      own.groups.flatMap((g: AnyFrame) => g.tools.map((x: AnyFrame) => x.id)),
      ["current_time"],
    );
    const { error } = await narrow.call("tools.catalog", { agentId: "main" });
    assert.equal(error.code, "FORBIDDEN");
  });
  await t.step("tools.invoke", async () => {
    const params = {
      name: "math_eval",
      args: { expression: "6*7" },
      idempotencyKey: "i1",
    };
    const said = await ask(owner, "tools.invoke", params);
    assert.equal(said.ok, true);
    assert.equal(said.output.content[0].text, "42");
    const again = await ask(owner, "tools.invoke", params);
    assert.equal(again.runId, said.runId);
    const hidden = await ask(narrow, "tools.invoke", {
      ...params,
      agentId: "other",
    });
    assert.equal(hidden.error.code, "not_found");
    const unfit = await ask(owner, "tools.invoke", {
      name: "math_eval",
      args: { nope: 1 },
    });
    assert.equal(unfit.error.code, "invalid_request");
    const run = await house.house.store.runs.find(said.runId);
    assert.equal(run?.options?.invoked, true);
  });
  await t.step("skills.status", async () => {
    assert.deepEqual((await ask(owner, "skills.status")).skills, []);
  });
});

Deno.test("the log, from a cursor, for the owner only", async (t) => {
  const logs = new LogRing({ linesMax: 10, charsMax: 10_000 });
  await using house = await openRealHouse({ logs });
  using owner = await join(house, house.owner);
  using app = await join(house, await house.token());
  for (let n = 0; n < 15; n++) {
    logs.add(n === 13 ? "error" : "info", `{"n":${n},"text":"Line (a+)+$"}\n`);
  }
  await t.step("the newest, and what came after", async () => {
    const first = await ask(owner, "logs.tail", { limit: 3 });
    assert.equal(first.lines.length, 3);
    assert.equal(first.size, 15);
    assert.equal(first.truncated, true);
    logs.add("info", "later\n");
    const more = await ask(owner, "logs.tail", { cursor: first.cursor });
    assert.deepEqual(more.lines, ["later"]);
    assert.equal(more.truncated, false);
  });
  await t.step(
    "a cursor of lines that are gone, or of another start",
    async () => {
      const gone = await ask(owner, "logs.tail", { cursor: 1 });
      assert.equal(gone.truncated, true);
      assert.equal(gone.lines.length, 10);
      const reset = await ask(owner, "logs.tail", { cursor: 9_999 });
      assert.equal(reset.reset, true);
      assert.equal(reset.lines.length, 10);
    },
  );
  await t.step("page by page nothing is passed over", async () => {
    let { cursor, size } = await ask(owner, "logs.tail", {
      cursor: 6,
      limit: 4,
    });
    let count = 4;
    while (cursor < size) {
      const next = await ask(owner, "logs.tail", { cursor, limit: 4 });
      count += next.lines.length;
      ({ cursor, size } = next);
    }
    assert.equal(count, 10);
  });
  await t.step("by level and by words, which are no expression", async () => {
    const errors = await ask(owner, "logs.tail", { level: "error" });
    assert.equal(errors.lines.length, 1);
    const found = await ask(owner, "logs.tail", { pattern: "LINE (A+)+$" });
    assert.equal(found.lines.length, 9);
  });
  await t.step("not for a program", async () => {
    const { error } = await app.call("logs.tail", {});
    assert.equal(error.details.code, "OWNER_ONLY");
  });
});

Deno.test("the audit log is read page by page, and verified", async () => {
  await using house = await openRealHouse();
  using owner = await join(house, house.owner);
  for (let n = 0; n < 5; n++) await house.token();
  const seen: number[] = [];
  let before: number | undefined;
  do {
    const page = await ask(owner, "audit.list", {
      limit: 2,
      ...(before === undefined ? {} : { before }),
    });
    seen.push(...page.rows.map((row: AnyFrame) => row.seq));
    before = page.next;
  } while (before !== undefined);
  assert.deepEqual(seen, [...seen].sort((a, b) => b - a));
  assert.equal(seen.at(-1), 1);
  const made = await ask(owner, "audit.list", { event: "token.create" });
  assert.ok(made.rows.length >= 5);
  assert.ok(
    made.rows.every((r: AnyFrame) => r.event.startsWith("token.create")),
  );
  const { ok, rows } = await ask(owner, "audit.verify");
  assert.equal(ok, true);
  assert.equal(rows, seen.length);
});

Deno.test("remembered answers can be taken back in the field's shape, never added", async () => {
  await using house = await openRealHouse();
  using owner = await join(house, house.owner);
  const { store } = house.house;
  const line = (id: string, tool: string) =>
    store.policyLines.rows({
      id,
      sessionKey: "agent:main:main",
      agent: "main",
      principal: "owner",
      tool,
      places: ["https://a.test"],
      secrecy: [],
      sources: [],
      approvalId: `apr_${"0".repeat(26)}`,
      createdAt: 1,
      createdBy: "owner",
    });
  const ids = ["a", "b"].map((c) => `pol_${c.repeat(26)}`);
  await store.journal.commit([
    ...line(ids[0] ?? "", "web_fetch"),
    ...line(ids[1] ?? "", "exec"),
  ]);
  const got = await ask(owner, "exec.approvals.get");
  const entries = got.file.agents.main.allowlist;
  assert.deepEqual(entries.map((e: AnyFrame) => e.id).sort(), ids);
  const stale = await owner.call("exec.approvals.set", {
    file: got.file,
    baseHash: "x",
  });
  assert.equal(stale.error.code, "CONFLICT");
  for (const entry of [{ id: "pol_x" }, { pattern: "rm *" }]) {
    const { error } = await owner.call("exec.approvals.set", {
      file: { agents: { main: { allowlist: [...entries, entry] } } },
    });
    assert.equal(error.code, "INVALID_REQUEST");
  }
  const left = await ask(owner, "exec.approvals.set", {
    file: { agents: { main: { allowlist: [{ id: ids[0] }] } } },
    baseHash: got.hash,
  });
  assert.deepEqual(
    left.file.agents.main.allowlist.map((e: AnyFrame) => e.id),
    [ids[0]],
  );
  assert.equal((await ask(owner, "policy.list")).lines.length, 1);
});

Deno.test("every change of a session is told to who may see it, and to nobody else", async () => {
  await using house = await openRealHouse();
  using owner = await join(house, house.owner);
  using app = await join(house, await house.token());
  using other = await join(house, await house.token());
  const { key } = await ask(app, "sessions.create", { key: "work" });
  await ask(app, "sessions.patch", { key, label: "W" });
  await ask(app, "chat.send", {
    sessionKey: key,
    message: "/new",
    idempotencyKey: "1",
  });
  // Acknowledged is stored, not done: the rest must not come before it.
  await app.event("sessions.changed", (p) => p.reason === "reset");
  await ask(app, "sessions.delete", { key });
  for (const client of [owner, app]) {
    for (const reason of ["create", "patch", "reset", "delete"]) {
      const told = await client.event(
        "sessions.changed",
        (p) => p.reason === reason,
      );
      assert.equal(told.sessionKey, key);
    }
  }
  for (const { event, payload } of [...owner.frames, ...app.frames]) {
    if (event === undefined) continue;
    EVENT_PAYLOADS[event as keyof typeof EVENT_PAYLOADS].parse(payload);
  }
  await ask(other, "health");
  assert.ok(other.frames.every((f) => f.event !== "sessions.changed"));
});

Deno.test("who comes and goes, and how this process is confined, is told", async () => {
  await using house = await openRealHouse();
  using owner = await join(house, house.owner);
  await owner.event("posture");
  {
    using app = await join(house, await house.token());
    assert.deepEqual((await app.event("posture")).grants, {});
    const frame = await owner.frame((f) =>
      f.event === "presence" && f.payload.presence.length === 2
    );
    assert.ok(frame.stateVersion.presence > 0);
    const [entry] = frame.payload.presence;
    assert.equal(entry.mode, "test");
    assert.equal(entry.ip, "127.0.0.1");
    assert.equal(entry.lastInputSeconds, 0);
    assert.equal((await ask(app, "system-presence")).length, 1);
  }
  const frames = owner.frames.length;
  await owner.frame((f) =>
    owner.frames.indexOf(f) >= frames - 1 && f.event === "presence" &&
    f.payload.presence.length === 1
  );
});

Deno.test("every event has the shape its document says, also while health changes", async () => {
  let isWell = true;
  await using house = await openGatewayHouse({
    limits: { tickMs: 100, readyMs: 1 },
    deps: {
      ready: () =>
        Promise.resolve({ ok: isWell, checks: [{ name: "x", ok: isWell }] }),
    },
  });
  using client = await house.socket({ token: "owner-token" });
  await client.event("tick");
  isWell = false;
  const told = await client.frame((f) => f.event === "health");
  assert.equal(told.payload.status, "degraded");
  assert.equal(told.stateVersion.health, 1);
  isWell = true;
  const well = await client.frame((f) =>
    f.event === "health" && f.payload.status === "ok"
  );
  assert.equal(well.stateVersion.health, 2);
  await client.call("chat.send", {
    sessionKey: "main",
    message: "hi you",
    idempotencyKey: "1",
  });
  await client.event("sessions.changed", (p) => p.reason === "end");
  const events = client.frames.filter((f) => f.type === "event");
  const kinds = new Set(events.map((f) => f.event));
  for (const kind of ["connect.challenge", "tick", "health", "chat", "agent"]) {
    assert.ok(kinds.has(kind), kind);
  }
  for (const { event, payload } of events) {
    EVENT_PAYLOADS[event as keyof typeof EVENT_PAYLOADS].parse(payload);
  }
});
