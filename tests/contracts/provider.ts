/**
 * What every provider promises, driven against its vendor's fake on a real
 * socket. A vendor's differences are options, never exceptions in the suite.
 */
import assert from "node:assert/strict";
import { silentLog } from "../../src/core/log.ts";
import { label } from "../../src/core/label.ts";
import type { Message, Part } from "../../src/core/message.ts";
import {
  ModelError,
  type ModelEvent,
  type ModelRequest,
  type Provider,
} from "../../src/core/model.ts";
import { Secret } from "../../src/core/secret.ts";
import type { ProviderDeps } from "../../src/providers/vendor.ts";
import { isAlive } from "../../src/providers/wire.ts";
import {
  fail,
  type Fake,
  type FakeOptions,
  type Reply,
  say,
  type Script,
} from "../fakes/vendor.ts";

/** What one vendor brings to the suite. */
export interface ProviderCase {
  fake(options: FakeOptions): Promise<Fake>;
  make(deps: ProviderDeps): Provider;
  /** The model to ask for, where families differ. @default "m-1" */
  model?: string;
  /** Where its wire carries thinking; absent: it has none. */
  thinking?: {
    /** Finds the thought that went back with the second request. */
    sentBack(body: unknown): unknown;
    want: unknown;
  };
  /** Finds an image's data in a request. */
  imageIn(body: unknown): unknown;
  imageWanted: string;
  /** Whether its usage says what was cached. */
  hasCache: boolean;
  /** Whether a refusal can be told from other ends. */
  hasRefusal: boolean;
  /** What its busy status is. */
  overloaded: 503 | 529;
}

export const OWNER = label("owner", []);
const KEY = "sk-contract-0123456789abcdef";

/** A user's text, as a message. */
export function userSays(text: string, ...more: Part[]): Message {
  return {
    role: "user",
    parts: [{ kind: "text", text, label: OWNER }, ...more],
  };
}

const TOOLS: ModelRequest["tools"] = [{
  name: "look",
  description: "Looks somewhere",
  schema: {
    type: "object",
    properties: { where: { type: "string" } },
    required: ["where"],
    additionalProperties: false,
  },
}];

/** The words of a stream. */
export function wordsOf(events: readonly ModelEvent[]): string {
  return events.map((one) => one.kind === "text" ? one.text : "").join("");
}

/** The events an agent would store, as an assistant's message. */
export function toMessage(events: readonly ModelEvent[]): Message {
  const parts: Part[] = [];
  for (const event of events) {
    const last = parts.at(-1);
    if (event.kind === "thinking") {
      if (last?.kind === "thinking" && last.vendor === undefined) {
        last.text += event.text;
        if (event.vendor !== undefined) last.vendor = event.vendor;
      } else parts.push({ ...event, label: OWNER });
    } else if (event.kind === "text") {
      if (last?.kind === "text") last.text += event.text;
      else parts.push({ ...event, label: OWNER });
    } else if (event.kind === "tool_call") {
      const args = JSON.parse(JSON.stringify(event.args));
      parts.push({ ...event, args, label: OWNER });
    }
  }
  return { role: "assistant", parts };
}

function resultFor(message: Message): Message {
  return {
    role: "tool",
    parts: message.parts.flatMap((part) =>
      part.kind !== "tool_call" ? [] : [{
        kind: "tool_result" as const,
        callId: part.id,
        name: part.name,
        text: `seen by ${part.id}`,
        isError: false,
        label: OWNER,
      }]
    ),
  };
}

/** A provider on its fake, and ways to ask it. */
class Bench implements AsyncDisposable {
  private constructor(
    readonly fake: Fake,
    readonly provider: Provider,
    readonly model: string,
  ) {}

  static async open(on: ProviderCase, script: Script): Promise<Bench> {
    const fake = await on.fake({ script, key: KEY });
    const provider = on.make({
      id: "it",
      baseUrl: new URL(fake.url),
      apiKey: new Secret(KEY, "env IT_API_KEY"),
      fetch,
      log: silentLog,
    });
    return new Bench(fake, provider, on.model ?? "m-1");
  }

