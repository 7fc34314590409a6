/**
 * Sockets of a gateway in a process of its own, over fakes: how many handshakes
 * a second, what idle ones hold, how long one run takes to reach many.
 *
 *     deno run -A tests/bench/gateway_bench.ts [--idle 5000] [--fan 200]
 *
 * Idle sockets need as many open files on each side: `ulimit -n`.
 */
import { parseArgs } from "node:util";
import {
  CLIENT,
  FakeClient,
  openGatewayHouse,
} from "../fakes/gateway_house.ts";
import { Proc } from "../process/processes.ts";

const TOKEN = "owner-token";

/** The gateway's side: says its port, then its memory for each line it reads. */
async function serve(): Promise<void> {
  await using house = await openGatewayHouse({
    limits: {
      socketsMax: 20_000,
      preAuthSocketsMax: 64,
      preAuthPerAddressMax: 64,
    },
  });
  console.log(house.port);
  for await (const _ of Deno.stdin.readable) {
    console.log(JSON.stringify({
      rss: Deno.memoryUsage().rss,
      sockets: house.gateway.counts().sockets,
    }));
  }
}

async function join(port: number): Promise<FakeClient> {
  const client = new FakeClient(`ws://127.0.0.1:${port}/ws`);
  await client.opened;
  await client.connect({ auth: { token: TOKEN }, client: CLIENT });
  return client;
}

/** Opens so many, a few at a time. */
async function joinAll(port: number, count: number): Promise<FakeClient[]> {
  const clients: FakeClient[] = [];
  let left = count;
  const work = async () => {
    while (left-- > 0) clients.push(await join(port));
  };
  await Promise.all(Array.from({ length: 16 }, work));
  return clients;
}

async function measure(idle: number, fan: number) {
  await using proc = new Proc(
    ["run", "-A", import.meta.filename ?? "", "--serve"],
    { stdin: "piped" },
  );
  const port = Number(await proc.line((line) => /^\d+$/.test(line)));
  const writer = proc.child.stdin.getWriter();
  let asked = 0;
  const memory = async (): Promise<{ rss: number; sockets: number }> => {
    await writer.write(new TextEncoder().encode("\n"));
    const wanted = ++asked;
    await proc.line(() => proc.out.length > wanted);
    return JSON.parse(proc.out[wanted] ?? "{}");
  };
  const before = await memory();
  const warm = 200;
  let at = performance.now();
  const first = await joinAll(port, warm);
  const perSecond = warm / ((performance.now() - at) / 1000);
  const watchers = first.slice(0, fan);
  at = performance.now();
  const sent = await watchers[0]?.call("chat.send", {
    sessionKey: "agent:main:main",
    message: "one two three four five six seven eight",
    idempotencyKey: "bench",
  });
  const { runId } = sent.payload;
  await Promise.all(
    watchers.map((client) =>
      client.event("chat", (p) => p.runId === runId && p.state === "final")
    ),
  );
  const fanMs = performance.now() - at;
  const rest = await joinAll(port, Math.max(0, idle - warm));
  const after = await memory();
  for (const client of [...first, ...rest]) client.socket.close();
  await writer.close();
  const mb = (bytes: number) => Math.round(bytes / 104_857.6) / 10;
  return {
    handshakesPerSecond: Math.round(perSecond),
    fanOut: { sockets: watchers.length, ms: Math.round(fanMs) },
    idle: {
      sockets: after.sockets,
      beforeMb: mb(before.rss),
      afterMb: mb(after.rss),
      kbEach: Math.round((after.rss - before.rss) / 1024 / after.sockets),
    },
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      serve: { type: "boolean" },
      idle: { type: "string", default: "5000" },
      fan: { type: "string", default: "200" },
    },
  });
  if (values.serve === true) return await serve();
  console.log(JSON.stringify({
    bench: "gateway",
    deno: Deno.version.deno,
    cores: navigator.hardwareConcurrency,
    load: Deno.loadavg(),
    ...await measure(Number(values.idle), Number(values.fan)),
  }));
}

if (import.meta.main) main();
