import assert from "node:assert/strict";
import {
  forwarding,
  openGatewayHouse,
} from "../../../tests/fakes/gateway_house.ts";
import { fakeHouse } from "../../../tests/fakes/house.ts";
import { fakeOpenai } from "../../../tests/fakes/openai.ts";
import { Gate, says } from "../../../tests/fakes/models.ts";
import type { ModelEvent, Provider } from "../../core/model.ts";
import { estimateBody } from "./paid.ts";

/** A provider of another dialect, in process. */
function converting(
  id: string,
  stream: (signal: AbortSignal) => AsyncGenerator<ModelEvent>,
): Provider {
  return {
    id,
    kind: "test",
    stream: (_, signal) => stream(signal),
    models: () => Promise.resolve([]),
  };
}

const BODY = { messages: [{ role: "user", content: "hi" }], max_tokens: 100 };

Deno.test("a call past the agents is reserved, settled and refused as any other", async (t) => {
  await using vendor = await fakeOpenai({
    script: () => ({
      text: ["Hello"],
      usage: { input: 40, output: 60, cached: 8 },
    }),
  });
  await using house = await fakeHouse({
    budgets: { keys: { tok_app: { tokensPerDay: 400 } } },
  });
  await using gateway = await openGatewayHouse({
    providers: [
      forwarding("fake", vendor.url),
      converting("other", async function* () {
        yield* says("Hel", "lo");
      }),
    ],
    deps: { spending: house.spending, usage: house.usage },
  });
  const ask = (model: string, more: object = {}) =>
    gateway.post("/v1/chat/completions", { model, ...BODY, ...more }, {
      headers: { authorization: "Bearer app-token" },
    });
  const standing = () => house.spending.ledger.standing("key", "tok_app");
  await t.step("forwarded, whole", async () => {
    const answer = await ask("fake/gpt-test");
    assert.equal(answer.status, 200, await answer.text());
    assert.deepEqual(standing().spent.tokens, 100);
  });
  await t.step("forwarded, streamed", async () => {
    const answer = await ask("fake/gpt-test", {
      stream: true,
      stream_options: { include_usage: true },
    });
    await answer.text();
    assert.deepEqual(standing().spent.tokens, 200);
  });
  await t.step("converted", async () => {
    const answer = await ask("other/x");
    assert.equal(answer.status, 200, await answer.text());
    assert.deepEqual(standing().spent.tokens, 212);
  });
  await t.step("refused by us: 429, and what to do", async () => {
    const answer = await ask("fake/gpt-test", { max_tokens: 5000 });
    assert.equal(answer.status, 429);
    const { error } = await answer.json();
    assert.equal(error.type, "insufficient_quota");
    assert.match(error.message, /budget of key "tok_app"/);
    assert.match(error.message, /Raise budgets\.keys\.tok_app\.tokensPerDay/);
    assert.ok(Number(answer.headers.get("retry-after")) > 0);
  });
  await t.step("nothing is held back, and the sums are stored", async () => {
    assert.equal(standing().reserved.tokens, 0);
    const { rows } = await house.usage.cost({ by: "model", days: 1 });
    assert.deepEqual(
      rows.map(({ name, calls, cachedTokens }) => [name, calls, cachedTokens]),
      [["fake:gpt-test", 2, 16], ["other:x", 1, 0]],
    );
    const by = await house.usage.cost({ by: "agent", days: 1 });
    assert.deepEqual(by.rows.map(({ name }) => name), ["-"]);
  });
});

Deno.test("however a call past the agents ends, nothing stays held back", async (t) => {
  await using house = await fakeHouse();
  const { ledger } = house.spending;
  const gate = new Gate();
  await using vendor = await fakeOpenai({
    script: (request) => {
      const body = JSON.stringify(request);
      return body.includes("refuse") ? { status: 400 } : {
        text: Array.from({ length: 50 }, (_, n) => `piece ${n} `),
        before: async (_: string, n: number) => {
          if (n >= 3) await gate.pass(new AbortController().signal);
        },
      };
    },
  });
  await using gateway = await openGatewayHouse({
    providers: [
      forwarding("fake", vendor.url),
      converting("slow", async function* (signal) {
        yield { kind: "text", text: "one " };
        await gate.pass(signal);
      }),
    ],
    deps: { spending: house.spending },
  });
  const ask = (model: string, more: object, signal?: AbortSignal) =>
    gateway.post(
      "/v1/chat/completions",
      { model, ...BODY, ...more },
      signal === undefined ? {} : { signal },
    );
  const settled = async () => {
    for (let n = 0; n < 200 && !ledger.isIdle; n++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.equal(ledger.isIdle, true);
  };
  await t.step("the vendor refuses", async () => {
    const messages = [{ role: "user", content: "refuse" }];
    const answer = await ask("fake/gpt-test", { messages });
    await answer.body?.cancel();
    assert.equal(answer.status, 400);
    await settled();
    assert.equal(ledger.standing("day", "").spent.tokens, 0);
  });
  for (const model of ["fake/gpt-test", "slow/x"]) {
    await t.step(`the client leaves ${model} in the middle`, async () => {
      const before = ledger.standing("day", "").spent.tokens;
      const leaving = new AbortController();
      const answer = await ask(model, { stream: true }, leaving.signal);
      const reader = answer.body?.getReader();
      await reader?.read();
      assert.equal(ledger.isIdle, false);
      leaving.abort();
      await reader?.closed.catch(() => {});
      await settled();
      assert.ok(ledger.standing("day", "").spent.tokens > before);
    });
  }
  gate.open();
});

Deno.test("estimateBody() is rather high than low", async (t) => {
  const url = `data:image/png;base64,${"A".repeat(90_000)}`;
  const of = (part: object) => ({ messages: [{ content: [part] }] });
  const image = of({ type: "image_url", image_url: { url } });
  const posed = of({ type: "text", text: url, image_url: { url } });
  const bare = (body: object) => Math.ceil(JSON.stringify(body).length / 3);
  const rows: [why: string, text: string, body: object, want: number[]][] = [
    ["words", "x".repeat(300), {}, [100, 8192]],
    ["a limit of its own", "", { max_tokens: 5 }, [0, 5]],
    ["the larger of two names counts", "", {
      max_tokens: 7,
      max_completion_tokens: 5,
    }, [0, 7]],
    ["several choices", "", { max_tokens: 5, n: 3 }, [0, 15]],
    ["nonsense", "", { max_tokens: "x", n: -1 }, [0, 8192]],
    ["an image is not text", JSON.stringify(image), image, [
      bare(of({ type: "image_url", image_url: { url: "" } })) + 1500,
      8192,
    ]],
    ["a text is no image", JSON.stringify(posed), posed, [bare(posed), 8192]],
  ];
  for (const [why, text, body, want] of rows) {
    await t.step(why, () => {
      const { inputTokens, outputTokensMax } = estimateBody(
        text,
        body as Record<string, unknown>,
      );
      assert.deepEqual([inputTokens, outputTokensMax], want);
    });
  }
});
