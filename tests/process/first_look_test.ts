/** What somebody tries before anything is set up, through the launcher. */
import assert from "node:assert/strict";
import { EXIT } from "../../src/core/exit.ts";
import { scratch } from "./processes.ts";
import { carapace } from "./verbs.ts";

Deno.test("help and the version need no plan: a broken configuration does not stop them", async (t) => {
  await using dir = await scratch();
  const broken = { CARAPACE_CONFIG_PATH: dir.path, CARAPACE_PORT: "banana" };
  for (
    const [line, expected] of [
      ["--help", /^Carapace, a personal AI/],
      ["start --help", /^Run the gateway/],
      ["help cron", /^Add, list, change/],
      ["version", /^carapace \d/],
    ] as const
  ) {
    await t.step(line, async () => {
      const ran = await carapace(dir.path, line.split(" "), broken);
      assert.equal(ran.code, EXIT.ok, ran.err);
      assert.match(ran.out, expected);
      assert.ok(!ran.out.includes("\x1b"), "colours in a pipe");
    });
  }
});

Deno.test("config validate FILE reads the file it names, its includes and its variables", async () => {
  await using dir = await scratch();
  const file = `${dir.path}/other.jsonc`;
  await Deno.mkdir(`${dir.path}/state`);
  await Deno.writeTextFile(
    file,
    `{ "$include": "./part.jsonc", "gateway": { "hosts": ["\${SOME_HOST}"] } }`,
    { mode: 0o600 },
  );
  const part = `${dir.path}/part.jsonc`;
  await Deno.writeTextFile(part, `{ "agents": {} }`, { mode: 0o600 });
  const validate = (env: Record<string, string> = {}, path = file) =>
    carapace(`${dir.path}/state`, ["config", "validate", path], env);

  const good = await validate({ SOME_HOST: "assist.example.org" });
  assert.equal(good.code, EXIT.ok, good.out + good.err);
  const unset = await validate();
  assert.equal(unset.code, EXIT.badConfig);
  assert.match(unset.out, /other\.jsonc:1:\d+: gateway\.hosts\S*: .*SOME_HOST/);
  const absent = await validate({}, `${dir.path}/nowhere.jsonc`);
  assert.match(absent.out, /there is no such file/);
  await Deno.writeTextFile(part, `{ "agnets": {} }`);
  const typo = await validate({ SOME_HOST: "assist.example.org" });
  assert.match(typo.out, /part\.jsonc:1:\d+: agnets: .*did you mean "agents"/);
});
