/**
 * What a plugin costs: `deno run -A tests/bench/plugins_bench.ts`. A warm call, a
 * cold start (metered before, and not), and the memory of twenty plugins.
 */
import { parse } from "jsonc-parser";
import { type FakeHost, fakeHost, probe } from "../fakes/plugins.ts";

const PLUGINS = 20;
const CALLS = 2_000;

type Raw = Record<string, unknown>;

async function qr(
  id: string,
): Promise<{ manifest: Raw; bytes: Uint8Array<ArrayBuffer> }> {
  const folder = new URL("../../plugins/qr/", import.meta.url);
  const text = await Deno.readTextFile(new URL("plugin.jsonc", folder));
  const bytes = await Deno.readFile(new URL("qr.wasm", folder));
  return { manifest: { ...parse(text) as Raw, id }, bytes };
}

function quantile(sorted: readonly number[], q: number): number {
  return Math.round((sorted[Math.floor(sorted.length * q)] ?? 0) * 1000) / 1000;
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await run();
  return performance.now() - begun;
}

const rssMiB = () => Math.round(Deno.memoryUsage().rss / 1_048_576);
const round = (ms: number) => Math.round(ms * 10) / 10;

/** One call: of a guest that only echoes, or one that draws a code. */
const call = (fake: FakeHost, id: "probe" | "qr") =>
  fake.host.call({
    id,
    tool: id === "qr" ? "encode" : "echo",
    args: { text: "a" },
  }, { label: { integrity: "owner", secrecy: [], origins: [] } });

async function callTimes(fake: FakeHost, id: "probe" | "qr"): Promise<Raw> {
  const times: number[] = [];
  for (let n = 0; n < CALLS; n++) times.push(await timed(() => call(fake, id)));
  times.sort((a, b) => a - b);
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

async function main(): Promise<void> {
  await using fake = await fakeHost();
  const idle = rssMiB();
  const first = await qr("qr");
  const install = round(
    await timed(() => fake.add(first.manifest, first.bytes)),
  );
  const echoing = await probe();
  await fake.add(echoing.manifest, echoing.bytes);
  const echo = await callTimes(fake, "probe");
  const draw = await callTimes(fake, "qr");
  await fake.host.remove("probe", "bench");
  const cold: number[] = [];
  for (let n = 0; n < 10; n++) {
    cold.push(await timed(() => fake.host.restart("qr", "bench")));
  }
  cold.sort((a, b) => a - b);
  const before = rssMiB();
  for (let n = 1; n < PLUGINS; n++) {
    const { manifest, bytes } = await qr(`qr-${n}`);
    await fake.add(manifest, bytes);
  }
  const after = rssMiB();
  console.log(JSON.stringify(
    {
      deno: Deno.version.deno,
      cores: navigator.hardwareConcurrency,
      module: "qr, 28 KB",
      installMs: install,
      warmCallMs: { echo, draw },
      coldStartMs: { p50: quantile(cold, 0.5), max: quantile(cold, 0.99) },
      memoryMiB: { idle, one: before, twenty: after },
      perPluginMiB: round((after - before) / (PLUGINS - 1)),
    },
    null,
    2,
  ));
}

if (import.meta.main) void main();
