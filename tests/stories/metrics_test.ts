/** What a whole house shows a scraper, and how many lines of it there can be. */
import assert from "node:assert/strict";
import { SERIES } from "../../src/ops/metrics.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

async function scrape({ url, owner }: RealHouse): Promise<string> {
  const answer = await fetch(`${url}/metrics`, {
    headers: { authorization: `Bearer ${owner}` },
  });
  assert.equal(answer.status, 200);
  return await answer.text();
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
