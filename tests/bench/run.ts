/**
 * Measures a whole gateway from outside against a fake provider in another
 * process, and prints one JSON document with the machine's facts.
 *
 *     deno task bench [--quick]
 *
 * Nothing here fails for being slow: machines differ. Pass-through and agent are
 * given beside the same requests sent straight to the fake provider.
 */
import { parseArgs } from "node:util";
import {
  freePort,
  LAUNCHER_FLAGS,
  listening,
  Proc,
  root,
  scratch,
} from "../process/processes.ts";

const TOKEN = `bench_${crypto.randomUUID()}`;
const CHUNKS = 32;

interface Load {
  clients: number;
  requests: number;
  failed: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** To the first piece of a stream. */
  firstP50Ms?: number;
}

function quantile(sorted: readonly number[], q: number): number {
  const at = Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1);
  return Math.round((sorted[Math.max(0, at)] ?? 0) * 100) / 100;
}

/** What one kind of request looks like. */
interface Target {
  url: string;
  model: string;
  stream: boolean;
  token?: string;
  /** Messages before the last one. */
  history?: number;
}

function bodyOf({ model, stream, history = 0 }: Target): string {
  const before = Array.from({ length: history }, (_, n) => ({
    role: n % 2 === 0 ? "user" : "assistant",
    content: `message ${n} of the history, about as long as people write`,
  }));
  const messages = [...before, { role: "user", content: "hi" }];
  return JSON.stringify({ model, stream, messages });
}

/** One request; milliseconds to the first and the last byte, or undefined. */
async function send(
  target: Target,
  body: string,
): Promise<{ first: number; whole: number } | undefined> {
  const begun = performance.now();
  const response = await fetch(`${target.url}/chat/completions`, {
    method: "POST",
    body,
    headers: {
      "content-type": "application/json",
      ...(target.token === undefined
        ? {}
        : { authorization: `Bearer ${target.token}` }),
    },
  });
  let first = 0;
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    first ||= performance.now() - begun;
    bytes += chunk.byteLength;
  }
  const isGood = response.ok && bytes > 100;
  return isGood ? { first, whole: performance.now() - begun } : undefined;
}

/** So many clients, each sending its next request when the last is answered. */
async function load(
  target: Target,
  clients: number,
  requests: number,
): Promise<Load> {
  const body = bodyOf(target);
  for (let n = 0; n < 5; n++) await send(target, body);
  const whole: number[] = [];
  const first: number[] = [];
  let left = requests;
  let failed = 0;
  const begun = performance.now();
  await Promise.all(Array.from({ length: clients }, async () => {
    while (left-- > 0) {
      const took = await send(target, body);
      if (took === undefined) failed++;
      else {
        whole.push(took.whole);
        first.push(took.first);
      }
    }
  }));
  const seconds = (performance.now() - begun) / 1000;
  const order = (a: number, b: number) => a - b;
  whole.sort(order);
  first.sort(order);
  return {
    clients,
    requests,
    failed,
    perSecond: Math.round(whole.length / seconds),
    p50Ms: quantile(whole, 0.5),
    p99Ms: quantile(whole, 0.99),
    ...(target.stream ? { firstP50Ms: quantile(first, 0.5) } : {}),
  };
}

/** Connects by WebSocket and measures `health`, one by one and pipelined. */
async function socketHealth(port: number, calls: number): Promise<unknown> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
  const waiting = new Map<string, () => void>();
  const greeted = Promise.withResolvers<void>();
  const send = (id: string, method: string, params: unknown) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.set(id, resolve);
    socket.send(JSON.stringify({ type: "req", id, method, params }));
    return promise;
  };
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.event === "connect.challenge") greeted.resolve();
    if (frame.type === "res") waiting.get(frame.id)?.();
  };
  await greeted.promise;
  await send("hello", "connect", {
    minProtocol: 4,
    maxProtocol: 4,
    client: { id: "bench", version: "1", platform: "any", mode: "test" },
    auth: { token: TOKEN },
  });
  const took: number[] = [];
  for (let n = 0; n < calls; n++) {
    const begun = performance.now();
    await send(`s${n}`, "health", {});
    took.push(performance.now() - begun);
  }
  took.sort((a, b) => a - b);
  let left = calls * 4;
  let n = 0;
  const begun = performance.now();
  await Promise.all(Array.from({ length: 64 }, async () => {
    while (left-- > 0) await send(`p${n++}`, "health", {});
  }));
  const perSecond = Math.round(
    calls * 4 / ((performance.now() - begun) / 1000),
  );
  socket.close();
  return {
    p50Ms: quantile(took, 0.5),
    p99Ms: quantile(took, 0.99),
    pipelinedPerSecond: perSecond,
  };
}

/** Resident megabytes of a process, where the system says so. */
async function residentMb(pid: number): Promise<number> {
  const { stdout } = await new Deno.Command("ps", {
    args: ["-o", "rss=", "-p", String(pid)],
  }).output();
  return Math.round(Number(new TextDecoder().decode(stdout)) / 102.4) / 10;
}

