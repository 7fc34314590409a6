/** The numbers of a whole house, scraped before and after something happened. */
import assert from "node:assert/strict";
import { SERIES } from "../../src/ops/metrics.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import { ownerOf } from "../fakes/plugins.ts";

async function scrape({ url, owner }: RealHouse): Promise<string> {
  const answer = await fetch(`${url}/metrics`, {
    headers: { authorization: `Bearer ${owner}` },
  });
  assert.equal(answer.status, 200);
  return await answer.text();
}

function valueOf(text: string, series: RegExp): number {
  let sum = 0;
  for (const line of text.split("\n")) {
    const [name = "", value] = line.split(/ (?=[^ ]+$)/);
    if (!line.startsWith("#") && series.test(name)) sum += Number(value);
  }
  return sum;
}

Deno.test("every series is scraped, and no other", async () => {
  await using house = await openRealHouse();
  const text = await scrape(house);
  const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)]
    .map(([, name, kind]) => [name, kind]);
  assert.deepEqual(
    types.sort(),
    Object.entries(SERIES).map(([name, { kind }]) => [name, kind]).sort(),
  );
});

Deno.test("what happens in a house moves what is scraped", async (t) => {
  await using house = await openRealHouse();
  const rows: [string, RegExp, () => Promise<unknown>][] = [
    ["a turn", /^carapace_turns_total/, () => say(house, "carapace")],
    ["its steps", /^carapace_steps_total/, () => say(house, "carapace")],
    [
      "a model's call",
      /^carapace_model_calls_total/,
      () => say(house, "openai:gpt-test"),
    ],
    [
      "its tokens",
      /^carapace_tokens_total.*kind="input"/,
      () => say(house, "openai:gpt-test"),
    ],
    [
      "the door out",
      /^carapace_egress_requests_total/,
      () => say(house, "openai:gpt-test"),
    ],
    [
      "a refusal of a stranger",
      /^carapace_requests_refused_total\{code="unauthorized"\}/,
      async () => {
        const answer = await fetch(`${house.url}/v1/models`);
        await answer.body?.cancel();
      },
    ],
    [
      "a refusal on a socket",
      /^carapace_requests_refused_total\{code="bad_input"\}/,
      async () => {
        using client = await ownerOf(house);
        await client.call("no.such.method", {});
      },
    ],
    [
      "a socket",
      /^carapace_sockets\{state="ready"\}/,
      async () => void kept.use(await ownerOf(house)),
    ],
  ];
  using kept = new DisposableStack();
  for (const [name, series, act] of rows) {
    await t.step(name, async () => {
      const before = valueOf(await scrape(house), series);
      await act();
      const after = valueOf(await scrape(house), series);
      assert.ok(after > before, `${series}: ${before}, then ${after}`);
    });
  }
});

async function say({ url, owner }: RealHouse, model: string): Promise<void> {
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${owner}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({
      model,
      messages: [{ role: "user", content: "hello" }],
    }),
  });
  assert.equal(answer.status, 200, await answer.text());
}

Deno.test("a stranger cannot make series without end", async () => {
  await using house = await openRealHouse();
  const ask = async (n: number) => {
    const answer = await fetch(`${house.url}/v1/x${n}`, {
      headers: { authorization: `Bearer ${house.owner}` },
    });
    await answer.body?.cancel();
    await fetch(`${house.url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${house.owner}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({
        model: `nobody${n}:m${n}`,
        messages: [{ role: "user", content: "x" }],
      }),
    }).then((answer) => answer.body?.cancel());
  };
  await ask(0);
  const lines = (await scrape(house)).split("\n").length;
  for (let n = 1; n < 60; n++) await ask(n);
  const text = await scrape(house);
  assert.ok(text.split("\n").length <= lines + 3, text);
  assert.doesNotMatch(text, /nobody\d/);
});
