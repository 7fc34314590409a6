import { PUBLIC_OWNER } from "../core/label.ts";
import { fakeCourier } from "../../tests/fakes/channel.ts";
import assert from "node:assert/strict";
import { FakeClock } from "../../tests/fakes/clock.ts";
import { openGatewayHouse, program } from "../../tests/fakes/gateway_house.ts";
import { type FakeHouse, fakeHouse, request } from "../../tests/fakes/house.ts";
import { calls, says } from "../../tests/fakes/models.ts";
import { silentLog } from "../core/log.ts";
import { makeEgress } from "../egress/egress.ts";
import { EgressConfig } from "../egress/config.ts";
import { LoopLag } from "./loop_lag.ts";
import { Metrics, type MetricsSources, SERIES } from "./metrics.ts";
import type { TurnEvent } from "../core/turn.ts";

/** Every line's value by its name and labels. */
function read(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^([a-z0-9_]+(?:\{.*\})?) (\S+)$/.exec(line);
    if (match?.[1] !== undefined) values.set(match[1], Number(match[2]));
  }
  return values;
}

/** Two turns that ask: one is answered with yes, one by another message. */
async function askTwice(house: FakeHouse): Promise<void> {
  for (const isAnswered of [true, false]) {
    const { events } = await house.desk.start(request("what time is it?"));
    for await (const event of events) {
      if (event.kind !== "ask") continue;
      const { approvalId: id } = event;
      if (!isAnswered) await house.approvals.supersede(id, "owner");
      else await house.approvals.answer(id, "allow-once", { by: "owner" });
    }
  }
}

Deno.test("every series moves when what it counts happens", async (t) => {
  await using house = await fakeHouse({
    priceOf: () => ({
      input: 1,
      output: 1,
      cached: 1,
      cacheWrite: 1,
      because: "a test",
    }),
    steps: [
      calls(["math_eval", { expression: "1+1" }]),
      says("2"),
      calls(["current_time", {}]),
      says("late"),
      calls(["current_time", {}]),
      says("never"),
    ],
    policy: [{ verdict: "ask", tool: "current_time", args: [] }],
  });
  using egress = makeEgress({
    config: EgressConfig.parse({}),
    clock: new FakeClock(),
    log: silentLog,
  });
  const gateway = {
    sockets: 0,
    preAuth: 0,
    inFlight: 0,
    refused: new Map<string, number>(),
  };
  const runs = { running: 0, queued: 0 };
  const whois = new Map<string, number>();
  let rssBytes = 1;
  let failing = 0;
  await using carried = fakeCourier(house.store);
  const { courier } = carried;
  using lag = new LoopLag();
  const listeners: ((call: { id: string; outcome: string }) => void)[] = [];
  let turnListener: Parameters<MetricsSources["watchTurns"]>[0] = () => {};
  using metrics = new Metrics({
    watchTurns: (listener) => {
      turnListener = listener;
      return house.desk.watch(listener);
    },
    watchCalls: (listener) => house.spending.watch(listener),
    watchPlugins: (listener) => {
      listeners.push(listener);
      return { [Symbol.dispose]: () => listeners.length = 0 };
    },
    runs: () => runs,
    gateway: () => gateway,
    egress: () => egress.counts(),
    whois: () => whois,
    budgets: () => house.usage.budgets(),
    guard: () => house.meter,
    failingAddresses: () => failing,
    rssBytes: () => rssBytes,
    outbox: () => ({
      pending: house.store.outbox.pending,
      oldestDueMs: courier.oldestDueMs(),
      counts: courier.counts(),
    }),
    lag,
  });
  const before = read((await metrics.text()).text);
  await house.say("what is 1+1?");
  await askTwice(house);
  await egress.door({ caller: "tool:test", hosts: [] })("https://a.example/")
    .catch(() => {});
  Object.assign(gateway, { sockets: 3, preAuth: 1, inFlight: 2 });
  Object.assign(runs, { running: 4, queued: 5 });
  rssBytes = 2;
  failing = 1;
  await courier.take({
    idempotencyKey: "k",
    destination: { channel: "nowhere", account: "default", chat: "" },
    parts: [{ kind: "text", text: "hi", label: PUBLIC_OWNER }],
    by: "owner",
  });
  lag.note(70);
  gateway.refused.set("rate_limited", 3);
  whois.set("known", 1);
  for (const listener of listeners) listener({ id: "echo", outcome: "done" });
  turnListener({
    kind: "ask",
    runId: "run_1",
    seq: 1,
    at: 1,
    approvalId: "a",
    callId: "c",
    name: "math_eval",
    args: {},
    question: "may it?",
    answers: ["once"],
  } as TurnEvent, {
    runId: "run_1",
    sessionKey: "agent:main:main",
    agentId: "main",
    principal: "owner",
    credential: "owner",
  });
  const { type, text } = await metrics.text();
  const after = read(text);
  assert.match(type, /^text\/plain; version=0\.0\.4/);
  for (const name of Object.keys(SERIES)) {
    await t.step(name, () => {
      const moved = [...after].filter(([key, value]) =>
        key.startsWith(name) && value !== (before.get(key) ?? 0)
      );
      assert.ok(moved.length > 0, `${name} stays:\n${text}`);
    });
  }
  const values = {
    'carapace_turns_total{agent="main",reason="done"}': 3,
    'carapace_steps_total{agent="main",model="fake:1"}': 6,
    'carapace_tool_calls_total{tool="math_eval",verdict="allow"}': 1,
    'carapace_model_calls_total{agent="main",model="fake:1"}': 6,
    'carapace_decisions_total{rule="effect",verdict="allow"}': 1,
    'carapace_decisions_total{rule="policy",verdict="ask"}': 2,
    'carapace_decisions_total{rule="approval",verdict="allow"}': 1,
    'carapace_decisions_total{rule="superseded",verdict="deny"}': 1,
    "carapace_prompts_per_100_turns": 66.67,
    "carapace_turns_running": 4,
    "carapace_turns_queued": 5,
    'carapace_sockets{state="ready"}': 2,
    'carapace_sockets{state="handshake"}': 1,
    "carapace_requests_in_flight": 2,
    'carapace_egress_requests_total{caller="tool:test",rule="unlisted",verdict="refused:host"}':
      1,
  };
  for (const [key, value] of Object.entries(values)) {
    assert.equal(after.get(key), value, `${key}\n${text}`);
  }
});

