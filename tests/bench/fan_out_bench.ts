/**
 * One run told to many by the real service in its sandbox: how long a piece of
 * text takes from the model to each WebSocket, and to the one event stream there
 * is of a run, its requester's (HTTP has no other way to listen to a run). Then
 * as many event streams, each of a run of its own; handshakes a second, with the
 * token in the upgrade and in `connect`; and what idle sockets hold.
 *
 *     deno run -A tests/bench/fan_out_bench.ts [--fan 200] [--pieces 200] [--idle 1000]
 *
 * The service takes 1,024 sockets; five thousand are `gateway_bench.ts`'s, over
 * fakes and without that limit.
 */
import { parseArgs } from "node:util";
import { CLIENT } from "../fakes/gateway_house.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  listening,
  Proc,
  root,
  scratch,
} from "../process/processes.ts";

const TOKEN = `bench_${crypto.randomUUID()}`;
const SESSION = "agent:main:fan";
const PIECE_MS = 10;
/** A moment in a text: `@1767225600000.123 `. */
const STAMP = /@(\d+\.\d+) /g;

const now = () => performance.timeOrigin + performance.now();

/** Streams so many moments, evenly; a process of its own. */
const PROVIDER = `
const chunk = (delta, finish_reason = null) => "data: " + JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason }] }) + "\\n\\n";
const usage = "data: " + JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [], usage: { prompt_tokens: 9, completion_tokens: 9, total_tokens: 18 } }) + "\\n\\ndata: [DONE]\\n\\n";
const encoder = new TextEncoder();
Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, async (request) => {
  if (request.method === "GET") return Response.json({ object: "list", data: [{ id: "m", object: "model" }] });
  await request.text();
  return new Response(new ReadableStream({ async start(controller) {
    controller.enqueue(encoder.encode(chunk({ role: "assistant", content: "" })));
    for (let n = 0; n < PIECES; n++) {
      await new Promise((resolve) => setTimeout(resolve, ${PIECE_MS}));
      controller.enqueue(encoder.encode(chunk({ content: "@" + (performance.timeOrigin + performance.now()).toFixed(3) + " " })));
    }
    controller.enqueue(encoder.encode(chunk({}, "stop") + usage));
    controller.close();
  } }), { headers: { "content-type": "text/event-stream" } });
});`;

function quantiles(values: number[]): Record<string, number> {
  values.sort((a, b) => a - b);
  const at = (q: number) =>
    Math.round(
      (values[Math.min(values.length - 1, Math.floor(q * values.length))] ??
        0) * 100,
    ) / 100;
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}

/** How late each moment in a text is now. */
function lateness(text: string, into: number[]): void {
  const at = now();
  for (const [, moment] of text.matchAll(STAMP)) {
    into.push(at - Number(moment));
  }
}

/** A socket that says who it is and listens. */
interface Listener {
  socket: WebSocket;
  late: number[];
  /** Resolves with the whole text of the first run that ends. */
  final: Promise<string>;
}

async function listen(
  port: number,
  { isNamed = true }: { isNamed?: boolean } = {},
): Promise<Listener> {
  const url = `ws://127.0.0.1:${port}/ws`;
  // The browser's types know no headers; the runtime takes them.
  const named: unknown = { headers: { authorization: `Bearer ${TOKEN}` } };
  const socket = isNamed
    ? new WebSocket(url, named as string[])
    : new WebSocket(url);
  const ready = Promise.withResolvers<void>();
  const final = Promise.withResolvers<string>();
  const late: number[] = [];
  socket.onerror = () => ready.reject(new TypeError("it did not open"));
  socket.onclose = () => ready.reject(new TypeError("it closed"));
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.event === "connect.challenge") {
      socket.send(JSON.stringify({
        type: "req",
        id: "1",
        method: "connect",
        params: {
          minProtocol: 4,
          maxProtocol: 4,
          client: CLIENT,
          ...isNamed ? {} : { auth: { token: TOKEN } },
        },
      }));
    }
    if (frame.type === "res") {
      if (frame.ok) ready.resolve();
      else ready.reject(new TypeError(JSON.stringify(frame.error)));
    }
    if (frame.event !== "chat") return;
    const { state, deltaText, message } = frame.payload;
    if (state === "delta") lateness(deltaText ?? "", late);
    if (state === "final") final.resolve(message?.content?.[0]?.text ?? "");
  };
  await ready.promise;
  return { socket, late, final: final.promise };
}

/** Opens so many, a few at a time; those, and how many a second. */
async function listenAll(
  port: number,
  count: number,
  options: { isNamed?: boolean; workers: number },
): Promise<{ all: Listener[]; perSecond: number }> {
  const all: Listener[] = [];
  let left = count;
  const begun = performance.now();
  await Promise.all(Array.from({ length: options.workers }, async () => {
    while (left-- > 0) all.push(await listen(port, options));
  }));
  const seconds = (performance.now() - begun) / 1000;
  return { all, perSecond: Math.round(count / seconds) };
}

