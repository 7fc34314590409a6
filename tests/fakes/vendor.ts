/**
 * What the fake vendors share: a server on a real socket that records every
 * request and answers by a script. Each vendor's file says how its wire looks.
 *
 * @example
 * ```ts
 * await using fake = await fakeOpenai({ script: [say("Hi there")] });
 * // … point a client at fake.url …
 * fake.requests[0]?.body; // what it sent
 * ```
 */

/** One tool call the fake model makes. */
export interface FakeCall {
  name: string;
  args?: unknown;
  /** Arguments as raw text, for JSON that is none. */
  rawArgs?: string;
  id?: string;
}

/** An answer of the fake model, in no vendor's words. */
export interface Say {
  /** The answer, in the pieces it is streamed in. */
  text?: string | readonly string[];
  /** What it thought first. */
  thinking?: string;
  /** Thinking that the vendor hides (where it has such a thing). */
  redacted?: string;
  calls?: readonly FakeCall[];
  usage?: {
    input?: number | null;
    output?: number | null;
    cached?: number;
    cacheWrite?: number;
  };
  stop?: "length" | "refused";
  /** Awaited before each frame: a gate instead of a sleep. */
  before?: (wire: string, frame: number) => Promise<void> | void;
  /** Cut the wire into pieces of this many bytes: also inside a character. */
  cutBytes?: number;
  /** After this many frames, or the first that holds this text… */
  after?: number | string;
  /** …the vendor's error event, a broken socket, a clean early end, or nothing more. */
  then?: "error" | "break" | "truncate" | "hang";
}

/** An answer that is an error; without a body, the vendor's documented one. */
export interface Fail {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

/** Bytes as given. */
export interface Raw {
  raw: string | Uint8Array<ArrayBuffer>;
  status?: number;
  contentType?: string;
}

/** No answer at all, not even headers, until the client leaves. */
export interface Hang {
  hang: true;
}

export type Reply = Say | Fail | Raw | Hang;

/** One request as it arrived. */
export interface FakeRequest {
  method: string;
  path: string;
  /** The whole address. */
  url: string;
  headers: Headers;
  /** The parsed JSON, or the text when it was none. */
  // deno-lint-ignore no-explicit-any
  body: any;
  bytes: Uint8Array<ArrayBuffer>;
  /**
   * Resolves when the client closed the connection before the answer's end.
   * Before the answer's headers `Deno.serve` sees that for tiny requests only.
   */
  closed: Promise<void>;
}

/** Replies in order (the last one repeats), or a function of the request. */
export type Script =
  | readonly Reply[]
  | ((request: FakeRequest, nth: number) => Reply | Promise<Reply>);

/** How a fake is made. */
export interface FakeOptions {
  script?: Script;
  /** When set, any other key is answered with the vendor's 401. */
  key?: string;
  /** What it lists. */
  models?: readonly string[];
}

/** A running fake. */
export interface Fake extends AsyncDisposable {
  /** The base URL a client is given. */
  readonly url: string;
  /** Model calls, in order. Lists of models are not among them. */
  readonly requests: FakeRequest[];
  /** Replaces the script. */
  script: Script;
}

/** A text as an answer. */
export function say(...text: string[]): Say {
  return { text };
}

/** An error as an answer. */
export function fail(
  status: number,
  options: { retryAfter?: number; body?: unknown } = {},
): Fail {
  const { retryAfter, body } = options;
  return {
    status,
    ...(body === undefined ? {} : { body }),
    ...(retryAfter === undefined
      ? {}
      : { headers: { "retry-after": String(retryAfter) } }),
  };
}

/** One frame of a vendor's stream. */
export type Frame = string | Uint8Array<ArrayBuffer>;

/** What a vendor's file says about its wire. */
export interface VendorWire {
  /** Under the server's address. */
  basePath: string;
  contentType: string;
  headers: Record<string, string>;
  /** The key a request brought. */
  keyOf(request: FakeRequest): string | undefined;
  /** The frames of an answer to a request, without what goes wrong. */
  frames(say: Say, request: FakeRequest): Frame[];
  /** An error event inside a stream. */
  errorFrame(request: FakeRequest): Frame;
  /** The documented body of a status. */
  errorBody(status: number, request: FakeRequest): unknown;
  /** What else a status's answer carries. */
  errorHeaders?(status: number): Record<string, string>;
  /** Whether the key is right, where it is not sent as it is. */
  isAllowed?(request: FakeRequest, key: string): Promise<boolean>;
  /** Answers that are not a model's stream: lists, embeddings, plain JSON. */
  route(
    request: FakeRequest,
    options: FakeOptions,
    reply: () => Promise<Reply>,
  ): Promise<Response | undefined>;
}

/** The pieces of an answer's text. */
export function pieces(text: Say["text"]): readonly string[] {
  if (text === undefined) return [];
  return typeof text === "string" ? [text] : text;
}

/** A call's arguments as the text a model writes. */
export function argsText(call: FakeCall): string {
  return call.rawArgs ?? JSON.stringify(call.args ?? {});
}

/** Serves one vendor's wire on loopback. */
export function serveFake(
  wire: VendorWire,
  options: FakeOptions = {},
): Promise<Fake> {
  const requests: FakeRequest[] = [];
  const stop = new AbortController();
  const fake = { script: options.script ?? [say("Hello from the fake.")] };
  let asked = 0;
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
    onError: (error) => new Response(String(error), { status: 599 }),
  }, async (incoming) => {
    const left = Promise.withResolvers<void>();
    incoming.signal.addEventListener("abort", () => left.resolve());
    const request = await toRequest(incoming, left.promise);
    const next = async () => {
      const nth = asked++;
      requests.push(request);
      if (typeof fake.script === "function") {
        return await fake.script(request, nth);
      }
      return fake.script[Math.min(nth, fake.script.length - 1)] ?? say("");
    };
    if (
      options.key !== undefined &&
      !(await wire.isAllowed?.(request, options.key) ??
        wire.keyOf(request) === options.key)
    ) {
      requests.push(request);
      return toFailure(wire, request, { status: 401 });
    }
    const routed = await wire.route(request, options, next);
    if (routed !== undefined) return routed;
    const reply = await next();
    if ("hang" in reply) {
      await Promise.race([left.promise, untilAborted(stop.signal)]);
      return new Response(null, { status: 503 });
    }
    if ("status" in reply && !("raw" in reply)) {
      return toFailure(wire, request, reply as Fail);
    }
    if ("raw" in reply) {
      return new Response(reply.raw, {
        status: reply.status ?? 200,
        headers: { "content-type": reply.contentType ?? wire.contentType },
      });
    }
    return toStream(wire, request, {
      say: reply as Say,
      left,
      stop: stop.signal,
    });
  });
  const { port } = server.addr;
  return Promise.resolve({
    url: `http://127.0.0.1:${port}${wire.basePath}`,
    requests,
    get script() {
      return fake.script;
    },
    set script(script) {
      fake.script = script;
      asked = 0;
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await server.shutdown();
    },
  });
}

