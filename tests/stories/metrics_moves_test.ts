/**
 * Every number of `/metrics`, moved from outside a whole house: a row for each
 * series, and for each value of a label whose values are known. A series
 * without a row fails here.
 */
import assert from "node:assert/strict";
import { TailscaleConfig } from "../../src/auth/tailnet.ts";
import { EndReason, Verdict } from "../../src/core/turn.ts";
import { SERIES } from "../../src/ops/metrics.ts";
import { OutboxState } from "../../src/store/outbox.ts";
import { asked, type BusyHouse, openBusyHouse } from "../fakes/busy_house.ts";
import { FakeClient } from "../fakes/gateway_house.ts";
import { scratch, until } from "../process/processes.ts";

/** What is done; it resolves when the number must have moved. */
type Act = (house: BusyHouse, held: AsyncDisposableStack) => Promise<unknown>;

type Name = keyof typeof SERIES;

/** `label="value"`, or nothing for a series without labels; and the act. */
type Rows = Readonly<Record<string, Act>>;

const chat = (content: string, model = "carapace") => ({
  model,
  messages: [{ role: "user", content }],
});

const say: Act = ({ turn }) => turn("hello");

/** Past the agents, to a vendor that counts what it was told to keep. */
const pass: Act = async ({ post }) => {
  const { status, text } = await post(
    "/v1/chat/completions",
    chat("hello", "anthropic:claude-test"),
  );
  assert.equal(status, 200, text);
};

const passBadly = (content: string): Act => async ({ post }) => {
  const { text } = await post(
    "/v1/chat/completions",
    { ...chat(content, "openai:gpt-test"), stream: true },
  );
  return text;
};

const ends = (word: string, reason: string): Act => async ({ turn }) =>
  assert.equal(await turn(word), reason);

const answer = (decision: string): Act => async (house) => {
  const runId = await house.start("sum");
  await house.call("exec.approval.resolve", {
    id: await asked(house, runId),
    decision,
  });
  await house.real.house.desk.wait(runId, { timeoutMs: 10_000 });
};

const refusedWith =
  (status: number, ...request: Parameters<BusyHouse["post"]>): Act =>
  async ({ post }) => {
    const answer = await post(...request);
    assert.equal(answer.status, status, answer.text);
  };

/** Sends a message; what waits for a state of that very one. */
async function send(
  { call, client }: BusyHouse,
  to: string,
): Promise<(state: string) => Promise<unknown>> {
  const { messageId } = await call("send", {
    to,
    message: "hi",
    idempotencyKey: crypto.randomUUID(),
  });
  return (state) =>
    client.event("outbox", (p) => p.id === messageId && p.state === state);
}

/** A message the receiver answers so. */
const tell = (
  script: BusyHouse["receiver"]["script"],
  state: string,
): Act =>
async (house) => {
  house.receiver.script = script;
  const reaches = await send(house, "webhook/alerts");
  await reaches(state);
  house.receiver.script = () => undefined;
  // What goes on must not be on its way while the next row looks.
  if (state === "queued" || state === "failed") await reaches("sent");
};

/** A message that is with the receiver until the house is looked at. */
const hold: Act = async (house, held) => {
  const { receiver } = house;
  const gate = Promise.withResolvers<undefined>();
  const arrived = Promise.withResolvers<void>();
  receiver.script = () => {
    arrived.resolve();
    return gate.promise;
  };
  const reaches = await send(house, "webhook/alerts/held");
  await arrived.promise;
  held.defer(async () => {
    receiver.script = () => undefined;
    gate.resolve(undefined);
    await reaches("sent");
  });
};

/** A turn that goes on until the house was looked at. */
const running = (session: string) =>
async (
  house: BusyHouse,
  held: AsyncDisposableStack,
): Promise<string> => {
  const runId = await house.start("hang", session);
  await house.client.event("chat", (p) => p.runId === runId);
  held.defer(async () => {
    await house.call("chat.abort", { sessionKey: session });
    await house.real.house.desk.wait(runId, { timeoutMs: 10_000 });
  });
  return runId;
};