Deno.test("what a model calls its tools does not make series without end", async () => {
  await using house = await fakeHouse({
    limits: { stepsMax: 200 },
    steps: Array.from(
      { length: 12 },
      (_, n) =>
        calls(...Array.from({ length: 60 }, (_, k): [string, unknown] => [
          `made_up_${n}_${k}`,
          {},
        ])),
    ),
    forever: says("enough"),
  });
  using lag = new LoopLag();
  const listeners: ((call: { id: string; outcome: string }) => void)[] = [];
  using metrics = new Metrics({
    watchTurns: (listener) => house.desk.watch(listener),
    watchCalls: (listener) => house.spending.watch(listener),
    watchPlugins: (listener) => {
      listeners.push(listener);
      return { [Symbol.dispose]: () => listeners.length = 0 };
    },
    runs: () => house.desk.counts(),
    gateway: () => ({
      sockets: 0,
      preAuth: 0,
      inFlight: 0,
      refused: new Map<string, number>(),
    }),
    egress: () => [],
    whois: () => new Map(),
    budgets: () => [],
    failingAddresses: () => 0,
    guard: () => house.meter,
    rssBytes: () => 1,
    outbox: () => ({ pending: 0, oldestDueMs: 0, counts: new Map() }),
    lag,
  });
  await house.say("go");
  const { text } = await metrics.text();
  const lines = text.split("\n").filter((line) =>
    line.startsWith("carapace_tool_calls_total{")
  );
  assert.ok(lines.length <= 501, `${lines.length}`);
  const other = lines.find((line) => line.includes('tool="other"'));
  assert.equal(Number(other?.split(" ").at(-1)), 12 * 60 - 500);
});

Deno.test("GET /metrics wants the scope metrics, or read", async (t) => {
  await using house = await openGatewayHouse({
    principals: {
      "scraper": program("tok_scraper", { scopes: ["metrics"] }),
      "reader": program("tok_reader", { scopes: ["read"] }),
      "talker": program("tok_talker", { scopes: ["chat"] }),
    },
    deps: {
      metrics: () => Promise.resolve({ type: "text/plain", text: "up 1\n" }),
    },
  });
  const rows: [token: string, status: number][] = [
    ["scraper", 200],
    ["reader", 200],
    ["talker", 403],
    ["nobody", 401],
  ];
  for (const [token, status] of rows) {
    await t.step(token, async () => {
      const answer = await house.get("/metrics", {
        headers: { authorization: `Bearer ${token}` },
      });
      assert.equal(answer.status, status);
      const text = await answer.text();
      if (status === 200) assert.equal(text, "up 1\n");
    });
  }
});
