/** `docs/plugin-abi.json` says what is so. */
import assert from "node:assert/strict";
import { ANSWERS } from "../../src/plugins/host_functions.ts";
import { makePluginAbi } from "../docs/plugin_abi.ts";
import { fakeHost, manifestOf, probe, tool, wat } from "../fakes/plugins.ts";

interface Abi {
  imports: Record<string, Record<string, Record<string, string>>>;
}

/** `(i64, i32) -> i64` as WebAssembly text. */
function typeOf(signature: string): string {
  const [params = "", results = ""] = signature.split(" -> ");
  const list = (what: string, text: string) => {
    const types = text.replaceAll(/[(),]/g, " ").trim();
    return types === "" ? "" : `(${what} ${types})`;
  };
  return `(func ${list("param", params)} ${list("result", results)})`;
}

Deno.test("a module that imports all that is listed is linked, and nothing else is", async (t) => {
  const abi: Abi = JSON.parse(await makePluginAbi());
  const env = abi.imports["extism:host/env"] ?? {};
  const user = abi.imports["extism:host/user"] ?? {};
  const listed = [
    ...["always", "with wants.config", "with wants.log"].flatMap((key) =>
      Object.entries(env[key] ?? {}).map(([name, signature]) =>
        ["extism:host/env", name, signature] as const
      )
    ),
    ...Object.entries(user).map(([name, { signature = "" }]) =>
      ["extism:host/user", name, signature] as const
    ),
  ];
  assert.ok(listed.length > 25);
  const { manifest } = await probe();
  const load = async (
    imports: readonly (readonly [string, string, string])[],
  ) => {
    const bytes = await wat(
      `(module ${
        imports.map(([module, name, signature]) =>
          `(import "${module}" "${name}" ${typeOf(signature)})`
        ).join("\n")
      } (memory (export "memory") 1) (func (export "a")) (func (export "send")) (func (export "on_schedule")))`,
    );
    await using fake = await fakeHost();
    return await fake.add(
      await manifestOf("listed", bytes, {
        wants: manifest["wants"],
        channel: manifest["channel"],
        tools: [tool("a")],
      }),
      bytes,
    );
  };
  await t.step("all of them", async () => {
    const view = await load(listed);
    assert.equal(view.state, "ready", `${view.why}`);
  });
  for (const name of env["never"] as unknown as string[]) {
    await t.step(`never ${name}`, async () => {
      const type = "(i64) -> i64";
      await assert.rejects(
        load([["extism:host/env", name, type]]),
        new RegExp(name),
      );
    });
  }
});

Deno.test("answers have the shape that is listed", async (t) => {
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response(new Uint8Array([0xff, 0xfe])),
  );
  const { port } = server.addr;
  const { manifest, bytes } = await probe({
    wants: { http: [{ host: "127.0.0.1", scheme: "http", port }] },
  });
  await using fake = await fakeHost();
  await fake.add(manifest, bytes);
  const rows: [name: keyof typeof ANSWERS, request: unknown][] = [
    ["carapace_http", { url: `http://127.0.0.1:${port}/` }],
    ["carapace_kv_set", { key: "a", value: "b" }],
    ["carapace_kv_get", { key: "a" }],
    ["carapace_kv_list", {}],
    ["carapace_kv_delete", { key: "a" }],
    ["carapace_message", { to: "owner", text: "a" }],
    ["carapace_schedule", { name: "a", inMs: 60_000 }],
    [
      "carapace_emit",
      { id: "1", sender: { id: "a" }, chat: { id: "a" }, text: "a" },
    ],
  ];
  for (const [name, request] of rows) {
    await t.step(name, async () => {
      const answer = await fake.ask(name.slice("carapace_".length), request);
      ANSWERS[name].parse(answer);
    });
  }
});