const socket: Act = async ({ real }, held) => {
  const client = held.use(
    new FakeClient(`${real.url.replace("http", "ws")}/ws`),
  );
  await client.event("connect.challenge");
};

const plugin = (args: object): Act => ({ client }) =>
  client.call("plugins.call", { id: "probe", tool: "say", args });

const MOVES = {
  // First: whoever failed once is remembered, and all rows come from one place.
  carapace_failing_addresses: {
    "": async ({ get }) =>
      assert.equal((await get("/v1/models", "no")).status, 401),
  },
  carapace_turns_total: {
    'reason="done"': ends("hello", "done"),
    'reason="cancelled"': async (house) => {
      const runId = await house.start("hang", "agent:main:c");
      await house.client.event("chat", (p) => p.runId === runId);
      await house.call("chat.abort", { sessionKey: "agent:main:c" });
      await house.real.house.desk.wait(runId, { timeoutMs: 10_000 });
    },
    'reason="error"': ends("fail", "error"),
    'reason="loop_detected"': ends("loop", "loop_detected"),
    'reason="tokens"': ends("long", "tokens"),
    'reason="time"': ends("hang", "time"),
    'reason="denied"': ends("refuse", "denied"),
    'reason="steps"': ends("steps", "steps"),
    'reason="budget"': async ({ turn }) =>
      assert.equal(await turn("dear", "agent:poor:main"), "budget"),
  },
  carapace_steps_total: { 'agent="main"': say },
  carapace_tool_calls_total: {
    'tool="current_time",verdict="allow"': ({ turn }) => turn("time"),
    'tool="math_eval",verdict="ask"': answer("deny"),
    'tool="math_eval",verdict="deny"': ({ turn }) => turn("never"),
  },
  carapace_decisions_total: {
    'verdict="allow"': ({ turn }) => turn("time"),
    'rule="policy",verdict="ask"': answer("deny"),
    'rule="policy",verdict="deny"': ({ turn }) => turn("never"),
    'rule="approval",verdict="allow"': answer("allow-once"),
    'rule="approval",verdict="deny"': answer("deny"),
    'rule="superseded",verdict="deny"': async (house) => {
      const first = await house.start("sum", "agent:main:s");
      await asked(house, first);
      await house.turn("hello", "agent:main:s");
    },
    'rule="expired",verdict="deny"': ({ turn }) => turn("sum"),
  },
  carapace_prompts_per_100_turns: { "": answer("deny") },
  carapace_model_calls_total: { 'agent="main"': say, 'agent="-"': pass },
  carapace_tokens_total: {
    'kind="input"': say,
    'kind="output"': say,
    'kind="cached"': say,
    'kind="cache_write"': pass,
  },
  carapace_cost_usd_total: { 'agent="main"': say },
  carapace_egress_requests_total: {
    'verdict="ok"': say,
    'verdict="refused:port"': passBadly("away"),
    'verdict="failed:refused"': async ({ post }) =>
      void await post("/v1/chat/completions", chat("hello", "gone:m")),
    'verdict="cut:other"': passBadly("break"),
  },
  carapace_outbox_changes_total: {
    'state="queued"': tell(() => undefined, "queued"),
    'state="sending"': tell(() => undefined, "sent"),
    'state="sent"': tell(() => undefined, "sent"),
    'state="failed"': tell(
      () =>
        new Response(null, { status: 429, headers: { "retry-after": "1" } }),
      "failed",
    ),
    'state="dead"': tell(() => new Response(null, { status: 400 }), "dead"),
    'state="unknown"': tell(
      () => new Response(null, { status: 500 }),
      "unknown",
    ),
  },
  carapace_outbox_pending: { "": hold },
  carapace_outbox_oldest_due_seconds: { "": hold },
  carapace_turns_running: { "": running("agent:main:r") },
  carapace_turns_queued: {
    "": async (house, held) => {
      await running("agent:main:q")(house, held);
      await house.start("hello", "agent:main:q");
    },
  },
  carapace_sockets: {
    'state="handshake"': socket,
    'state="ready"': async ({ real }, held) => {
      const url = `${real.url.replace("http", "ws")}/ws`;
      const client = held.use(new FakeClient(url));
      const { ok } = await client.connect({ auth: { token: real.owner } });
      assert.ok(ok);
    },
  },
  carapace_requests_refused_total: {
    'code="unauthorized"': refusedWith(401, "/v1/chat/completions", {}, "no"),
    'code="bad_input"': refusedWith(400, "/v1/chat/completions", {}),
    'code="not_found"': refusedWith(
      404,
      "/v1/chat/completions",
      chat("x", "nobody:none"),
    ),
    'code="too_large"': refusedWith(
      413,
      "/tools/invoke",
      "x".repeat(1_048_577),
    ),
    'code="upstream"': refusedWith(
      502,
      "/v1/chat/completions",
      chat("hello", "gone:m"),
    ),
    'code="forbidden"': async ({ real, get }) => {
      const token = await real.token({ scopes: ["chat"] });
      assert.equal((await get("/metrics", token)).status, 403);
    },
    'code="rate_limited"': async (house, held) => {
      const { real } = house;
      const client = held.use(
        new FakeClient(`${real.url.replace("http", "ws")}/ws`),
      );
      await client.connect({ auth: { token: real.owner } });
      // They wait for what goes on: none is answered before the next is read.
      const runId = await running("agent:main:l")(house, held);
      for (let n = 0; n < 200; n++) {
        const params = { runId, timeoutMs: 60_000 };
        client.send({ type: "req", id: `w${n}`, method: "agent.wait", params });
      }
      await client.frame((f) => f.error?.code === "RATE_LIMITED");
    },
  },
  carapace_whois_total: {
    // No test comes from an address of the tailnet; nobody is at the socket.
    'outcome="failed"': async ({ real }) => {
      const { whois } = real.house.identity;
      const users = { "owner@example.com": { scopes: ["read"] } };
      const socket = "/nonexistent/tailscaled.sock";
      whois.adopt(TailscaleConfig.parse({ socket, users }));
      const peer = { address: "100.64.0.7", port: 40_000 };
      await assert.rejects(whois.authenticate(peer));
    },
  },
  carapace_ignored_errors_total: {
    'reason="the stream\'s reader left"': async ({ real }) => {
      const leaving = new AbortController();
      const { body } = await fetch(`${real.url}/v1/chat/completions`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${real.owner}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({ ...chat("hang"), stream: true }),
        signal: leaving.signal,
      });
      await body?.getReader().read();
      leaving.abort();
    },
  },
  carapace_plugin_calls_total: {
    'outcome="done"': plugin({ log: "hello" }),
    'outcome="failed"': plugin({ trap: "now" }),
  },
  carapace_approvals_asked_total: { 'agent="main"': answer("deny") },
  carapace_requests_in_flight: {
    "": async (house, held) => {
      const runId = await house.start("hang", "agent:main:f");
      const { client, call, real } = house;
      const params = { runId, timeoutMs: 60_000 };
      client.send({ type: "req", id: "held", method: "agent.wait", params });
      await call("health");
      held.defer(async () => {
        await call("chat.abort", { sessionKey: "agent:main:f" });
        await real.house.desk.wait(runId, { timeoutMs: 10_000 });
        await client.frame((frame) => frame.id === "held");
      });
    },
  },
  carapace_budget_spent_ratio: { 'scope="day"': say },
  carapace_event_loop_lag_seconds: {
    "_count": () => new Promise((resolve) => setTimeout(resolve, 600)),
    // Later than a tenth of a second: what is slow is seen as slow.
    "_sum": async () => {
      const end = performance.now() + 700;
      while (performance.now() < end);
      await new Promise((resolve) => setTimeout(resolve, 50));
    },
  },
  carapace_resident_bytes: {
    "": (_house, held) => {
      const held64 = new Uint8Array(67_108_864).fill(1);
      held.defer(() => void held64.fill(0, 0, 1));
      return Promise.resolve();
    },
  },
} satisfies Record<Name, Rows>;

