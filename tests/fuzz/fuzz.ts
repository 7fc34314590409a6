/**
 * Sends a real gateway what nobody would, for so many seconds: requests, bytes
 * and sockets to one process, writes of the configuration to another. At rest,
 * after each window of inputs, it looks at what is alive in the first. Rests of
 * half a minute are not counted as seconds.
 *
 *     deno task fuzz --seconds 60 [--seed 7] [--window 20000]
 *
 * What it finds is stored in `tests/fuzz/seeds/` and replayed by the tests.
 */
import { parseArgs } from "node:util";
import { configInput } from "./config_inputs.ts";
import { ConfigTarget } from "./config_target.ts";
import { BYTES_PER_INPUT_MAX, bytesPerInput, type Rest } from "./growth.ts";
import { Dice, type Input, nextInput } from "./inputs.ts";
import { grownMost, type LiveBytes } from "./inspector.ts";
import { rawInput } from "./raw_inputs.ts";
import { type Finding, Target } from "./target.ts";

const WORKERS = 6;
const LAST_MAX = 48;
const LOOK_MS = 1_000;
const RAW_SHARE = 0.2;
/** The runtime holds a socket that broke off for half a minute. */
const REST_MS = 32_000;
const WINDOW = 20_000;

/** A window's end, as the report shows it. */
interface Window {
  inputs: number;
  /** Alive after a collection, and held of the machine, in megabytes. */
  liveMb: number;
  residentMb: number;
}

/** What a run came to. */
export interface FuzzReport {
  seed: number;
  inputs: number;
  /** Writes of the configuration, and those that were accepted. */
  configs: { sent: number; written: number };
  findings: Finding[];
  windows: Window[];
  /** `undefined`: there were too few windows to tell. */
  bytesPerInput: number | undefined;
  /** Where what grew was made, when it grew. */
  grown: string[];
}

/** How it is run. */
export interface FuzzOptions {
  /** Of sending; rests are not counted. */
  seconds: number;
  seed: number;
  /** Inputs between two rests; without it there is none. */
  window?: number;
  findingsMax?: number;
  /** Told how far it is, in words. */
  onProgress?(text: string): void;
}

/** One run over both targets. */
class Run {
  readonly #options: FuzzOptions;
  readonly #dice: Dice;
  readonly #last: Input[] = [];
  readonly findings: Finding[] = [];
  readonly windows: Window[] = [];
  readonly rests: Rest[] = [];
  #firstLive: LiveBytes | undefined;
  #lastLive: LiveBytes | undefined;
  inputs = 0;
  configs = 0;

  constructor(options: FuzzOptions) {
    this.#options = options;
    this.#dice = new Dice(options.seed);
  }

  #isFull(): boolean {
    return this.findings.length >= (this.#options.findingsMax ?? 5);
  }

  /** Sends until the time or the window is over. */
  async #window(target: Target, until: number): Promise<void> {
    const end = this.inputs + (this.#options.window ?? Infinity);
    const isOver = () =>
      performance.now() >= until || this.#isFull() || this.inputs >= end;
    const work = async () => {
      while (!isOver()) {
        const input = this.#dice.chance(RAW_SHARE)
          ? rawInput(this.#dice)
          : nextInput(this.#dice);
        this.inputs++;
        this.#last.push(input);
        if (this.#last.length > LAST_MAX) this.#last.shift();
        const found = await target.send(input);
        if (found !== undefined) this.findings.push(found);
      }
    };
    const watch = async () => {
      while (!isOver()) {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        await this.#look(target);
      }
    };
    await Promise.all([watch(), ...Array.from({ length: WORKERS }, work)]);
    await this.#look(target);
  }

  async #look(target: Target): Promise<void> {
    const why = await target.trouble();
    // Whichever it was: one of the last.
    if (why !== undefined) {
      this.findings.push(...this.#last.map((input) => ({ why, input })));
    }
  }

  async #rest(target: Target): Promise<void> {
    const { inspector } = target;
    if (inspector === undefined) return;
    this.#options.onProgress?.(
      `${this.inputs} inputs sent, ${this.findings.length} findings; resting ${
        REST_MS / 1000
      } s before a look at the memory`,
    );
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
    const { used, buffers } = await inspector.live();
    this.rests.push({ inputs: this.inputs, live: used + buffers });
    this.#lastLive = await inspector.liveBytes();
    this.#firstLive ??= this.#lastLive;
    const window = {
      inputs: this.inputs,
      liveMb: toMb(used + buffers),
      residentMb: toMb(await target.residentBytes()),
    };
    this.windows.push(window);
    this.#options.onProgress?.(
      `${window.liveMb} MB live, ${window.residentMb} MB resident`,
    );
  }

