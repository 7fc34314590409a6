/**
 * Plugins on the whole program: installed, granted and called by the command
 * line, beside a gateway in its sandbox and without one.
 */
import assert from "node:assert/strict";
import {
  freePort,
  LAUNCHER_FLAGS,
  Proc,
  root,
  scratch,
  until,
} from "./processes.ts";
import { compile } from "../../plugins/pdk/compile.ts";
import { sha256Hex } from "../../src/core/ids.ts";

const TOKEN = "a-token-for-process-tests";

interface Place {
  state: string;
  port: number;
}

interface Said {
  code: number;
  out: string;
  err: string;
}

function env({ state, port }: Place): Record<string, string> {
  return {
    CARAPACE_STATE_DIR: state,
    CARAPACE_PORT: String(port),
    CARAPACE_TOKEN: TOKEN,
  };
}

/** `carapace …`, as its task runs it. */
async function carapace(place: Place, ...args: string[]): Promise<Said> {
  await using proc = new Proc(
    ["run", ...LAUNCHER_FLAGS, "src/launch.ts", ...args],
    { env: env(place) },
  );
  const code = await proc.code();
  return { code, out: proc.out.join("\n"), err: proc.err.join("\n") };
}

async function good(place: Place, ...args: string[]): Promise<string> {
  const { code, out, err } = await carapace(place, ...args);
  assert.equal(code, 0, `${args.join(" ")}: ${out}\n${err}`);
  return out;
}

async function startGateway(place: Place): Promise<Proc> {
  const proc = new Proc(
    ["run", ...LAUNCHER_FLAGS, "src/launch.ts", "start"],
    { env: env(place) },
  );
  await until(
    "the gateway's start",
    () => proc.out.some((line) => line.includes(`:${place.port}`)),
  );
  return proc;
}

/** A folder with a plugin of the hostile guest, which wants nothing it lacks. */
async function hostileFolder(path: string): Promise<string> {
  const folder = `${path}/hostile`;
  await Deno.mkdir(folder);
  const guest = `${root}/tests/plugins/guests/hostile`;
  const bytes = await compile(guest, [`${root}/plugins/pdk/assembly`]);
  await Deno.writeFile(`${folder}/hostile.wasm`, bytes);
  const tool = (name: string) => ({
    name,
    description: name,
    input: { type: "object" },
    effect: "none",
    export: name,
  });
  await Deno.writeTextFile(
    `${folder}/plugin.jsonc`,
    JSON.stringify({
      id: "hostile",
      name: "Hostile",
      version: "1.0.0",
      publisher: "Tests",
      wasm: { file: "hostile.wasm", sha256: await sha256Hex(bytes) },
      tools: [tool("spin"), tool("bomb_deep")],
      wants: { kv: { bytes: 100 }, log: true },
    }),
  );
  return folder;
}