/** Names of a label's known values that nothing in this program can reach. */
const UNREACHABLE: Readonly<Record<string, string>> = {
  "outbox streaming": "no network here is written to by edits",
  "turns interrupted": "it takes several houses: the last test",
};

/** Where a label's values are known, each needs a row. */
const KNOWN: [Name, string, readonly string[]][] = [
  ["carapace_turns_total", "reason", EndReason.options],
  ["carapace_tool_calls_total", "verdict", Verdict.options],
  ["carapace_outbox_changes_total", "state", OutboxState.options],
  ["carapace_sockets", "state", ["handshake", "ready"]],
  [
    "carapace_tokens_total",
    "kind",
    ["input", "output", "cached", "cache_write"],
  ],
  ["carapace_plugin_calls_total", "outcome", ["done", "failed"]],
];

async function scrape({ get }: BusyHouse): Promise<Map<string, number>> {
  const { status, text } = await get("/metrics");
  assert.equal(status, 200, text);
  const values = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^([a-z0-9_]+(?:\{.*\})?) (\S+)$/.exec(line);
    if (match?.[1] !== undefined) values.set(match[1], Number(match[2]));
  }
  return values;
}

/** Sums what belongs to a row. */
function read(
  values: ReadonlyMap<string, number>,
  name: string,
  labels: string,
): number {
  const wanted = labels.startsWith("_") ? name + labels : name;
  const pairs = labels.startsWith("_") ? [] : labels.split(",");
  let sum = 0;
  for (const [key, value] of values) {
    const [series = "", rest = ""] = key.split("{", 2);
    if (series === wanted && pairs.every((pair) => rest.includes(pair))) {
      sum += value;
    }
  }
  return sum;
}

