/** `carapace plugin new`: each kind builds, passes its test and is accepted. */
import assert from "node:assert/strict";
import { Proc, root, scratch } from "../process/processes.ts";
import { fakeHost } from "../fakes/plugins.ts";
import { parse } from "jsonc-parser";

async function deno(
  args: readonly string[],
  cwd: string,
): Promise<string> {
  await using proc = new Proc(args, { cwd, env: { DENO_NO_PROMPT: "1" } });
  const code = await proc.code();
  const said = [...proc.out, ...proc.err].join("\n");
  assert.equal(code, 0, said);
  return said;
}

for (const kind of ["tool", "webhook", "hook", "channel"]) {
  Deno.test(`carapace plugin new --kind ${kind} makes a plugin that builds and passes`, async () => {
    await using dir = await scratch();
    const id = `my-${kind}`;
    await deno(
      ["run", "-A", `${root}/main.ts`, "plugin", "new", id, "--kind", kind],
      dir.path,
    );
    const folder = `${dir.path}/${id}`;
    await deno(["task", "test"], folder);
    const manifest = parse(await Deno.readTextFile(`${folder}/plugin.jsonc`));
    const bytes = await Deno.readFile(`${folder}/${id}.wasm`);
    await using fake = await fakeHost();
    const view = await fake.add(manifest, bytes);
    assert.equal(view.state, "ready", `${view.why}`);
    if (kind === "tool") {
      const said = await fake.call(id, "greet", { name: "you" });
      assert.equal(said, "Hello, you!");
    }
  });
}