  async requests(target: Target): Promise<void> {
    let leftMs = this.#options.seconds * 1000;
    while (leftMs > 0 && !this.#isFull()) {
      const begun = performance.now();
      await this.#window(target, begun + leftMs);
      leftMs -= performance.now() - begun;
      await this.#rest(target);
    }
  }

  async writes(target: ConfigTarget, isOver: () => boolean): Promise<void> {
    const dice = new Dice(this.#options.seed + 1);
    while (!isOver() && !this.#isFull()) {
      const input = configInput(dice);
      if (input.kind !== "config") continue;
      this.configs++;
      const found = await target.send(input);
      if (found !== undefined) this.findings.push(found);
    }
  }

  grown(): string[] {
    const [first, last] = [this.#firstLive, this.#lastLive];
    return first === undefined || last === undefined
      ? []
      : grownMost(first, last);
  }
}

function toMb(bytes: number): number {
  return Math.round(bytes / 104_857.6) / 10;
}

/** Runs it. */
export async function fuzz(options: FuzzOptions): Promise<FuzzReport> {
  const inspect = options.window !== undefined;
  const [one, other] = await Promise.all([
    Target.open({ inspect }),
    ConfigTarget.open(),
  ]);
  await using target = one;
  await using configTarget = other;
  const run = new Run(options);
  let isOver = false;
  const writing = run.writes(configTarget, () => isOver);
  await run.requests(target).finally(() => isOver = true);
  await writing;
  const stayed = bytesPerInput(run.rests);
  return {
    seed: options.seed,
    inputs: run.inputs,
    configs: { sent: run.configs, written: configTarget.written },
    findings: run.findings,
    windows: run.windows,
    bytesPerInput: stayed === undefined ? undefined : Math.round(stayed),
    grown: stayed !== undefined && stayed > BYTES_PER_INPUT_MAX
      ? run.grown()
      : [],
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string" },
      seed: { type: "string" },
      window: { type: "string" },
    },
  });
  const seed = Number(
    values.seed ?? crypto.getRandomValues(new Uint32Array(1))[0],
  );
  const report = await fuzz({
    seconds: Number(values.seconds ?? 60),
    seed,
    window: Number(values.window ?? WINDOW),
    onProgress: (text) => console.error(text),
  });
  const { findings, ...rest } = report;
  const folder = new URL("./seeds/", import.meta.url);
  if (findings.length > 0) {
    await Deno.mkdir(folder, { recursive: true });
    const file = new URL(`${seed}.json`, folder);
    await Deno.writeTextFile(file, JSON.stringify(findings, null, 2) + "\n");
  }
  const found = [...new Set(findings.map(({ why }) => why))];
  const memory = report.bytesPerInput === undefined
    ? "not judged: it takes three windows (--seconds, --window)"
    : report.bytesPerInput <= BYTES_PER_INPUT_MAX
    ? "flat"
    : `grows by ${report.bytesPerInput} bytes an input`;
  console.log(JSON.stringify({ ...rest, memory, found }, null, 2));
  if (findings.length > 0 || memory.startsWith("grows")) Deno.exitCode = 1;
}

if (import.meta.main) main();
