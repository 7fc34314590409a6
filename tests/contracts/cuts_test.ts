/**
 * The vendor dies in every state of its answer, on a real socket, behind the
 * real door: what was said stays said, the failure has its class, and what can
 * be asked again is asked again exactly once more.
 */
import assert from "node:assert/strict";
import { PUBLIC_OWNER } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import type { Message } from "../../src/core/message.ts";
import { ModelError, type ModelEvent } from "../../src/core/model.ts";
import { Secret } from "../../src/core/secret.ts";
import { type Clock, systemClock } from "../../src/core/time.ts";
import { EgressConfig } from "../../src/egress/config.ts";
import { makeEgress } from "../../src/egress/egress.ts";
import { makeAnthropicProvider } from "../../src/providers/anthropic.ts";
import { makeBedrockProvider } from "../../src/providers/bedrock/bedrock.ts";
import { makeGeminiProvider } from "../../src/providers/gemini.ts";
import { makeOllamaProvider } from "../../src/providers/ollama.ts";
import { makeOpenaiProvider } from "../../src/providers/openai/openai.ts";
import { makeRouter } from "../../src/providers/route.ts";
import type { Provider } from "../../src/core/model.ts";
import type { ProviderDeps } from "../../src/providers/vendor.ts";
import { fakeAnthropic } from "../fakes/anthropic.ts";
import { fakeBedrock } from "../fakes/bedrock.ts";
import { FakeClock } from "../fakes/clock.ts";
import { type Cut, cuttingWire } from "../fakes/cutting.ts";
import { fakeGemini } from "../fakes/gemini.ts";
import { fakeOllama } from "../fakes/ollama.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import type { Fake, FakeOptions, Say } from "../fakes/vendor.ts";

interface Vendor {
  fake(options: FakeOptions): Promise<Fake>;
  make(deps: ProviderDeps): Provider;
  /** What its wire says only at the end. */
  end: string;
}

const VENDORS: Readonly<Record<string, Vendor>> = {
  anthropic: {
    fake: fakeAnthropic,
    make: makeAnthropicProvider,
    end: '"stop_reason":"tool_use"',
  },
  "openai chat": {
    fake: fakeOpenai,
    make: (deps) => makeOpenaiProvider(deps, { api: "chat" }),
    end: '"finish_reason":"tool_calls"',
  },
  "openai responses": {
    fake: fakeOpenai,
    make: (deps) => makeOpenaiProvider(deps, { api: "responses" }),
    end: '"type":"response.completed"',
  },
  gemini: {
    fake: fakeGemini,
    make: makeGeminiProvider,
    end: '"finishReason"',
  },
  bedrock: { fake: fakeBedrock, make: makeBedrockProvider, end: "messageStop" },
  ollama: { fake: fakeOllama, make: makeOllamaProvider, end: '"done":true' },
};

const CALLS = [{ name: "look", args: { where: "up" } }];
const SPOKEN: Say = { text: ["first ", "second "], calls: CALLS };
const SILENT: Say = { calls: CALLS };

const MESSAGES: Message[] = [{
  role: "user",
  parts: [{ kind: "text", text: "hi", label: PUBLIC_OWNER }],
}];

/** Waits for retries are none; limits on silence are real. */
const quickClock: Clock = {
  now: systemClock.now,
  sleep: (ms, signal) =>
    ms < 10_000 ? Promise.resolve() : systemClock.sleep(ms, signal),
};