  stream(
    request: Partial<ModelRequest> = {},
    signal = new AbortController().signal,
  ): AsyncGenerator<ModelEvent, void, undefined> {
    return this.provider.stream({
      model: this.model,
      messages: [userSays("hello")],
      ...request,
    }, signal);
  }

  async ask(request: Partial<ModelRequest> = {}): Promise<ModelEvent[]> {
    const events = await Array.fromAsync(this.stream(request));
    return events.filter((event) => !isAlive(event));
  }

  /** The failure of a call, and the words that came before it. */
  async failure(
    request: Partial<ModelRequest> = {},
  ): Promise<{ error: ModelError; words: string }> {
    const events: ModelEvent[] = [];
    try {
      for await (const event of this.stream(request)) events.push(event);
    } catch (error) {
      assert.ok(error instanceof ModelError, `not a ModelError: ${error}`);
      assert.ok(!JSON.stringify([error.message, error.hint]).includes(KEY));
      return { error, words: wordsOf(events) };
    }
    throw new assert.AssertionError({ message: "the call did not fail" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.fake[Symbol.asyncDispose]();
  }
}

/** Runs the suite for one vendor. */
export function providerContract(name: string, on: ProviderCase): void {
  const test = (
    what: string,
    script: Script,
    run: (b: Bench) => Promise<void>,
  ) =>
    Deno.test(`${name}: ${what}`, async () => {
      await using bench = await Bench.open(on, script);
      await run(bench);
    });
  streaming(on, test);
  toolUse(test);
  failures(on, test);
  unreachable(name, on);
  cancelling(test);
  contents(on, test);
}

type Test = (
  what: string,
  script: Script,
  run: (bench: Bench) => Promise<void>,
) => void;

function streaming(on: ProviderCase, test: Test): void {
  test("a text arrives in its pieces, then usage, then one end", [{
    text: ["Hel", "lo ", "you"],
    usage: { input: 20, output: 5 },
  }], async (bench) => {
    const events = await bench.ask({ system: "Be kind", outputTokensMax: 64 });
    assert.equal(wordsOf(events), "Hello you");
    assert.equal(events.filter(({ kind }) => kind === "text").length, 3);
    assert.deepEqual(events.at(-1), { kind: "end", reason: "stop" });
    const usage = events.findLast((event) => event.kind === "usage");
    assert.deepEqual(usage?.kind === "usage" && usage.usage, {
      inputTokens: 20,
      outputTokens: 5,
      cachedTokens: 0,
      cacheWriteTokens: 0,
    });
    assert.equal(events.filter(({ kind }) => kind === "end").length, 1);
    assert.match(JSON.stringify(bench.fake.requests[0]?.body), /Be kind/);
  });

  test("characters cut across TCP chunks come out whole", [{
    text: ["Grüße 🦀🦞 ", "漢字 – ", "ende"],
    cutBytes: 3,
  }], async (bench) => {
    assert.equal(wordsOf(await bench.ask()), "Grüße 🦀🦞 漢字 – ende");
  });

  const gate = Promise.withResolvers<void>();
  test("each piece is handed on when it arrives", [{
    text: ["one ", "two"],
    cutBytes: 7,
    // Deadlocks unless the first piece gets through before the second is sent.
    before: (wire) => wire.includes("two") ? gate.promise : undefined,
  }], async (bench) => {
    const seen: string[] = [];
    for await (const event of bench.stream()) {
      if (event.kind !== "text") continue;
      seen.push(event.text);
      gate.resolve();
    }
    assert.deepEqual(seen, ["one ", "two"]);
  });

  test("negative and missing counts are nothing", [{
    text: "x",
    usage: { input: -5, output: null },
  }], async (bench) => {
    const usage = (await bench.ask()).findLast(({ kind }) => kind === "usage");
    const counts = usage?.kind === "usage" ? usage.usage : undefined;
    assert.equal(counts?.inputTokens, 0);
    assert.ok((counts?.outputTokens ?? -1) >= 0);
  });

  if (on.hasCache) {
    test("cached tokens are counted, and are part of the input", [{
      text: "x",
      usage: { input: 100, output: 2, cached: 80 },
    }], async (bench) => {
      const usage = (await bench.ask()).findLast((e) => e.kind === "usage");
      assert.ok(usage?.kind === "usage");
      assert.equal(usage.usage.cachedTokens, 80);
      assert.ok(usage.usage.inputTokens >= 100);
    });
  }

  test("an answer cut by its limit says so", [
    { text: "long", stop: "length" },
  ], async (bench) => {
    assert.deepEqual((await bench.ask()).at(-1), {
      kind: "end",
      reason: "length",
    });
  });

  if (on.hasRefusal) {
    test("a refusal says so", [{ text: "no", stop: "refused" }], async (b) => {
      assert.deepEqual((await b.ask()).at(-1), {
        kind: "end",
        reason: "refused",
      });
    });
  }
}

function toolUse(test: Test): void {
  test("a tool call is whole and parsed, and its result goes back", [
    { text: "Let me look.", calls: [{ name: "look", args: { where: "up" } }] },
    say("It is blue."),
  ], async (bench) => {
    const events = await bench.ask({ tools: TOOLS ?? [] });
    const call = events.find((event) => event.kind === "tool_call");
    assert.ok(call?.kind === "tool_call");
    assert.equal(call.name, "look");
    assert.deepEqual(call.args, { where: "up" });
    assert.equal(call.malformed, undefined);
    assert.deepEqual(events.at(-1), { kind: "end", reason: "tool_calls" });
    const said = toMessage(events);
    const next = await bench.ask({
      tools: TOOLS ?? [],
      messages: [userSays("what is up?"), said, resultFor(said)],
    });
    assert.equal(wordsOf(next), "It is blue.");
    const sent = JSON.stringify(bench.fake.requests[1]?.body);
    assert.ok(sent.includes(`seen by ${call.id}`));
    const asked = JSON.stringify(bench.fake.requests[0]?.body);
    assert.match(asked, /"properties":\{"where"/);
  });

  test("parallel calls keep their order, ids and arguments apart", [
    {
      calls: [
        { name: "look", args: { where: "left" } },
        { name: "look", args: { where: "right" } },
        { name: "look", args: {} },
      ],
    },
    say("Both."),
  ], async (bench) => {
    const events = await bench.ask({ tools: TOOLS ?? [] });
    const calls = events.filter((event) => event.kind === "tool_call");
    assert.deepEqual(calls.map((call) => call.args), [
      { where: "left" },
      { where: "right" },
      {},
    ]);
    assert.equal(new Set(calls.map(({ id }) => id)).size, 3);
    const said = toMessage(events);
    await bench.ask({ messages: [userSays("look"), said, resultFor(said)] });
    const sent = JSON.stringify(bench.fake.requests[1]?.body);
    for (const { id } of calls) assert.ok(sent.includes(`seen by ${id}`));
  });

  test("arguments that are no JSON come out malformed, not as a crash", [
    { calls: [{ name: "look", rawArgs: '{"where": "u' }] },
    say("Sorry."),
  ], async (bench) => {
    const events = await bench.ask({ tools: TOOLS ?? [] });
    const call = events.find((event) => event.kind === "tool_call");
    assert.ok(call?.kind === "tool_call");
    assert.equal(call.args, '{"where": "u');
    assert.ok(call.malformed);
    const said = toMessage(events);
    const next = await bench.ask({
      messages: [userSays("look"), said, resultFor(said)],
    });
    assert.equal(wordsOf(next), "Sorry.");
  });

  test("a call whose result was lost is answered all the same", [
    say("Anyway."),
  ], async (bench) => {
    const call = { kind: "tool_call", id: "call_lost", name: "look" } as const;
    await bench.ask({
      messages: [
        userSays("look"),
        { role: "assistant", parts: [{ ...call, args: {}, label: OWNER }] },
        userSays("never mind"),
      ],
    });
    const sent = JSON.stringify(bench.fake.requests[0]?.body);
    assert.match(sent, /No result was recorded/);
  });
}

function failures(on: ProviderCase, test: Test): void {
  const rows: [what: string, reply: Reply, want: string, retryable: boolean][] =
    [
      [
        "401 is auth and names where the key came from",
        fail(401),
        "auth",
        false,
      ],
      ["429 is rate", fail(429, { retryAfter: 7 }), "rate", true],
      ["500 is server", fail(500), "server", true],
      ["a busy vendor is overloaded", fail(on.overloaded), "overloaded", true],
      ["404 is not_found", fail(404), "not_found", false],
      [
        "a web page instead of an answer is the server's failure",
        { raw: "<html><h1>Hi</h1></html>", contentType: "text/html" },
        "server",
        true,
      ],
      [
        "an HTML error page keeps its status",
        fail(502, { body: "<html>Bad gateway</html>" }),
        "server",
        true,
      ],
      [
        "plain JSON instead of a stream is the server's failure",
        { raw: '{"hello":1}', contentType: "application/json" },
        "server",
        true,
      ],
      [
        "a 200 with an error body is that error",
        {
          raw:
            '{"error":{"message":"maximum context length is 10 tokens","type":"invalid_request_error"}}',
          contentType: "application/json",
        },
        "context_overflow",
        false,
      ],
      [
        "a frame that is not JSON is the server's failure",
        { raw: "data: {not json\n\n" },
        "server",
        true,
      ],
      ["an empty stream is a truncated one", { raw: "" }, "network", true],
    ];
  for (const [what, reply, want, retryable] of rows) {
    test(what, [reply], async (bench) => {
      const { error, words } = await bench.failure();
      assert.equal(error.class, want, error.message);
      assert.equal(error.isRetryable, retryable);
      assert.equal(words, "");
      assert.match(error.message, /\bit\b/);
    });
  }

  test("a refused key is said to come from where it came from", [
    fail(401),
  ], async (bench) => {
    const { error } = await bench.failure();
    assert.equal(
      error.message,
      "it refused the key from env IT_API_KEY; check it or set another",
    );
    assert.equal(error.status, 401);
  });

  test("Retry-After is kept", [fail(429, { retryAfter: 7 })], async (bench) => {
    assert.equal((await bench.failure()).error.retryAfterMs, 7000);
  });

  const breaks: [what: string, then: "error" | "break" | "truncate"][] = [
    ["an error event after the first word", "error"],
    ["a broken socket after the first word", "break"],
    ["a stream that ends without saying so", "truncate"],
  ];
  for (const [what, then] of breaks) {
    test(`${what} is a failure, with the word handed on`, [{
      text: ["first ", "second ", "third ", "fourth ", "fifth ", "sixth"],
      after: "second",
      then,
    }], async (bench) => {
      const { error, words } = await bench.failure();
      assert.ok(error.isRetryable, error.message);
      assert.match(words, /^first /);
    });
  }
}

function unreachable(name: string, on: ProviderCase): void {
  Deno.test(`${name}: a server that is not there is named with its port`, async () => {
    const fake = await on.fake({});
    const { host } = new URL(fake.url);
    const provider = on.make({
      id: "it",
      baseUrl: new URL(fake.url),
      apiKey: new Secret(KEY, "env IT_API_KEY"),
      fetch,
      log: silentLog,
    });
    await fake[Symbol.asyncDispose]();
    const request = { model: "m", messages: [userSays("hi")] };
    await assert.rejects(
      Array.fromAsync(
        provider.stream(request, new AbortController().signal),
      ),
      (error) =>
        error instanceof ModelError && error.class === "network" &&
        error.message.includes(host) && /listens/.test(error.message),
    );
  });
}

function cancelling(test: Test): void {
  const endless: Script = () => ({
    text: ["one ", "two"],
    after: "one ",
    then: "hang",
  });

  test(
    "an abort closes the vendor's socket within 100 ms",
    endless,
    async (bench) => {
      const stop = new AbortController();
      const reason = new DOMException("enough", "AbortError");
      let at = 0;
      await assert.rejects(async () => {
        for await (const event of bench.stream({}, stop.signal)) {
          if (event.kind !== "text") continue;
          at = performance.now();
          stop.abort(reason);
        }
      }, (error) => error === reason);
      await bench.fake.requests[0]?.closed;
      assert.ok(performance.now() - at < 100);
    },
  );

  test("leaving the loop closes it too", endless, async (bench) => {
    let at = 0;
    for await (const event of bench.stream()) {
      if (event.kind !== "text") continue;
      at = performance.now();
      break;
    }
    await bench.fake.requests[0]?.closed;
    assert.ok(performance.now() - at < 100);
  });

  test(
    "an abort before any answer ends the call",
    [{ hang: true }],
    async (bench) => {
      const stop = new AbortController();
      const reason = new DOMException("enough", "AbortError");
      const call = assert.rejects(
        Array.fromAsync(bench.stream({}, stop.signal)),
        (error) => error === reason,
      );
      while (bench.fake.requests.length === 0) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      stop.abort(reason);
      // The socket closes too, but Deno.serve does not see that before it has
      // answered, unless the request is tiny.
      await call;
    },
  );

  test("an aborted signal sends nothing", [say("x")], async (bench) => {
    const signal = AbortSignal.abort(new DOMException("no", "AbortError"));
    await assert.rejects(Array.fromAsync(bench.stream({}, signal)), {
      name: "AbortError",
    });
    assert.equal(bench.fake.requests.length, 0);
  });
}

function contents(on: ProviderCase, test: Test): void {
  test("an image goes in by value", [say("A dot.")], async (bench) => {
    await bench.ask({
      messages: [userSays("what is this?", {
        kind: "image",
        mime: "image/png",
        data: "iVBORw0KGgo=",
        label: OWNER,
      })],
    });
    const { body } = bench.fake.requests[0] ?? {};
    assert.equal(on.imageIn(body), on.imageWanted);
  });

  const { thinking } = on;
  if (thinking !== undefined) {
    test("a thought goes back unchanged with the tool's result", [
      {
        thinking: "Where could it be?",
        text: "Let me look.",
        calls: [{ name: "look", args: { where: "up" } }],
      },
      say("There."),
    ], async (bench) => {
      const request = { tools: TOOLS ?? [], thinkingTokens: 2048 };
      const events = await bench.ask(request);
      const thought = events.map((event) =>
        event.kind === "thinking" ? event.text : ""
      ).join("");
      assert.equal(thought, "Where could it be?");
      const said = toMessage(events);
      await bench.ask({
        ...request,
        messages: [userSays("find it"), said, resultFor(said)],
      });
      const { body } = bench.fake.requests[1] ?? {};
      assert.deepEqual(thinking.sentBack(body), thinking.want);
    });
  }

  test("another vendor's thoughts stay out", [say("x")], async (bench) => {
    await bench.ask({
      messages: [userSays("hi"), {
        role: "assistant",
        parts: [
          {
            kind: "thinking",
            text: "a stranger's thought",
            vendor: { kind: "someone_else", data: { secret: "sauce" } },
            label: OWNER,
          },
          { kind: "text", text: "hello", label: OWNER },
        ],
      }, userSays("again")],
    });
    const sent = JSON.stringify(bench.fake.requests[0]?.body);
    assert.doesNotMatch(sent, /sauce|stranger/);
  });

  test("the models are listed", [say("x")], async (bench) => {
    const models = await bench.provider.models(new AbortController().signal);
    assert.ok(models.length > 0 && models.every(({ id }) => id !== ""));
  });
}