Deno.test("every series has a row here, and every known value of a label", () => {
  assert.deepEqual(Object.keys(MOVES).sort(), Object.keys(SERIES).sort());
  for (const [name, label, values] of KNOWN) {
    const rows = Object.keys(MOVES[name]).join(" ");
    const missing = values.filter((value) =>
      !rows.includes(`${label}="${value}"`) &&
      UNREACHABLE[`${name.split("_")[1]} ${value}`] === undefined
    );
    assert.deepEqual(missing, [], name);
  }
});

Deno.test("every series moves when what it counts happens to a house", async (t) => {
  await using house = await openBusyHouse();
  for (const [name, rows] of Object.entries<Rows>(MOVES)) {
    for (const [labels, act] of Object.entries(rows)) {
      await t.step(`${name} ${labels}`, async () => {
        const before = read(await scrape(house), name, labels);
        {
          await using held = new AsyncDisposableStack();
          await act(house, held);
          let after = new Map<string, number>();
          await until(`${name} ${labels} moves`, async () => {
            after = await scrape(house);
            return read(after, name, labels) > before;
          }, 5_000).catch(() => {
            const seen = [...after].filter(([key]) => key.startsWith(name));
            assert.fail(`it stays ${before}: ${JSON.stringify(seen)}`);
          });
        }
      });
    }
  }
});

Deno.test("a turn that is cut off again and again moves its series at last", async () => {
  await using dir = await scratch();
  const stateDir = `${dir.path}/state`;
  let count = 0;
  for (let houses = 0; houses < 6 && count === 0; houses++) {
    await using house = await openBusyHouse({ stateDir });
    const seen = house.real.openai.requests.length;
    if (houses === 0) await house.start("hang", "agent:main:cut");
    else await house.real.house.resume();
    await until("its model is asked, or it is given up", async () => {
      count = read(
        await scrape(house),
        "carapace_turns_total",
        'reason="interrupted"',
      );
      return count > 0 || house.real.openai.requests.length > seen;
    });
  }
  assert.equal(count, 1);
});
