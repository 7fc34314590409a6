/**
 * `carapace plugin install https://…`, as a real process in its computed
 * sandbox: over TLS, through a company's proxy, pinned by a hash.
 */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { sha256Hex } from "../../src/core/ids.ts";
import { MANIFEST_BYTES_MAX } from "../../src/plugins/package.ts";
import { PLUGIN_BYTES_MAX } from "../../src/store/plugins.ts";
import { openProxy } from "../fakes/proxy.ts";
import { openTlsServer, TEST_CA } from "../fakes/tls_server.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  Proc,
  root,
  scratch,
  until,
} from "./processes.ts";

const HOST = "https://good.example.com";

type Bytes = Uint8Array<ArrayBuffer>;

/** What the publisher's server has. */
interface Site {
  files: Map<string, Bytes | ((response: ServerResponse) => void)>;
  /** Paths that were asked for since the last look. */
  asked(): string[];
  carapace(
    ...args: string[]
  ): Promise<{ code: number; out: string; err: string }>;
  start(): Promise<Proc>;
}

async function openSite(): Promise<Site & AsyncDisposable> {
  await using opening = new AsyncDisposableStack();
  const files: Site["files"] = new Map();
  const dir = opening.use(await scratch());
  const server = opening.use(
    await openTlsServer((request, response) => {
      const file = files.get(request.url ?? "");
      if (typeof file === "function") return file(response);
      response.statusCode = file === undefined ? 404 : 200;
      response.end(file);
    }),
  );
  const proxy = opening.use(
    openProxy((host) =>
      host.endsWith(".example.com") ? server.port : undefined
    ),
  );
  const state = `${dir.path}/state`;
  await Deno.mkdir(state, { mode: 0o700 });
  await Deno.writeTextFile(`${dir.path}/ca.pem`, TEST_CA);
  await Deno.writeTextFile(
    `${state}/carapace.jsonc`,
    JSON.stringify({ egress: { proxy: `http://127.0.0.1:${proxy.port}` } }),
    { mode: 0o600 },
  );
  const port = freePort();
  const run = (args: readonly string[]) =>
    new Proc(["run", ...LAUNCHER_FLAGS, "src/launch.ts", ...args], {
      env: {
        CARAPACE_STATE_DIR: state,
        CARAPACE_PORT: `${port}`,
        CARAPACE_TOKEN: "a-token-for-process-tests",
        DENO_CERT: `${dir.path}/ca.pem`,
      },
    });
  const closing = opening.move();
  return {
    files,
    asked: () => server.requests.splice(0).map(({ path }) => path),
    carapace: async (...args) => {
      await using proc = run(args);
      const code = await proc.code();
      return { code, out: proc.out.join("\n"), err: proc.err.join("\n") };
    },
    start: async () => {
      const proc = run(["start"]);
      await until(
        "the gateway's start",
        () => proc.out.some((line) => line.includes(`:${port}`)),
      );
      return proc;
    },
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

const encode = (text: string) => new TextEncoder().encode(text) as Bytes;

/** Puts a plugin on the server; the hash of its manifest. */
async function publish(
  { files }: Site,
  folder: string,
  change: (manifest: string) => string = (text) => text,
): Promise<string> {
  const read = (name: string) => Deno.readFile(`${root}/plugins/qr/${name}`);
  const text = new TextDecoder().decode(await read("plugin.jsonc"));
  const manifest = encode(change(text));
  files.set(`${folder}/plugin.jsonc`, manifest);
  files.set(`${folder}/qr.wasm`, await read("qr.wasm"));
  return await sha256Hex(manifest);
}

const YES = ["--allow-unsigned", "--yes"];

Deno.test("a plugin is installed from an address, and callable at once", async (t) => {
  await using site = await openSite();
  const sha256 = await publish(site, "/qr");
  const url = `${HOST}/qr/plugin.jsonc`;
  const call = ["plugin", "call", "qr", "encode", '{"text":"hi"}'];
  for (const isRunning of [false, true]) {
    await t.step(isRunning ? "beside a gateway" : "without one", async () => {
      await using stack = new AsyncDisposableStack();
      if (isRunning) stack.use(await site.start());
      const said = await site.carapace(
        ...["plugin", "install", url, "--sha256", sha256, ...YES, "--json"],
      );
      assert.equal(said.code, 0, said.err);
      const view = JSON.parse(said.out);
      assert.deepEqual([view.state, view.source], ["ready", url]);
      assert.deepEqual(site.asked(), [
        "/qr/plugin.jsonc",
        "/qr/qr.wasm",
      ]);
      const drawn = await site.carapace(...call);
      assert.match(drawn.out, /^█{20,}/, drawn.err);
      await site.carapace("plugin", "remove", "qr");
    });
  }
});

Deno.test("from an address only what was pinned comes in", async (t) => {
  await using site = await openSite();
  const sha256 = await publish(site, "/qr");
  const url = `${HOST}/qr/plugin.jsonc`;
  const refused = async (
    place: string,
    pin: readonly string[],
    { code = 1, why }: { code?: number; why: RegExp },
  ) => {
    const said = await site.carapace(
      "plugin",
      "install",
      place,
      ...pin,
      ...YES,
    );
    assert.equal(said.code, code, said.err);
    assert.match(said.err, why);
    // One message, and no trace of how it came about.
    assert.doesNotMatch(said.err, /\n {4}at /);
  };
  const pin = (hash: string) => ["--sha256", hash];
  await t.step("without a pin nothing is fetched", async () => {
    await refused(url, [], { code: 2, why: /needs --sha256/ });
    await refused(url, pin("abc"), { code: 2, why: /needs --sha256/ });
    const clear = url.replace("https", "http");
    await refused(clear, pin(sha256), { code: 2, why: /an https address/ });
    assert.deepEqual(site.asked(), []);
  });
  await t.step("another hash: the module is not even fetched", async () => {
    await refused(url, pin("0".repeat(64)), {
      why: /its manifest's hash is [0-9a-f]{64}, not the one you gave/,
    });
    assert.deepEqual(site.asked(), ["/qr/plugin.jsonc"]);
  });
  await t.step("a redirect to another host is not followed", async () => {
    site.files.set("/away/plugin.jsonc", (response) => {
      response.writeHead(302, {
        location: "https://next.example.com/qr/plugin.jsonc",
      }).end();
    });
    await refused(`${HOST}/away/plugin.jsonc`, pin(sha256), {
      why: /follow a redirect to "next\.example\.com:443"/,
    });
    assert.deepEqual(site.asked(), ["/away/plugin.jsonc"]);
  });
  await t.step("another module than the manifest names", async () => {
    const hash = await publish(site, "/other");
    site.files.set("/other/qr.wasm", encode("\0asm\x01\0\0\0"));
    await refused(`${HOST}/other/plugin.jsonc`, pin(hash), {
      why: /is not the file its manifest names/,
    });
  });
  await t.step("what is no WebAssembly, though its hash is right", async () => {
    const text = encode("#!/bin/sh\nrm -rf /\n");
    const hash = await sha256Hex(text);
    const manifest = await publish(
      site,
      "/script",
      (jsonc) => jsonc.replace(/"[0-9a-f]{64}"/, `"${hash}"`),
    );
    site.files.set("/script/qr.wasm", text);
    await refused(`${HOST}/script/plugin.jsonc`, pin(manifest), {
      why: /Cannot load plugin "qr": it is not WebAssembly/,
    });
  });
  await t.step("what is too large, as manifest and as module", async () => {
    const large = new Uint8Array(MANIFEST_BYTES_MAX + 1);
    site.files.set("/large/plugin.jsonc", large);
    await refused(`${HOST}/large/plugin.jsonc`, pin(await sha256Hex(large)), {
      why: /plugin\.jsonc": it is larger than 262144 bytes/,
    });
    const hash = await publish(site, "/heavy");
    site.files.set("/heavy/qr.wasm", new Uint8Array(PLUGIN_BYTES_MAX + 1));
    await refused(`${HOST}/heavy/plugin.jsonc`, pin(hash), {
      why: /qr\.wasm": it is larger than 16777216 bytes/,
    });
  });
  await t.step("what is not there, and a host nobody vouches for", async () => {
    await refused(`${HOST}/nothing.jsonc`, pin(sha256), { why: /404/ });
    const evil = url.replace("good", "evil");
    await refused(evil, pin(sha256), { why: /TLS handshake failed/ });
  });
  await t.step("nothing of all that is there", async () => {
    const { out } = await site.carapace("plugin", "list", "--json");
    assert.deepEqual(JSON.parse(out).plugins, []);
  });
});