Deno.test("carapace plugin beside a running gateway", async (t) => {
  await using dir = await scratch();
  const place = { state: dir.path, port: freePort() };
  await using gateway = await startGateway(place);
  await t.step("unsigned is refused, and says what to do", async () => {
    const { code, err } = await carapace(
      place,
      "plugin",
      "install",
      "plugins/qr",
      "--yes",
    );
    assert.equal(code, 1);
    assert.match(err, /Cannot trust plugin "qr": it is not signed/);
    assert.match(err, /--allow-unsigned/);
  });
  await t.step(
    "installed without a terminal it is callable at once",
    async () => {
      await good(
        place,
        "plugin",
        "install",
        "plugins/qr",
        "--allow-unsigned",
        "--yes",
      );
      const drawn = await good(
        place,
        "plugin",
        "call",
        "qr",
        "encode",
        '{"text":"hi"}',
      );
      assert.match(drawn, /^█{20,}/);
      assert.match(await good(place, "plugin", "list"), /qr\s+1\.0\.0\s+ready/);
    },
  );
  await t.step("a call that fails exits 1 with its cause", async () => {
    const folder = await hostileFolder(dir.path);
    await good(
      place,
      "plugin",
      "install",
      folder,
      "--allow-unsigned",
      "--yes",
    );
    const spin = await carapace(place, "plugin", "call", "hostile", "spin");
    assert.equal(spin.code, 1);
    assert.match(
      spin.err,
      /fuel exhausted after 1\.0e9 units in tool "spin"/,
    );
    const bad = await carapace(place, "plugin", "call", "hostile", "spin", "{");
    assert.equal(bad.code, 2);
    const log = await good(place, "plugin", "logs", "hostile");
    assert.match(log, /fuel exhausted/);
  });
  await t.step(
    "an http grant adds exactly its hosts, by a restart",
    async () => {
      const before = await good(place, "permissions", "--explain");
      assert.ok(!before.includes("ntfy.sh"));
      await good(
        place,
        "plugin",
        "install",
        "plugins/ntfy",
        "--allow-unsigned",
        "--yes",
      );
      const after = await good(place, "permissions", "--explain");
      assert.match(
        after,
        /--allow-net\s+ntfy\.sh:443\s+plugins\.granted\.ntfy\.http/,
      );
      const hosts = (text: string) =>
        text.split("\n").filter((line) => line.startsWith("--allow-net"))
          .length;
      assert.equal(hosts(after), hosts(before) + 1);
      assert.ok(
        gateway.err.some((line) => line.includes("+ntfy.sh:443")),
        gateway.err.join("\n"),
      );
      assert.match(
        await good(place, "plugin", "list"),
        /ntfy\s+1\.0\.0\s+ready/,
      );
      // What was there before is there again.
      await good(place, "plugin", "call", "qr", "encode", '{"text":"hi"}');
    },
  );
  await t.step("switched off and removed, the host goes too", async () => {
    await good(place, "plugin", "disable", "ntfy");
    const off = await good(place, "permissions", "--explain");
    assert.ok(!off.includes("ntfy.sh"));
    await good(place, "plugin", "remove", "ntfy");
    const { code, err } = await carapace(place, "plugin", "info", "ntfy");
    assert.equal(code, 1);
    assert.match(err, /There is no plugin "ntfy"/);
    const config = await Deno.readTextFile(`${dir.path}/carapace.jsonc`);
    assert.ok(!config.includes("ntfy"));
  });
  await t.step(
    "what mattered is in the audit log, and health answers",
    async () => {
      const answer = await fetch(`http://127.0.0.1:${place.port}/health/live`);
      assert.equal(answer.status, 200);
      await answer.body?.cancel();
      const hook = await fetch(
        `http://127.0.0.1:${place.port}/plugins/qr/anything`,
        { method: "POST", body: "x" },
      );
      assert.equal(hook.status, 401);
      await hook.body?.cancel();
    },
  );
});