/** One event stream of the requester's own run; its text. */
async function stream(
  port: number,
  session: string,
  late: number[],
): Promise<{ text: string; firstMs: number }> {
  const begun = performance.now();
  const answer = await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${TOKEN}`,
      "content-type": "application/json",
      "x-carapace-session-key": session,
    },
    body: JSON.stringify({
      model: "carapace",
      stream: true,
      messages: [{ role: "user", content: "go" }],
    }),
  });
  let text = "";
  let firstMs = 0;
  const body = answer.body?.pipeThrough(new TextDecoderStream());
  for await (const piece of body ?? []) {
    if (STAMP.test(piece)) firstMs ||= performance.now() - begun;
    STAMP.lastIndex = 0;
    lateness(piece, late);
    text += piece;
  }
  if (!answer.ok) throw new TypeError(`${answer.status}: ${text}`);
  return { text, firstMs };
}

async function residentBytes(port: number): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`, {
    headers: { authorization: `Bearer ${TOKEN}` },
  });
  const text = await answer.text();
  return Number(/^carapace_resident_bytes (\S+)$/m.exec(text)?.[1]);
}

/** One run to many sockets and its one event stream. */
async function fanOut(port: number, fan: number, pieces: number) {
  const { all } = await listenAll(port, fan, { workers: 16 });
  const sseLate: number[] = [];
  const begun = performance.now();
  const { text } = await stream(port, SESSION, sseLate);
  const texts = await Promise.all(all.map(({ final }) => final));
  const ms = performance.now() - begun;
  const late = all.flatMap((one) => one.late);
  const whole = texts.filter((one) =>
    [...one.matchAll(STAMP)].length === pieces
  );
  for (const { socket } of all) socket.close();
  return {
    sockets: fan,
    pieces,
    /** Sockets that ended with every piece, and pieces that came on their own. */
    whole: whole.length,
    delivered: late.length,
    websocket: quantiles(late),
    eventStream: {
      pieces: [...text.matchAll(STAMP)].length,
      ...quantiles(sseLate),
    },
    /** Beyond what the model itself took. */
    overheadMs: Math.round(ms - pieces * PIECE_MS),
  };
}

/** As many event streams at once, each of its own run. */
async function manyStreams(port: number, count: number, pieces: number) {
  const late: number[] = [];
  const begun = performance.now();
  const done = await Promise.all(
    Array.from(
      { length: count },
      (_, n) => stream(port, `agent:main:own${n}`, late),
    ),
  );
  return {
    streams: count,
    whole:
      done.filter(({ text }) => [...text.matchAll(STAMP)].length === pieces)
        .length,
    first: quantiles(done.map(({ firstMs }) => firstMs)),
    piece: quantiles(late),
    ms: Math.round(performance.now() - begun),
  };
}

async function idle(port: number, count: number) {
  const before = await residentBytes(port);
  const { all, perSecond } = await listenAll(port, count, { workers: 16 });
  const after = await residentBytes(port);
  for (const { socket } of all) socket.close();
  const mb = (bytes: number) => Math.round(bytes / 104_857.6) / 10;
  return {
    sockets: count,
    perSecond,
    beforeMb: mb(before),
    afterMb: mb(after),
    kbEach: Math.round((after - before) / 1024 / count),
  };
}

async function measure(
  { fan, pieces, idleCount }: {
    fan: number;
    pieces: number;
    idleCount: number;
  },
): Promise<Record<string, unknown>> {
  await using provider = new Proc([
    "eval",
    PROVIDER.replace("PIECES", String(pieces)),
  ]);
  const upstream = await provider.line((line) => /^\d+$/.test(line));
  await using dir = await scratch();
  const port = freePort();
  await using _service = new Proc(
    ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, "start"],
    {
      env: {
        CARAPACE_STATE_DIR: dir.path,
        CARAPACE_PORT: String(port),
        CARAPACE_TOKEN: TOKEN,
        CARAPACE_CONFIG_JSON: JSON.stringify({
          providers: {
            fake: { api: "chat", baseUrl: `http://127.0.0.1:${upstream}/v1` },
          },
          agents: { main: { model: "fake:m" } },
          limits: { runningMax: 512 },
          log: { level: "warn" },
        }),
      },
    },
  );
  await listening(port);
  const rate = async (isNamed: boolean, workers: number) => {
    const { all, perSecond } = await listenAll(port, Math.min(fan, 200), {
      isNamed,
      workers,
    });
    for (const { socket } of all) socket.close();
    return perSecond;
  };
  return {
    // The pool of strangers holds four of one address.
    connectsPerSecond: {
      tokenInConnect: await rate(false, 3),
      tokenInUpgrade: await rate(true, 16),
    },
    fanOut: await fanOut(port, fan, pieces),
    streams: await manyStreams(port, fan, pieces),
    idle: await idle(port, idleCount),
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      fan: { type: "string", default: "200" },
      pieces: { type: "string", default: "200" },
      idle: { type: "string", default: "1000" },
    },
  });
  console.log(JSON.stringify({
    bench: "fan_out",
    deno: Deno.version.deno,
    cores: navigator.hardwareConcurrency,
    load: Deno.loadavg(),
    ...await measure({
      fan: Number(values.fan),
      pieces: Number(values.pieces),
      idleCount: Number(values.idle),
    }),
  }));
}

if (import.meta.main) main();
