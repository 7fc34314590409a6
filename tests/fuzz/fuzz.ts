/**
 * Sends a real gateway what nobody would, for so many seconds.
 *
 *     deno task fuzz --seconds 60 [--seed 7]
 *
 * What it finds is stored in `tests/fuzz/seeds/` and replayed by the tests.
 */
import { parseArgs } from "node:util";
import { Dice, type Input, nextInput } from "./inputs.ts";
import { type Finding, Target } from "./target.ts";

const WORKERS = 6;
const LAST_MAX = 48;
const SAMPLE_MS = 1_000;

/** What a run came to. */
export interface FuzzReport {
  seed: number;
  seconds: number;
  inputs: number;
  findings: Finding[];
  /** Megabytes, at the beginning and the end, and their slope a minute. */
  residentMb: { first: number; last: number; perMinute: number };
}

/** Least squares over samples taken at equal distances. */
function slope(samples: readonly number[]): number {
  const middle = (samples.length - 1) / 2;
  const mean = samples.reduce((sum, one) => sum + one, 0) / samples.length;
  let above = 0;
  let below = 0;
  samples.forEach((one, n) => {
    above += (n - middle) * (one - mean);
    below += (n - middle) ** 2;
  });
  return below === 0 ? 0 : above / below;
}

/** Runs it. */
export async function fuzz(
  { seconds, seed, findingsMax = 5 }: {
    seconds: number;
    seed: number;
    findingsMax?: number;
  },
): Promise<FuzzReport> {
  await using target = await Target.open();
  const dice = new Dice(seed);
  const until = performance.now() + seconds * 1000;
  const findings: Finding[] = [];
  const last: Input[] = [];
  const samples: number[] = [];
  let inputs = 0;
  const isOver = () =>
    performance.now() >= until || findings.length >= findingsMax;
  const work = async () => {
    while (!isOver()) {
      const input = nextInput(dice);
      inputs++;
      last.push(input);
      if (last.length > LAST_MAX) last.shift();
      const found = await target.send(input);
      if (found !== undefined) findings.push(found);
    }
  };
  const watch = async () => {
    while (!isOver()) {
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
      await look();
    }
  };
  const look = async () => {
    const why = await target.trouble();
    if (why !== undefined) {
      // Whichever it was: one of the last.
      findings.push(...last.map((input) => ({ why, input })));
      return;
    }
    samples.push(await target.residentBytes() / 1_048_576);
  };
  await Promise.all([watch(), ...Array.from({ length: WORKERS }, work)]);
  await look();
  const warm = samples.slice(Math.floor(samples.length / 3));
  const round = (value: number) => Math.round(value * 10) / 10;
  return {
    seed,
    seconds,
    inputs,
    findings,
    residentMb: {
      first: round(samples[0] ?? 0),
      last: round(samples.at(-1) ?? 0),
      perMinute: round(slope(warm) * (60_000 / SAMPLE_MS)),
    },
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { seconds: { type: "string" }, seed: { type: "string" } },
  });
  const seed = Number(
    values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0],
  );
  const report = await fuzz({ seconds: Number(values.seconds ?? 60), seed });
  const { findings, ...rest } = report;
  const folder = new URL("./seeds/", import.meta.url);
  if (findings.length > 0) {
    await Deno.mkdir(folder, { recursive: true });
    const file = new URL(`${seed}.json`, folder);
    await Deno.writeTextFile(file, JSON.stringify(findings, null, 2) + "\n");
  }
  const found = [...new Set(findings.map(({ why }) => why))];
  console.log(JSON.stringify({ ...rest, found }, null, 2));
  if (findings.length > 0) Deno.exitCode = 1;
}

if (import.meta.main) main();