/** Serves OpenAI's chat dialect from a process of its own. */
const PROVIDER = `
const words = Array.from({ length: ${CHUNKS} }, (_, n) => "word" + n + " ");
const usage = { prompt_tokens: 9, completion_tokens: ${CHUNKS}, total_tokens: 41 };
const chunk = (delta, finish_reason = null) => "data: " + JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason }] }) + "\\n\\n";
const sse = chunk({ role: "assistant", content: "" }) + words.map((content) => chunk({ content })).join("") + chunk({}, "stop") + "data: " + JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model: "m", choices: [], usage }) + "\\n\\ndata: [DONE]\\n\\n";
const json = JSON.stringify({ id: "c", object: "chat.completion", created: 1, model: "m", choices: [{ index: 0, message: { role: "assistant", content: words.join("") }, finish_reason: "stop" }], usage });
const headers = (type) => ({ headers: { "content-type": type } });
Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, async (request) => {
  if (request.method === "GET") return new Response('{"object":"list","data":[{"id":"m","object":"model"}]}', headers("application/json"));
  const { stream } = await request.json();
  return stream ? new Response(sse, headers("text/event-stream")) : new Response(json, headers("application/json"));
});`;

function start(dir: string, port: number, provider: string): Proc {
  return new Proc(
    ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, "start"],
    {
      env: {
        CARAPACE_STATE_DIR: dir,
        CARAPACE_PORT: String(port),
        CARAPACE_TOKEN: TOKEN,
        OPENAI_BASE_URL: provider,
        OPENAI_API_KEY: "fake",
        CARAPACE_MODEL: "openai:m",
      },
    },
  );
}

/** The service's process, as its lock says. */
async function servicePid(dir: string): Promise<number> {
  const holder = await Deno.readTextFile(`${dir}/lock`);
  return Number(/^pid (\d+)/.exec(holder)?.[1]);
}

async function startTimes(provider: string, times: number): Promise<number[]> {
  const took: number[] = [];
  for (let n = 0; n < times; n++) {
    await using dir = await scratch();
    const port = freePort();
    const begun = performance.now();
    await using proc = start(dir.path, port, provider);
    await listening(port);
    took.push(Math.round(performance.now() - begun));
    proc.child.kill("SIGTERM");
    await proc.status;
  }
  return took.sort((a, b) => a - b);
}

async function machine(): Promise<Record<string, unknown>> {
  const cpuinfo = await Deno.readTextFile("/proc/cpuinfo").catch(() => "");
  const model = /^model name\s*:\s*(.*)$/m.exec(cpuinfo)?.[1];
  return {
    deno: Deno.version.deno,
    os: `${Deno.build.os} ${Deno.build.arch}`,
    cores: navigator.hardwareConcurrency,
    cpu: model ?? "unknown",
    loadBefore: Deno.loadavg()[0],
  };
}

/** What another file here measures: its last line. */
async function other(file: string, ...args: string[]): Promise<unknown> {
  await using proc = new Proc([
    ...["run", "-A", "--lock", `${root}/tests/deno.lock`],
    ...[`${root}/tests/bench/${file}`, ...args],
  ]);
  await proc.code();
  return JSON.parse(proc.out.at(-1) ?? "{}");
}

/** Handshakes, idle sockets and one run for many, of a gateway over fakes. */
function sockets(isQuick: boolean): Promise<unknown> {
  return other("gateway_bench.ts", "--idle", isQuick ? "300" : "5000");
}

/** One run for many, many streams and idle sockets of the real service. */
function fanOut(isQuick: boolean): Promise<unknown> {
  const [fan, pieces, idle] = isQuick
    ? ["20", "20", "100"]
    : ["200", "200", "1000"];
  return other(
    "fan_out_bench.ts",
    ...["--fan", fan, "--pieces", pieces, "--idle", idle],
  );
}

async function measure(isQuick: boolean): Promise<Record<string, unknown>> {
  const facts = await machine();
  await using fake = new Proc(["eval", PROVIDER]);
  const provider = `http://127.0.0.1:${await fake.line((l) =>
    /^\d+$/.test(l)
  )}/v1`;
  const starts = await startTimes(provider, isQuick ? 1 : 5);
  await using dir = await scratch();
  const port = freePort();
  await using proc = start(dir.path, port, provider);
  await listening(port);
  const pid = await servicePid(dir.path);
  const idleMb = await residentMb(pid);
  const launcherMb = await residentMb(proc.pid);
  const ours = { url: `http://127.0.0.1:${port}/v1`, token: TOKEN };
  const count = isQuick ? 100 : 2_000;
  const rows: Record<string, Load[]> = {};
  const kinds: [string, Target][] = [
    ["provider alone", { url: provider, model: "m", stream: false }],
    ["provider alone, streamed", { url: provider, model: "m", stream: true }],
    ["pass-through", { ...ours, model: "openai:m", stream: false }],
    ["pass-through, streamed", { ...ours, model: "openai:m", stream: true }],
    ["agent", { ...ours, model: "carapace", stream: false }],
    ["agent, streamed", { ...ours, model: "carapace", stream: true }],
    ["agent, 50 messages before", {
      ...ours,
      model: "carapace",
      stream: false,
      history: 50,
    }],
  ];
  for (const [name, target] of kinds) {
    rows[name] = [];
    for (const clients of [1, 16, 64]) {
      rows[name].push(await load(target, clients, count));
    }
  }
  const health = await socketHealth(port, isQuick ? 200 : 2_000);
  const loadedMb = await residentMb(pid);
  proc.child.kill("SIGTERM");
  await proc.status;
  return {
    machine: facts,
    startToListeningMs: {
      median: starts[Math.floor(starts.length / 2)],
      all: starts,
    },
    residentMb: { launcher: launcherMb, idle: idleMb, afterLoad: loadedMb },
    health,
    sockets: await sockets(isQuick),
    fanOut: await fanOut(isQuick),
    loads: rows,
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: { quick: { type: "boolean", default: false } },
  });
  // deno-lint-ignore no-top-level-await
  console.log(JSON.stringify(await measure(values.quick), null, 2));
}