Deno.test("carapace plugin without a gateway works over the store", async (t) => {
  await using dir = await scratch();
  const place = { state: dir.path, port: freePort() };
  await t.step("install and call", async () => {
    await good(
      place,
      "plugin",
      "install",
      "plugins/qr",
      "--allow-unsigned",
      "--yes",
    );
    const drawn = await good(
      place,
      "plugin",
      "call",
      "qr",
      "encode",
      '{"text":"hi"}',
    );
    assert.match(drawn, /^█{20,}/);
  });
  const copy = `${dir.path}/signed`;
  await t.step("signed by a publisher, trusted when named", async () => {
    await Deno.mkdir(copy);
    for (const name of ["plugin.jsonc", "qr.wasm"]) {
      await Deno.copyFile(`${root}/plugins/qr/${name}`, `${copy}/${name}`);
    }
    const key = `${dir.path}/key.json`;
    const publicKey = await good(place, "plugin", "keygen", key);
    assert.match(publicKey, /^[A-Za-z0-9_-]{43}$/);
    if (Deno.build.os !== "windows") {
      assert.equal((await Deno.stat(key)).mode, 0o100600);
    }
    await good(
      place,
      "plugin",
      "sign",
      copy,
      "--key",
      key,
      "--publisher",
      "Me",
    );
    const unknown = await carapace(place, "plugin", "verify", copy);
    assert.equal(unknown.code, 1);
    assert.match(unknown.out, /signed by an unknown key/);
    await good(
      place,
      "config",
      "set",
      "plugins.publishers",
      JSON.stringify([{ name: "Me", publicKey }]),
    );
    assert.match(await good(place, "plugin", "verify", copy), /signed by "Me"/);
  });
  await t.step("another publisher's plugin of that id is refused", async () => {
    const { code, err } = await carapace(place, "plugin", "install", copy);
    assert.equal(code, 1);
    assert.match(err, /that id is taken by a plugin of "Carapace"/);
    await good(place, "plugin", "remove", "qr");
    await good(place, "plugin", "install", copy);
    assert.match(await good(place, "plugin", "info", "qr"), /signed by "Me"/);
  });
  await t.step(
    "a manifest changed after it was signed is refused",
    async () => {
      const path = `${copy}/plugin.jsonc`;
      const text = await Deno.readTextFile(path);
      await Deno.writeTextFile(
        path,
        text.replace('"tools": [', '"wants": { "log": true },\n  "tools": ['),
      );
      for (const more of [[], ["--allow-unsigned"]]) {
        const { code, err } = await carapace(
          place,
          "plugin",
          "update",
          copy,
          ...more,
        );
        assert.equal(code, 1);
        assert.match(err, /signature is not over this manifest/);
      }
    },
  );
});

Deno.test("every form of carapace plugin says its result as JSON", async () => {
  await using dir = await scratch();
  const state = `${dir.path}/state`;
  await Deno.mkdir(state, { mode: 0o700 });
  const place = { state, port: freePort() };
  const folder = `${dir.path}/qr`;
  await Deno.mkdir(folder);
  for (const name of ["plugin.jsonc", "qr.wasm"]) {
    await Deno.copyFile(`${root}/plugins/qr/${name}`, `${folder}/${name}`);
  }
  const key = `${dir.path}/key.json`;
  const yes = ["--allow-unsigned", "--yes"];
  const rows: [args: string[], want: object, code?: number][] = [
    [["keygen", key], { path: key }],
    [["sign", folder, "--key", key, "--publisher", "Me"], { id: "qr" }],
    // Nobody trusts that key, and the exit code says so.
    [["verify", folder], { id: "qr", trusted: false }, 1],
    [["install", folder, ...yes], { id: "qr", state: "ready" }],
    [["list"], {}],
    [["info", "qr"], { id: "qr", publisher: "Me" }],
    [["call", "qr", "encode", '{"text":"a"}'], {}],
    [["revoke", "qr"], { state: "off" }],
    [["grant", "qr", "--yes"], { state: "ready" }],
    [["disable", "qr"], { state: "off" }],
    [["enable", "qr"], { state: "ready" }],
    [["update", folder, ...yes], { state: "ready" }],
    [["logs", "qr", "--limit", "5"], {}],
    [["remove", "qr"], { ok: true, id: "qr" }],
    [["new", "my-tool", "--dir", dir.path], { id: "my-tool", kind: "tool" }],
  ];
  for (const [args, want, code = 0] of rows) {
    const said = await carapace(place, "plugin", ...args, "--json");
    const what = `${args.join(" ")}: ${said.err}`;
    assert.equal(said.code, code, what);
    assert.equal(said.out.split("\n").length, 1, what);
    assert.partialDeepStrictEqual(JSON.parse(said.out), want, what);
  }
  const { out } = await carapace(place, "plugin", "--help");
  for (const [[form = ""]] of rows) assert.ok(out.includes(form), form);
  assert.match(out, /--json/);
  assert.match(out, /install https:\/\//);
});
