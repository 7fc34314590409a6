/**
 * Every 429 there is over HTTP: it says when to come back, and what it says of
 * the buckets has the form and the meaning of the IETF draft (revision 11).
 *
 * @see https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
 */
import assert from "node:assert/strict";
import { openBusyHouse } from "../fakes/busy_house.ts";
import { FakeClock } from "../fakes/clock.ts";
import {
  type FakeGatewayHouse,
  forwarding,
  openGatewayHouse,
} from "../fakes/gateway_house.ts";
import { silence } from "../fakes/turns.ts";
import { until } from "../process/processes.ts";

const APP = { authorization: "Bearer app-token" };

/** What is refused, how the bucket is called, and what empties it. */
interface Row {
  bucket: string;
  limits: Record<string, number>;
  ask(house: FakeGatewayHouse): Promise<Response>;
}

const chat = (model: string) => ({
  model,
  messages: [{ role: "user", content: "x" }],
});

const ROWS: readonly Row[] = [
  {
    bucket: "requests",
    limits: { readsPerSecond: 0.2, readsBurst: 2 },
    ask: (house) => house.get("/v1/models", { headers: APP }),
  },
  {
    bucket: "turns",
    limits: { turnsPerSecond: 0.2, turnsBurst: 2 },
    ask: (house) =>
      house.post("/v1/chat/completions", chat("carapace"), { headers: APP }),
  },
  {
    bucket: "models",
    limits: { passThroughPerSecond: 0.2, passThroughBurst: 2 },
    // Nobody is there: it was charged all the same.
    ask: (house) =>
      house.post("/v1/chat/completions", chat("fake:m"), { headers: APP }),
  },
];

/** A List of Items whose values are Strings and whose parameters Integers. */
function parseList(text: string | null): Map<string, Record<string, number>> {
  const items = new Map<string, Record<string, number>>();
  for (const item of text?.split(/, ?/) ?? []) {
    const match = /^"([a-z]+)"((?:;[a-z]+=\d{1,15})+)$/.exec(item);
    assert.ok(match !== null, `no structured item: ${item}`);
    const [, name = "", parameters = ""] = match;
    const pairs = parameters.split(";").slice(1).map((pair) => pair.split("="));
    items.set(
      name,
      Object.fromEntries(pairs.map(([key, value]) => [key, Number(value)])),
    );
  }
  return items;
}

/** Checks a refusal's fields against each other; when to come back, in seconds. */
async function checkRefusal(answer: Response, bucket: string): Promise<number> {
  assert.equal(answer.status, 429, await answer.text());
  const after = answer.headers.get("retry-after") ?? "";
  assert.match(after, /^[1-9]\d*$/, "delay-seconds, and never none");
  const policies = parseList(answer.headers.get("ratelimit-policy"));
  const limits = parseList(answer.headers.get("ratelimit"));
  assert.deepEqual([...limits.keys()], [...policies.keys()]);
  for (const [name, { r, t }] of limits) {
    const { q, w } = policies.get(name) ?? {};
    assert.ok(r !== undefined && t !== undefined, name);
    assert.ok(q !== undefined && w !== undefined && q > 0 && w > 0, name);
    assert.ok(r <= q, `${name}: ${r} of ${q} are left`);
    assert.ok(t <= w, `${name}: ${t} s of a window of ${w}`);
  }
  const { r, t = Infinity } = limits.get(bucket) ?? {};
  assert.equal(r, 0, "the bucket that refused is empty");
  assert.ok(Number(after) >= t, "never earlier than the window's end");
  return Number(after);
}

Deno.test("429: each bucket says so, and means when it says to come back", async (t) => {
  for (const { bucket, limits, ask } of ROWS) {
    await t.step(bucket, async () => {
      const clock = new FakeClock();
      await using house = await openGatewayHouse({
        limits,
        deps: { clock },
        providers: [forwarding("fake", "http://127.0.0.1:1")],
      });
      const status = async () => {
        const answer = await ask(house);
        await answer.body?.cancel();
        return answer.status;
      };
      // Up to the border, and over it.
      assert.notEqual(await status(), 429);
      assert.notEqual(await status(), 429);
      const seconds = await checkRefusal(await ask(house), bucket);
      await clock.tick(seconds * 1000 - 1);
      assert.equal(await status(), 429, "a moment too early");
      await clock.tick(1);
      assert.notEqual(await status(), 429, "when it was said");
    });
  }
});

Deno.test("429: too many at once of one principal", async () => {
  await using house = await openGatewayHouse({
    limits: { inFlightPerPrincipalMax: 1 },
  });
  house.turns.script = silence;
  const leaving = new AbortController();
  const held = house.post(
    "/v1/chat/completions",
    { ...chat("carapace"), stream: true },
    { headers: APP, signal: leaving.signal },
  );
  await until("it is in flight", () => house.gateway.counts().inFlight === 1);
  const answer = await house.get("/v1/models", { headers: APP });
  assert.equal(answer.status, 429, await answer.text());
  assert.equal(answer.headers.get("retry-after"), "1");
  leaving.abort();
  await held.catch(() => {});
  await until("it is over", () => house.gateway.counts().inFlight === 0);
  const again = await house.get("/v1/models", { headers: APP });
  assert.equal(again.status, 200, await again.text());
});

Deno.test("429: who fails to say who it is waits longer each time, and is told of no bucket", async () => {
  await using house = await openBusyHouse();
  const waits: number[] = [];
  for (let n = 0; n < 9; n++) {
    const { status, headers } = await house.get("/v1/models", `wrong-${n}`);
    assert.equal(status, n < 5 ? 401 : 429, `try ${n}`);
    assert.equal(headers.get("ratelimit"), null);
    assert.equal(headers.get("ratelimit-policy"), null);
    if (status === 429) waits.push(Number(headers.get("retry-after")));
  }
  assert.deepEqual(waits, [1, 2, 4, 8]);
});

Deno.test("429: a budget that is spent is there again tomorrow", async () => {
  await using house = await openBusyHouse({
    settings: { budgets: { agents: { poor: { usdPerDay: 0 } } } },
  });
  const { status, headers, text } = await house.post(
    "/v1/chat/completions",
    chat("carapace/poor"),
  );
  assert.equal(status, 429, text);
  const seconds = Number(headers.get("retry-after"));
  assert.ok(seconds >= 1 && seconds <= 86_400 + 3_600, `${seconds}`);
  assert.match(text, /insufficient_quota/);
});