async function run(
  vendor: Vendor,
  say: Say,
  options: { cut: Cut; times?: number },
): Promise<{ events: ModelEvent[]; error: unknown; asked: number }> {
  await using fake = await vendor.fake({ script: [say] });
  await using wire = cuttingWire(fake.url, options.cut, options.times);
  using egress = makeEgress({
    config: EgressConfig.parse({}),
    clock: systemClock,
    log: silentLog,
  });
  const baseUrl = new URL(wire.url);
  const provider = vendor.make({
    id: "it",
    baseUrl,
    apiKey: new Secret("sk-cut", "env IT"),
    fetch: egress.door({
      caller: "provider:it",
      hosts: [{
        host: baseUrl.hostname,
        port: Number(baseUrl.port),
        scheme: "http",
      }],
    }),
    log: silentLog,
  });
  const router = makeRouter({
    entries: [{
      provider,
      because: "a test",
      models: [],
      model: "m",
      firstTokenMs: 20_000,
      idleMs: 20_000,
      retriesMax: 2,
    }],
    clock: quickClock,
    log: silentLog,
    random: () => 0.5,
  });
  const events: ModelEvent[] = [];
  let error: unknown;
  try {
    const signal = new AbortController().signal;
    const request = { messages: MESSAGES };
    for await (const event of router.stream("it:m", request, signal)) {
      events.push(event);
    }
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(wire.cuts > 0, "the wire was not cut");
  return { events, error, asked: fake.requests.length };
}

function wordsOf(events: readonly ModelEvent[]): string {
  return events.map((one) => one.kind === "text" ? one.text : "").join("");
}

for (const [name, vendor] of Object.entries(VENDORS)) {
  const early: [why: string, say: Say, cut: Cut][] = [
    ["before the headers", SPOKEN, "before_headers"],
    ["behind the headers", SPOKEN, "after_headers"],
    ["inside the first frame", SPOKEN, { behind: "\r\n", bytes: 9 }],
    ["inside the first words' frame", SPOKEN, { behind: "fir", bytes: 0 }],
    ["inside a tool call that nothing came before", SILENT, {
      behind: "loo",
      bytes: 0,
    }],
  ];
  for (const [why, say, cut] of early) {
    Deno.test(`${name}: cut ${why}, it is asked again and answers whole`, async () => {
      const { events, error, asked } = await run(vendor, say, { cut });
      assert.equal(error, undefined);
      assert.equal(asked, 2);
      assert.equal(wordsOf(events), [say.text ?? ""].flat().join(""));
      assert.equal(events.filter(({ kind }) => kind === "tool_call").length, 1);
      assert.deepEqual(events.at(-1), { kind: "end", reason: "tool_calls" });
    });
  }

  const late: [why: string, cut: Cut][] = [
    ["inside later words", { behind: "seco", bytes: 0 }],
    ["inside a tool call", { behind: "loo", bytes: 0 }],
    ["inside the last frame", { behind: vendor.end, bytes: 0 }],
  ];
  for (const [why, cut] of late) {
    Deno.test(`${name}: cut ${why}, it fails with the words handed on and is not asked again`, async () => {
      const { events, error, asked } = await run(vendor, SPOKEN, { cut });
      assert.ok(error instanceof ModelError, String(error));
      assert.equal(error.class, "network", error.message);
      assert.equal(asked, 1);
      assert.match(wordsOf(events), /^first (second )?$/);
      assert.ok(!events.some(({ kind }) => kind === "end"));
    });
  }

  const silences: [why: string, say: Say | { hang: true }, words: string][] = [
    ["never answers", { hang: true }, ""],
    ["stops before its first word", { ...SPOKEN, after: 0, then: "hang" }, ""],
    ["stops behind it", { ...SPOKEN, after: "first", then: "hang" }, "first "],
    ["stops inside a tool call", {
      ...SPOKEN,
      after: '"look',
      then: "hang",
    }, "first second "],
    [
      "never ends",
      { ...SPOKEN, after: vendor.end, then: "hang" },
      "first second ",
    ],
  ];
  for (const [why, reply, words] of silences) {
    Deno.test(`${name}: one that ${why} is left, as a timeout`, async () => {
      await using fake = await vendor.fake({ script: [reply] });
      const clock = new FakeClock();
      const router = makeRouter({
        entries: [{
          provider: vendor.make({
            id: "it",
            baseUrl: new URL(fake.url),
            apiKey: new Secret("sk-cut", "env IT"),
            fetch,
            log: silentLog,
          }),
          because: "a test",
          models: [],
          model: "m",
          firstTokenMs: 60_000,
          idleMs: 90_000,
          retriesMax: 0,
        }],
        clock,
        log: silentLog,
        random: () => 0.5,
      });
      const events: ModelEvent[] = [];
      const stop = new AbortController();
      const run = async () => {
        const request = { messages: MESSAGES };
        for await (const event of router.stream("it:m", request, stop.signal)) {
          events.push(event);
        }
      };
      let isOver = false;
      const failed = run().then(() => undefined, (error) => error).finally(
        () => isOver = true,
      );
      // Real bytes on a real socket; only the clock is ours.
      for (let n = 0; !isOver && n < 5000; n++) {
        if (fake.requests.length > 0 && wordsOf(events) === words) {
          await clock.tick(30_000);
        }
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      stop.abort();
      const error = await failed;
      // What says its end before it hangs has said everything.
      if (why === "never ends" && error === undefined) {
        assert.equal(events.at(-1)?.kind, "end");
        return;
      }
      assert.ok(error instanceof ModelError, String(error));
      assert.equal(error.class, "timeout");
      assert.equal(wordsOf(events), words);
      assert.match(error.hint ?? "", /firstTokenMs|idleMs/);
    });
  }

  Deno.test(`${name}: cut every time, it gives up with the class of the failure`, async () => {
    const { events, error, asked } = await run(vendor, SPOKEN, {
      cut: "after_headers",
      times: 99,
    });
    assert.ok(error instanceof ModelError && error.class === "network");
    assert.equal(asked, 3);
    assert.deepEqual(events, []);
  });
}
