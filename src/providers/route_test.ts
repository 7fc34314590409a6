import assert from "node:assert/strict";
import { FakeClock } from "../../tests/fakes/clock.ts";
import type { AppError } from "../core/errors.ts";
import { silentLog } from "../core/log.ts";
import {
  ModelError,
  type ModelEvent,
  type ModelInfo,
  type ModelRequest,
  type Provider,
} from "../core/model.ts";
import type { ProviderEntry } from "./registry.ts";
import { makeRouter, type Router, waitBefore } from "./route.ts";
import { ALIVE } from "./wire.ts";

type Try = (
  request: ModelRequest,
  signal: AbortSignal,
) => AsyncIterable<ModelEvent>;

const TEXT: ModelEvent = { kind: "text", text: "hi" };
const END: ModelEvent = { kind: "end", reason: "stop" };
const busy = (retryAfterMs?: number) =>
  new ModelError("overloaded", "busy", {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });

async function* play(
  ...steps: (ModelEvent | Error)[]
): AsyncGenerator<ModelEvent> {
  for (const step of steps) {
    await Promise.resolve();
    if (step instanceof Error) throw step;
    yield step;
  }
}

async function* silence(
  signal: AbortSignal,
  ...first: ModelEvent[]
): AsyncGenerator<ModelEvent> {
  yield* first;
  await new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

function entry(
  id: string,
  tries: Try[],
  more: Partial<ProviderEntry> & {
    list?: () => Promise<ModelInfo[]>;
  } = {},
): ProviderEntry & { asked: ModelRequest[] } {
  const asked: ModelRequest[] = [];
  const { list, ...fields } = more;
  const provider: Provider = {
    id,
    kind: "test",
    async *stream(request, signal) {
      asked.push(request);
      yield* (tries[asked.length - 1] ?? tries.at(-1))?.(request, signal) ??
        play(END);
    },
    models: list ?? (() => Promise.resolve([{ id: "one" }, { id: "two" }])),
  };
  return {
    provider,
    because: "a test",
    models: [],
    model: "auto",
    firstTokenMs: 1000,
    idleMs: 300,
    retriesMax: 2,
    ...fields,
    asked,
  };
}

function router(
  clock: FakeClock,
  ...entries: ProviderEntry[]
): Router {
  return makeRouter({ entries, clock, log: silentLog, random: () => 0.5 });
}

const NEVER = new AbortController().signal;
const ask = (over: Router, name = "a:m", signal = NEVER) =>
  Array.fromAsync(over.stream(name, { messages: [] }, signal));

Deno.test("resolve() finds the provider, or says which there are", async (t) => {
  const over = router(
    new FakeClock(),
    entry("anthropic", [], { models: ["opus"] }),
    entry("local", []),
  );
  const rows: [name: string, want: [string, string]][] = [
    ["local:llama3:8b", ["local", "llama3:8b"]],
    ["local/meta/llama", ["local", "meta/llama"]],
    ["opus", ["anthropic", "opus"]],
  ];
  for (const [name, want] of rows) {
    await t.step(name, () => {
      const { provider, model } = over.resolve(name);
      assert.deepEqual([provider.id, model], want);
    });
  }
  const bad: [name: string, hint: RegExp][] = [
    ["antropic:opus", /Did you mean "anthropic"\? .*"anthropic", "local"/],
    ["zebra:x", /^Write provider:model; the providers are "anthropic"/],
    ["nonsense", /Write provider:model/],
  ];
  for (const [name, hint] of bad) {
    await t.step(`${name} is not found`, () => {
      assert.throws(() => over.resolve(name), (error: AppError) => {
        assert.equal(error.code, "not_found");
        assert.match(error.message, new RegExp(name));
        assert.match(error.hint ?? "", hint);
        return true;
      });
    });
  }
});

Deno.test("stream() tries again before the first word, and says how long", async () => {
  const clock = new FakeClock();
  const one = entry("a", [
    () => play(busy()),
    () => play({ kind: "usage", usage: ZERO }, busy(2000)),
    () => play(TEXT, END),
  ]);
  const all = ask(router(clock, one));
  await clock.tick(0);
  assert.equal(clock.slept.at(-1), 375);
  await clock.tick(375);
  assert.equal(clock.slept.at(-1), 2750);
  await clock.tick(2750);
  assert.deepEqual((await all).filter((e) => e.kind !== "usage"), [TEXT, END]);
  assert.equal(one.asked.length, 3);
  assert.equal(clock.sleeping, 0);
});

const ZERO = {
  inputTokens: 0,
  outputTokens: 0,
  cachedTokens: 0,
  cacheWriteTokens: 0,
};

Deno.test("stream() gives up after retriesMax", async () => {
  const clock = new FakeClock();
  const one = entry("a", [() => play(busy())], { retriesMax: 1 });
  const all = assert.rejects(ask(router(clock, one)), { class: "overloaded" });
  await clock.tick(0);
  await clock.tick(10_000);
  await all;
  assert.equal(one.asked.length, 2);
});

Deno.test("stream() never tries again after a word, or what cannot help", async (t) => {
  const rows: [why: string, steps: (ModelEvent | Error)[]][] = [
    ["after a text", [TEXT, busy()]],
    ["after a thought", [{ kind: "thinking", text: "hm" }, busy()]],
    ["a refused key", [new ModelError("auth", "no")]],
    ["a refusal", [new ModelError("refused", "no")]],
    ["a wait that is too long", [busy(61_000)]],
    ["a programming error", [new TypeError("bug")]],
  ];
  for (const [why, steps] of rows) {
    await t.step(why, async () => {
      const one = entry("a", [() => play(...steps)]);
      await assert.rejects(ask(router(new FakeClock(), one)));
      assert.equal(one.asked.length, 1);
    });
  }
});

Deno.test("stream() ends a call that says nothing, and tries again", async () => {
  const clock = new FakeClock();
  const one = entry("a", [
    (_, signal) => silence(signal),
    () => play(TEXT, END),
  ]);
  const all = ask(router(clock, one));
  await clock.tick(0);
  await clock.tick(999);
  assert.equal(one.asked.length, 1);
  await clock.tick(1);
  await clock.tick(375);
  assert.deepEqual(await all, [TEXT, END]);
  assert.equal(one.asked.length, 2);
});

Deno.test("stream() counts a sign of life, and keeps it to itself", async () => {
  const clock = new FakeClock();
  const gate = Promise.withResolvers<void>();
  const one = entry("a", [async function* () {
    yield ALIVE;
    await gate.promise;
    yield ALIVE;
    yield TEXT;
    yield END;
  }], { retriesMax: 0 });
  const all = ask(router(clock, one));
  await clock.tick(900);
  gate.resolve();
  await clock.tick(900);
  assert.deepEqual(await all, [TEXT, END]);
});

Deno.test("stream() ends a call that falls silent after a word, with the word handed on", async () => {
  const clock = new FakeClock();
  const one = entry("a", [(_, signal) => silence(signal, TEXT)]);
  const events: ModelEvent[] = [];
  const run = (async () => {
    for await (
      const event of router(clock, one).stream("a:m", { messages: [] }, NEVER)
    ) {
      events.push(event);
    }
  })();
  const failed = assert.rejects(
    run,
    (error) =>
      error instanceof ModelError && error.class === "timeout" &&
      error.hint?.includes("idleMs") === true,
  );
  await clock.tick(0);
  for (let n = 0; n < 6; n++) await clock.tick(300);
  await failed;
  assert.deepEqual(events, [TEXT]);
  assert.equal(one.asked.length, 1);
});

Deno.test("stream() does not count the reader's time as the vendor's", async () => {
  const clock = new FakeClock();
  const one = entry("a", [() => play(TEXT, TEXT, END)]);
  const seen: string[] = [];
  for await (
    const event of router(clock, one).stream("a:m", { messages: [] }, NEVER)
  ) {
    seen.push(event.kind);
    await clock.tick(5000);
    await clock.tick(5000);
  }
  assert.deepEqual(seen, ["text", "text", "end"]);
});

Deno.test("stream() passes an abort on, also out of a wait", async (t) => {
  const reason = new DOMException("enough", "AbortError");
  const rows: [why: string, first: Try][] = [
    ["while it streams", (_, signal) => silence(signal, TEXT)],
    ["while it waits to try again", () => play(busy())],
  ];
  for (const [why, first] of rows) {
    await t.step(why, async () => {
      const clock = new FakeClock();
      const stop = new AbortController();
      const all = assert.rejects(
        ask(router(clock, entry("a", [first])), "a:m", stop.signal),
        (error) => error === reason,
      );
      await clock.tick(0);
      stop.abort(reason);
      await all;
      assert.equal(clock.sleeping, 0);
    });
  }
});

Deno.test("settle() asks a server for its model, once, and skips what cannot chat", async () => {
  let lists = 0;
  const list = () => {
    lists++;
    return Promise.resolve([{ id: "text-embed-3" }, { id: "llama" }]);
  };
  const one = entry("a", [() => play(END)], { list });
  const over = router(new FakeClock(), one);
  assert.equal(await over.settle("a:auto", NEVER), "a:llama");
  assert.equal(await over.settle("a:named", NEVER), "a:named");
  await ask(over, "a:auto");
  assert.equal(one.asked[0]?.model, "llama");
  assert.equal(lists, 1);
  const empty = entry("b", [], { list: () => Promise.resolve([]) });
  await assert.rejects(router(new FakeClock(), empty).settle("b:auto", NEVER), {
    class: "not_found",
  });
});

Deno.test("list() keeps what it knows of a vendor that is down", async () => {
  const clock = new FakeClock();
  let isUp = true;
  const list = () =>
    isUp
      ? Promise.resolve([{ id: "x" }])
      : Promise.reject(new ModelError("network", "down"));
  const over = router(
    clock,
    entry("a", [], { list, models: ["mine"] }),
    entry("b", []),
    entry("c", [], {
      list: () => Promise.reject(new ModelError("network", "down")),
      models: ["told"],
    }),
  );
  const want = ["a:mine", "a:x", "b:one", "b:two", "c:told"];
  const names = async () =>
    (await over.list(NEVER)).map((one) => `${one.provider}:${one.id}`);
  assert.deepEqual(await names(), want);
  isUp = false;
  assert.deepEqual(await names(), want);
  await clock.tick(300_001);
  assert.deepEqual(await names(), want);
});

Deno.test("waitBefore() backs off with jitter up to a cap", () => {
  const waits = [0, 1, 2, 3, 4, 5, 9].map((n) =>
    waitBefore(busy(), n, () => 1)
  );
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
  assert.equal(waitBefore(busy(), 0, () => 0), 250);
  assert.equal(waitBefore(busy(7000), 0, () => 0), 7250);
});

Deno.test("stream() leaves a model alone that keeps failing, and asks it again later", async () => {
  const clock = new FakeClock();
  let isUp = false;
  const one = entry("a", [() => isUp ? play(TEXT, END) : play(busy())], {
    retriesMax: 1,
  });
  const over = makeRouter({
    entries: [one],
    clock,
    log: silentLog,
    random: () => 0.5,
    breaker: { failuresMax: 3, openMs: 10_000 },
  });
  const failed = assert.rejects(ask(over), { message: "busy" });
  await clock.tick(0);
  await clock.tick(400);
  await failed;
  // The third failure opens it: the second try of this call is not made.
  await assert.rejects(ask(over), { message: "busy" });
  assert.equal(one.asked.length, 3);
  await assert.rejects(ask(over), /left alone for 10 s more/);
  await assert.rejects(ask(over), { class: "overloaded" });
  assert.equal(one.asked.length, 3);
  isUp = true;
  await clock.tick(10_000);
  assert.deepEqual(await ask(over), [TEXT, END]);
  assert.deepEqual(await ask(over), [TEXT, END]);
  assert.equal(clock.sleeping, 0);
});

Deno.test("stream() tries nothing twice when another model stands by", async () => {
  const one = entry("a", [() => play(busy())]);
  await assert.rejects(Array.fromAsync(
    router(new FakeClock(), one).stream("a:m", {
      messages: [],
      hasFallback: true,
    }, NEVER),
  ));
  assert.equal(one.asked.length, 1);
  assert.equal("hasFallback" in (one.asked[0] ?? {}), false);
});

Deno.test("stream() counts neither a reader that left nor an abort", async () => {
  const clock = new FakeClock();
  const one = entry("a", [() => play(TEXT, TEXT, END)]);
  const over = makeRouter({
    entries: [one],
    clock,
    log: silentLog,
    random: () => 0.5,
    breaker: { failuresMax: 1 },
  });
  for (let n = 0; n < 3; n++) {
    for await (const _ of over.stream("a:m", { messages: [] }, NEVER)) break;
  }
  const stop = new AbortController();
  const hung = entry("a", [(_, signal) => silence(signal)]);
  const other = router(clock, hung);
  const aborted = assert.rejects(ask(other, "a:m", stop.signal));
  await clock.tick(0);
  stop.abort(new DOMException("enough", "AbortError"));
  await aborted;
  assert.deepEqual(await ask(over), [TEXT, TEXT, END]);
});
