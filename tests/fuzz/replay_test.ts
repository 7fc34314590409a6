import assert from "node:assert/strict";
import { fuzz } from "./fuzz.ts";
import { Dice, type Input, nextInput } from "./inputs.ts";
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
  await using target = await Target.open();
  for (const { name, inputs } of await seeds()) {
    for (const input of inputs) {
      assert.equal((await target.send(input))?.why, undefined, name);
    }
    assert.equal(await target.trouble(), undefined, name);
  }
});

Deno.test("a few seconds of what nobody would send", async () => {
  const { inputs, findings } = await fuzz({ seconds: 4, seed: 20_261_122 });
  assert.deepEqual(findings.map(({ why }) => why), []);
  assert.ok(inputs > 100, `${inputs} inputs`);
});

Deno.test("the same seed makes the same inputs", () => {
  const make = () => {
    const dice = new Dice(7);
    return Array.from({ length: 200 }, () => nextInput(dice));
  };
  assert.deepEqual(make(), make());
});
