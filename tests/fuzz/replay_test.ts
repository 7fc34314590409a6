import assert from "node:assert/strict";
import { configInput } from "./config_inputs.ts";
import { ConfigTarget } from "./config_target.ts";
import { fuzz } from "./fuzz.ts";
import { Dice, type Input, nextInput } from "./inputs.ts";
import { BYTES_PER_INPUT_MAX, bytesPerInput } from "./growth.ts";
import { rawInput } from "./raw_inputs.ts";
import { Target } from "./target.ts";

async function seeds(): Promise<{ name: string; inputs: Input[] }[]> {
  const folder = new URL("./seeds/", import.meta.url);
  const found: { name: string; inputs: Input[] }[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (!name.endsWith(".json")) continue;
    const text = await Deno.readTextFile(new URL(name, folder));
    const rows: { input: Input }[] = JSON.parse(text);
    found.push({ name, inputs: rows.map(({ input }) => input) });
  }
  return found;
}

Deno.test("what once went wrong does not again", async () => {
  const [one, other] = await Promise.all([Target.open(), ConfigTarget.open()]);
  await using target = one;
  await using configTarget = other;
  for (const { name, inputs } of await seeds()) {
    for (const input of inputs) {
      const found = input.kind === "config"
        ? await configTarget.send(input)
        : await target.send(input);
      assert.equal(found?.why, undefined, name);
    }
    assert.equal(await target.trouble(), undefined, name);
  }
});

Deno.test("a few seconds of what nobody would send", async () => {
  const report = await fuzz({ seconds: 4, seed: 20_261_122 });
  assert.deepEqual(report.findings.map(({ why }) => why), []);
  assert.ok(report.inputs > 100, `${report.inputs} inputs`);
  assert.ok(report.configs.sent > 10, `${report.configs.sent} configurations`);
});

Deno.test("the same seed makes the same inputs", () => {
  const make = () => {
    const dice = new Dice(7);
    return Array.from(
      { length: 200 },
      () => [nextInput(dice), rawInput(dice), configInput(dice)],
    );
  };
  assert.deepEqual(make(), make());
});

Deno.test("memory that grows is told from memory that fills", () => {
  const rests = (live: (n: number) => number) =>
    [1, 2, 3, 4, 5].map((n) => ({ inputs: n * 20_000, live: live(n) }));
  // Half a megabyte a window, as measured; the first is not judged.
  const fills = bytesPerInput(rests((n) => 5e7 + (n > 1 ? 2e7 : 0) + n * 5e5));
  assert.ok(fills !== undefined && fills < BYTES_PER_INPUT_MAX, `${fills}`);
  // A kilobyte for every fourth input.
  const leaks = bytesPerInput(rests((n) => 5e7 + n * 5_000 * 1_000));
  assert.ok(leaks !== undefined && leaks > BYTES_PER_INPUT_MAX, `${leaks}`);
  assert.equal(bytesPerInput(rests(() => 1).slice(0, 2)), undefined);
});
