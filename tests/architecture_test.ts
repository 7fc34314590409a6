/**
 * The house rules, checked. An arrow may only point down a floor or stay in its
 * room; each outside thing is touched by its owners only. A new room, root or
 * owner is a visible edit of the tables below.
 */
import assert from "node:assert/strict";
import { ROOTS } from "./roots.ts";

const FLOORS = [
  ["core"],
  ["config", "store", "egress", "web"],
  ["auth", "guard", "providers", "channels", "plugins", "remote"],
  ["tools"],
  ["agent"],
  ["gateway", "schedule", "ops"],
  ["cli"],
  ["settings.ts"],
  ["permissions.ts"],
  ["plan.ts"],
  ["program_files.ts", "keeper.ts"],
  ["programs.ts"],
  ["house"],
  ["house.ts", "launch.ts", "offline_plugins.ts"],
  ["following.ts"],
  ["service.ts"],
  ["main.ts"],
];

/** Who may touch what. An entry is a room, or a file for one exception. */
const OWNERS: [what: string, token: RegExp, owners: string[]][] = [
  [
    "the network",
    /(?<![.\w])fetch\(|new WebSocket\(|Deno\.connect|"node:(https?|net|tls|dns)"/,
    [
      "egress",
      "web",
      "src/remote/client.ts",
      "src/cli/readiness.ts",
      "src/ops/posture.ts",
    ],
  ],
  ["listening", /Deno\.(serve|upgradeWebSocket|listen)\b/, [
    "src/cli/redirect.ts",
    "gateway",
    "src/ops/preflight.ts",
    "src/ops/posture.ts",
  ]],
  ["processes", /Deno\.Command|node:child_process/, [
    "src/launch.ts",
    "src/programs.ts",
    "src/ops/posture.ts",
  ]],
  ["native libraries", /Deno\.dlopen/, ["src/ops/posture.ts"]],
  ["the environment", /Deno\.env\b/, ["config", "main.ts", "src/launch.ts"]],
  [
    "files",
    /Deno\.(readTextFile|readFile|writeTextFile|writeFile|open|watchFs|rename|remove|mkdir|readDir|chmod)(Sync)?\(/,
    [
      "config",
      "tools",
      "ops",
      "src/program_files.ts",
      "src/store/files.ts",
      "src/cli/verbs/link.ts",
      "src/cli/verbs/history.ts",
      "src/cli/verbs/plugin/package.ts",
      "src/cli/verbs/plugin/sign.ts",
      "src/cli/verbs/plugin/new.ts",
    ],
  ],
  ["KV", /Deno\.openKv/, ["store", "src/ops/posture.ts"]],
  ["cron", /Deno\.cron/, ["main.ts"]],
  ["threads", /new Worker\(|@extism\//, ["plugins"]],
  ["Hono", /from "@hono/, ["gateway"]],
  ["the clock", /Date\.now\(|new Date\(\)|Math\.random\(/, [
    "src/core/time.ts",
    "web",
  ]],
  ["the console", /(?<![.\w])console\./, ["cli", "web", "src/launch.ts"]],
  ["a model around the purse", /\b(models|router)\.stream\(/, [
    "src/agent/metered.ts",
    "src/gateway/api/target.ts",
    "src/house/engine.ts",
    "src/house/guarding.ts",
  ]],
  ["granting authority", /grantAuthority\(|new Authority\(/, [
    "auth",
    "src/core/authority.ts",
  ]],
  ["chat networks by name", /telegram|discord|slack/i, [
    "channels",
    "src/house/channels.ts",
  ]],
  ["model vendors by name", /anthropic|gemini|ollama|bedrock/i, [
    "providers",
    "settings.ts",
    "src/house/engine.ts",
  ]],
];

const LINES_HABIT = 500;
const FILES_HABIT = 15;

type Edge = { specifier?: string };
type Graph = {
  modules: {
    specifier: string;
    dependencies?: { code?: Edge; type?: Edge }[];
  }[];
};

const root = new URL("../", import.meta.url).href;
const floor = new Map(FLOORS.flatMap((rooms, n) => rooms.map((r) => [r, n])));

function local(url = ""): string[] {
  return url.startsWith(root) ? [url.slice(root.length)] : [];
}

function room(path: string): string {
  return path.split("/")[path.startsWith("src/") ? 1 : 0] ?? path;
}

async function graph(entry: string): Promise<Graph> {
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", entry],
    cwd: new URL(root),
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

async function* sources(dir = "src"): AsyncGenerator<string> {
  for await (const entry of Deno.readDir(new URL(dir, root))) {
    const path = `${dir}/${entry.name}`;
    if (entry.isDirectory) yield* sources(path);
    else if (/\.tsx?$/.test(path) && !/_(test|bench)\.tsx?$/.test(path)) {
      yield path;
    }
  }
}

/** Comments may name what code may not touch. */
function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(
    /^\s*\/\/.*$/gm,
    "",
  );
}

Deno.test("house", async (t) => {
  const arrows = new Map<string, string[]>();
  for (const { modules } of await Promise.all(ROOTS.map(graph))) {
    for (const { specifier, dependencies = [] } of modules) {
      const to = dependencies.flatMap((d) =>
        [d.code, d.type].flatMap((edge) => local(edge?.specifier))
      );
      for (const from of local(specifier)) arrows.set(from, to);
    }
  }
  const files = ["main.ts", ...await Array.fromAsync(sources())];
  const text = new Map<string, string>();
  for (const file of files) {
    text.set(file, await Deno.readTextFile(new URL(file, root)));
  }

  await t.step("every arrow points down a floor or stays in its room", () => {
    const goesUp = (from: string, to: string) =>
      room(from) !== room(to) &&
      !((floor.get(room(to)) ?? Infinity) < (floor.get(room(from)) ?? -1));
    const bad = [...arrows].flatMap(([from, tos]) =>
      tos.filter((to) => goesUp(from, to)).map((to) => `${from} -> ${to}`)
    );
    assert.deepEqual(bad, []);
  });

  await t.step("what constructs the rooms is in the hand of house.ts", () => {
    const bad = [...arrows].flatMap(([from, tos]) =>
      from === "src/house.ts" || room(from) === "house"
        ? []
        : tos.filter((to) => room(to) === "house").map((to) =>
          `${from} -> ${to}`
        )
    );
    assert.deepEqual(bad, []);
  });

  await t.step("every source file is reached from a root", () => {
    assert.deepEqual(files.filter((f) => !arrows.has(f)), []);
  });

  await t.step("each outside thing is touched by its owners only", () => {
    const bad = [...text].flatMap(([file, source]) =>
      OWNERS.filter(([, token, owners]) =>
        token.test(withoutComments(source)) &&
        !owners.includes(room(file)) && !owners.includes(file)
      ).map(([what]) => `${file} touches ${what}`)
    );
    assert.deepEqual(bad, []);
  });

  await t.step("the top level is the house's", async () => {
    const known = new Set([
      "deno.json",
      "deno.lock",
      "main.ts",
      "src",
      "plugins",
      "tests",
      "docs",
      "README.md",
      "LICENSE",
    ]);
    const entries = await Array.fromAsync(Deno.readDir(new URL(root)));
    const names = entries.map((entry) => entry.name);
    assert.deepEqual(
      names.filter((n) => !known.has(n) && !n.startsWith(".")),
      [],
    );
  });

  await t.step("long files and full rooms are reported", () => {
    for (const [file, source] of text) {
      const lines = source.split("\n").length;
      if (lines > LINES_HABIT) console.warn(`  ${file} has ${lines} lines`);
    }
    for (const [name, inRoom] of Object.entries(Object.groupBy(files, room))) {
      if ((inRoom?.length ?? 0) > FILES_HABIT) {
        console.warn(`  ${name} has ${inRoom?.length} files`);
      }
    }
  });
});
