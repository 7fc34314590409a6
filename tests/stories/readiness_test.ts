/** Readiness of a whole house: each check fails for real, and is named. */
import assert from "node:assert/strict";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

interface Answer {
  status: number;
  body: {
    status: string;
    checks?: { name: string; ok: boolean; why?: string; fix?: string }[];
  };
}

async function ready(
  { url }: Pick<RealHouse, "url">,
  token?: string,
): Promise<Answer> {
  const headers: Record<string, string> = token === undefined
    ? {}
    : { authorization: `Bearer ${token}` };
  const answer = await fetch(`${url}/health/ready`, { headers });
  return { status: answer.status, body: await answer.json() };
}

/** Asks until a check has come out so; a check is kept for a second. */
async function until(
  house: RealHouse,
  name: string,
  ok: boolean,
): Promise<Answer> {
  const by = performance.now() + 20_000;
  while (performance.now() < by) {
    const answer = await ready(house, house.owner);
    if (answer.body.checks?.find((c) => c.name === name)?.ok === ok) {
      return answer;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new TypeError(`${name} never came to be ${ok ? "well" : "bad"}`);
}

const NAMES = [
  "store",
  "posture",
  "configuration",
  "providers",
  "event_loop",
  "disk",
  "memory",
];

Deno.test("readiness: who may read is told every check, a stranger one word", async () => {
  await using house = await openRealHouse();
  const { status, body } = await ready(house, house.owner);
  assert.equal(status, 200, JSON.stringify(body));
  const names = body.checks?.map(({ name }) => name) ?? [];
  for (const name of NAMES) assert.ok(names.includes(name), name);
  assert.deepEqual((await ready(house)).body, { status: "ok" });
  const narrow = await house.token({ scopes: ["chat"] });
  assert.deepEqual((await ready(house, narrow)).body, { status: "ok" });
});

Deno.test("readiness: a limit that is passed makes 503 and is named", async (t) => {
  const rows: [string, Record<string, number>, RegExp][] = [
    ["disk", { diskFreeMb: 1_000_000 }, /^only \d+ MB free$/],
    ["memory", { memoryMb: 64 }, /^this process has \d+ MB/],
    ["memory", { memoryFreeMb: 1_000_000 }, /^the machine has only \d+ MB/],
  ];
  for (const [name, health, why] of rows) {
    await t.step(JSON.stringify(health), async () => {
      await using house = await openRealHouse({ settings: { health } });
      const { status, body } = await ready(house, house.owner);
      assert.equal(status, 503);
      assert.equal(body.status, "unavailable");
      const bad = body.checks?.filter(({ ok }) => !ok) ?? [];
      assert.deepEqual(bad.map((check) => check.name), [name]);
      assert.match(bad[0]?.why ?? "", why);
      assert.match(bad[0]?.fix ?? "", /health\./);
      assert.deepEqual((await ready(house)).body, { status: "unavailable" });
    });
  }
});

Deno.test("readiness: a provider that is gone is named, and does not hold the answer", async () => {
  await using house = await openRealHouse();
  assert.equal((await ready(house, house.owner)).status, 200);
  await using dead = await openRealHouse({
    settings: {
      providers: { gone: { api: "chat", baseUrl: "http://127.0.0.1:9/v1" } },
      agents: { main: { model: "gone:m" } },
    },
  });
  const begun = performance.now();
  assert.equal((await ready(dead, dead.owner)).status, 200, "not known yet");
  assert.ok(performance.now() - begun < 2_000);
  const { status, body } = await until(dead, "providers", false);
  assert.equal(status, 503);
  const check = body.checks?.find(({ name }) => name === "providers");
  assert.match(check?.why ?? "", /^gone: /);
});

Deno.test("readiness: a store that does not write is named", async () => {
  await using house = await openRealHouse();
  assert.equal((await ready(house, house.owner)).status, 200);
  house.house.store.probe = () =>
    Promise.reject(new TypeError("disk I/O error"));
  const { status, body } = await until(house, "store", false);
  assert.equal(status, 503);
  const check = body.checks?.find(({ name }) => name === "store");
  assert.equal(check?.why, "disk I/O error");
});