async function toRequest(
  incoming: Request,
  closed: Promise<void>,
): Promise<FakeRequest> {
  const bytes = new Uint8Array(await incoming.arrayBuffer());
  const text = new TextDecoder().decode(bytes);
  let body: unknown = text;
  try {
    body = JSON.parse(text);
  } catch { /* a body that is no JSON is recorded as text */ }
  return {
    method: incoming.method,
    path: new URL(incoming.url).pathname,
    url: incoming.url,
    headers: new Headers(incoming.headers),
    body,
    bytes,
    closed,
  };
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** The vendor's error answer. */
function toFailure(
  wire: VendorWire,
  request: FakeRequest,
  reply: Fail,
): Response {
  const body = reply.body ?? wire.errorBody(reply.status, request);
  const isText = typeof body === "string";
  return new Response(isText ? body : JSON.stringify(body), {
    status: reply.status,
    headers: {
      "content-type": isText ? "text/html" : "application/json",
      ...wire.headers,
      ...wire.errorHeaders?.(reply.status),
      ...reply.headers,
    },
  });
}

function toStream(
  wire: VendorWire,
  request: FakeRequest,
  { say, left, stop }: {
    say: Say;
    left: PromiseWithResolvers<void>;
    stop: AbortSignal;
  },
): Response {
  const all = wire.frames(say, request);
  const frames = say.then === undefined ? all : head(all, say.after);
  let at = 0;
  let rest: Uint8Array[] = [];
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const piece = rest.shift();
      if (piece !== undefined) return controller.enqueue(piece);
      const frame = frames[at];
      if (frame === undefined) return await finish(controller);
      await Promise.race([
        say.before?.(textOf(frame), at),
        left.promise,
        untilAborted(stop),
      ]);
      at++;
      rest = cut(bytesOf(frame), say.cutBytes);
      const first = rest.shift();
      if (first !== undefined) controller.enqueue(first);
    },
    cancel: () => left.resolve(),
  }, { highWaterMark: 0 });
  const finish = async (
    controller: ReadableStreamDefaultController<Uint8Array>,
  ) => {
    switch (say.then) {
      case "error":
        controller.enqueue(bytesOf(wire.errorFrame(request)));
        return controller.close();
      case "break":
        return controller.error(new TypeError("the fake broke the socket"));
      case "hang":
        await Promise.race([left.promise, untilAborted(stop)]);
        return controller.close();
    }
    controller.close();
  };
  return new Response(body, {
    headers: { "content-type": wire.contentType, ...wire.headers },
  });
}

/** The bytes of a frame. */
export function bytesOf(frame: Frame): Uint8Array<ArrayBuffer> {
  return typeof frame === "string" ? new TextEncoder().encode(frame) : frame;
}

/** What can be read of a frame. */
function textOf(frame: Frame): string {
  return typeof frame === "string" ? frame : new TextDecoder().decode(frame);
}

function head(frames: Frame[], after: Say["after"] = 0): Frame[] {
  if (typeof after === "number") return frames.slice(0, after);
  const last = frames.findIndex((one) => textOf(one).includes(after));
  return frames.slice(0, last + 1);
}

function cut(bytes: Uint8Array, size = Infinity): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    parts.push(bytes.subarray(at, Math.min(at + size, bytes.length)));
  }
  return parts;
}
