/** Who has no plugin pays nothing for them; who gets one has it at once. */
import assert from "node:assert/strict";
import { root } from "../process/processes.ts";
import { openRealHouse } from "../fakes/real_house.ts";
import { grantOf, installIn, ownerOf, probe } from "../fakes/plugins.ts";

/** What a start without plugins may load of their room. */
const DOOR = [
  "src/plugins/config.ts",
  "src/plugins/room.ts",
  "src/plugins/verb_paths.ts",
];

interface Graph {
  roots: string[];
  modules: {
    specifier: string;
    dependencies?: {
      isDynamic?: boolean;
      code?: { specifier?: string };
    }[];
  }[];
}

/** Local modules that importing `entry` loads by itself. */
async function loadedBy(entry: string): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", entry],
    cwd: root,
  }).output();
  const graph: Graph = JSON.parse(new TextDecoder().decode(stdout));
  const modules = new Map(graph.modules.map((one) => [one.specifier, one]));
  const seen = new Set(graph.roots);
  for (const specifier of seen) {
    for (const one of modules.get(specifier)?.dependencies ?? []) {
      const next = one.code?.specifier;
      if (next !== undefined && one.isDynamic !== true) seen.add(next);
    }
  }
  return [...seen].flatMap((one) => {
    const [, path] = one.split(`${root}/`);
    return path === undefined ? [] : [path];
  });
}

Deno.test("a start without plugins loads their door and nothing behind it", async () => {
  for (const entry of ["src/service.ts", "main.ts"]) {
    const loaded = await loadedBy(entry);
    assert.ok(loaded.includes(entry));
    const behind = loaded.filter((path) =>
      path.startsWith("src/plugins/") && !DOOR.includes(path)
    );
    assert.deepEqual(behind, [], entry);
  }
});

Deno.test("without a plugin the methods and webhooks answer as with one", async () => {
  await using real = await openRealHouse();
  using client = await ownerOf(real);
  const post = async (path: string) => {
    const answer = await fetch(`${real.url}${path}`, {
      method: "POST",
      body: "x",
    });
    const { error } = await answer.json();
    return [answer.status, error];
  };
  const listed = await client.call("plugins.list", {});
  assert.deepEqual(listed.payload.plugins, []);
  const before = await post("/plugins/qr/hook");
  assert.equal(before[0], 401);
  // This loads the room.
  const { error } = await client.call("plugins.restart", { id: "qr" });
  assert.match(error.message, /There is no plugin "qr"/);
  assert.deepEqual(
    await client.call("plugins.list", {}).then((f) => f.payload),
    listed.payload,
  );
  assert.deepEqual(await post("/plugins/qr/hook"), before);
});

Deno.test("a plugin that is installed while the gateway runs is there at once", async () => {
  await using real = await openRealHouse();
  using client = await ownerOf(real);
  const { manifest, bytes } = await probe();
  const view = await installIn(real, client, { manifest, bytes });
  assert.equal(view.state, "off");
  const granted = { probe: await grantOf(manifest) };
  real.house.adopt(real.settings({ plugins: { granted } }));
  await client.event("plugins.changed", ({ state }) => state === "ready");
  const said = await client.call("plugins.call", {
    id: "probe",
    tool: "echo",
    args: { text: "a" },
  });
  assert.equal(said.payload.output, '{"text":"a"}');
});
