/**
 * What the door adds to a bare `fetch` on the loopback: one small answer, and
 * a streamed one as a model provider sends it. Prints one JSON object.
 *
 *     deno run --allow-net=127.0.0.1 --allow-env tests/bench/egress_bench.ts
 */
import { EgressConfig } from "../../src/egress/config.ts";
import { makeEgress } from "../../src/egress/egress.ts";
import { silentLog } from "../../src/core/log.ts";
import { systemClock } from "../../src/core/time.ts";

const ROUNDS = 2000;
const CHUNKS = 200;

interface Times {
  p50Ms: number;
  p99Ms: number;
}

function summary(samples: number[]): Times {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (q: number) => sorted[Math.floor(sorted.length * q)] ?? NaN;
  return { p50Ms: round(at(0.5)), p99Ms: round(at(0.99)) };
}

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

async function once(call: typeof fetch, url: string): Promise<number> {
  const start = performance.now();
  const response = await call(url, {
    method: "POST",
    body: '{"model":"m","messages":[]}',
    headers: { "content-type": "application/json" },
  });
  for await (const _ of response.body ?? []);
  return performance.now() - start;
}

/** Takes turns, so that both see the same machine. */
async function compare(
  calls: Readonly<Record<string, typeof fetch>>,
  options: { url: string; rounds: number },
): Promise<Record<string, Times>> {
  const samples = new Map<string, number[]>();
  for (let n = -100; n < options.rounds; n++) { // the first hundred warm up
    for (const [name, call] of Object.entries(calls)) {
      const ms = await once(call, options.url);
      if (n >= 0) {
        samples.set(
          name,
          [...samples.get(name) ?? [], ms].slice(-options.rounds),
        );
      }
    }
  }
  return Object.fromEntries(
    [...samples].map(([name, list]) => [name, summary(list)]),
  );
}

async function abortMs(call: typeof fetch, url: string): Promise<number> {
  const controller = new AbortController();
  const response = await call(url, { signal: controller.signal });
  const reader = response.body?.getReader();
  await reader?.read();
  const start = performance.now();
  const next = reader?.read().catch(() => {});
  controller.abort();
  await next;
  return round(performance.now() - start);
}

async function main(): Promise<void> {
  const chunk = new TextEncoder().encode(`data: {"text":"hello"}\n\n`);
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/json") return new Response('{"ok":true}');
      let left = pathname === "/hang" ? 1 : CHUNKS;
      return new Response(
        new ReadableStream({
          pull: (to) => {
            if (left-- > 0) to.enqueue(chunk);
            else if (pathname !== "/hang") to.close();
            else return new Promise(() => {});
          },
        }),
        { headers: { "content-type": "text/event-stream" } },
      );
    },
  );
  const base = `http://127.0.0.1:${server.addr.port}`;
  using egress = makeEgress({
    config: EgressConfig.parse({}),
    clock: systemClock,
    log: silentLog,
  });
  const door = egress.door({
    caller: "bench",
    hosts: [{ host: "127.0.0.1", scheme: "http", port: server.addr.port }],
  });
  const calls = { bare: fetch, door };
  console.log(JSON.stringify(
    {
      cores: navigator.hardwareConcurrency,
      deno: Deno.version.deno,
      json: await compare(calls, { url: `${base}/json`, rounds: ROUNDS }),
      stream: await compare(calls, { url: `${base}/sse`, rounds: ROUNDS / 4 }),
      abortMs: await abortMs(door, `${base}/hang`),
    },
    null,
    2,
  ));
  await Promise.race([
    server.shutdown(),
    systemClock.sleep(500),
  ]);
  Deno.exit(0);
}

if (import.meta.main) main();
