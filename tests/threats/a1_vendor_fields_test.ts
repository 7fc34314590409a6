/** A1: a key that names its models names no other in a body that is sent on. */
import assert from "node:assert/strict";
import { openRealHouse } from "../fakes/real_house.ts";
import { say } from "../fakes/vendor.ts";

Deno.test("A1: what a vendor may read as another model is not sent on for a key that names its own", async (t) => {
  await using house = await openRealHouse({ script: () => say("done") });
  const narrow = await house.token({
    scopes: ["chat"],
    models: ["openai:gpt-test"],
  });
  const wide = await house.token({ scopes: ["chat"] });
  const ask = async (token: string, more: object) => {
    const answer = await fetch(`${house.url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({
        model: "openai:gpt-test",
        messages: [{ role: "user", content: "hi" }],
        ...more,
      }),
    });
    await answer.body?.cancel();
    return answer.status;
  };
  const others = [
    { models: ["openai:gpt-dear"] },
    { fallbacks: ["gpt-dear"] },
    { route: "fallback" },
    { provider: { order: ["dear"] } },
    { ["__proto__x"]: 1 },
  ];
  for (const other of others) {
    await t.step(Object.keys(other).join(), async () => {
      const before = house.openai.requests.length;
      assert.equal(await ask(narrow, other), 403);
      assert.equal(house.openai.requests.length, before);
      assert.equal(await ask(wide, other), 200);
    });
  }
  await t.step("what says nothing of models is", async () => {
    const fine = { temperature: 0, seed: 1, n: 1, user: "x", top_k: 3 };
    assert.equal(await ask(narrow, fine), 200);
  });
});
