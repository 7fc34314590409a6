/**
 * Bad input and hostile guests: each is refused or stopped with one clear
 * message, and nobody else has to wait for it.
 */
import assert from "node:assert/strict";
import { Secret } from "../../src/core/secret.ts";
import { METER_LIMITS } from "../../src/plugins/meter/meter.ts";
import { openGatewayHouse } from "../fakes/gateway_house.ts";
import {
  type FakeHost,
  fakeHost,
  guest,
  manifestOf,
  probe,
  tool,
  wat,
} from "../fakes/plugins.ts";

const EXPORTS = [
  "spin",
  "grow",
  "fill",
  "recurse",
  "hoard",
  "output_flood",
  "log_flood",
  "host_flood",
  "bomb_deep",
  "bomb_wide",
  "bomb_large",
  "not_utf8",
];

async function addHostile(fake: FakeHost): Promise<void> {
  const bytes = await guest("hostile");
  const manifest = await manifestOf("hostile", bytes, {
    tools: EXPORTS.map((name) => tool(name)),
    wants: { kv: { bytes: 100 }, log: true },
  });
  const view = await fake.add(manifest, bytes);
  assert.equal(view.state, "ready", `${view.why}`);
}

/** `/health/live` while something else goes on: milliseconds, sorted. */
async function watchHealth(
  url: string,
  during: () => Promise<void>,
): Promise<number[]> {
  const times: number[] = [];
  let isOver = false;
  const asking = (async () => {
    while (!isOver) {
      const begun = performance.now();
      const answer = await fetch(`${url}/health/live`);
      await answer.body?.cancel();
      assert.equal(answer.status, 200);
      times.push(performance.now() - begun);
      await new Promise((done) => setTimeout(done, 2));
    }
  })();
  await during();
  isOver = true;
  await asking;
  return times.sort((a, b) => a - b);
}

Deno.test("what a module does, it does within its bounds, and the gateway answers", async (t) => {
  await using fake = await fakeHost();
  await using house = await openGatewayHouse();
  await addHostile(fake);
  const rows: [name: string, why: RegExp][] = [
    ["spin", /^fuel exhausted after 1\.0e9 units in tool "spin"$/],
    ["grow", /^fuel exhausted after 1\.0e9 units in tool "grow"$/],
    ["fill", /^fuel exhausted after 1\.0e9 units in tool "fill"$/],
    ["recurse", /^tool "recurse" trapped: Maximum call stack/],
    ["hoard", /^tool "hoard" trapped: it asked for more than 67108864 bytes/],
    ["output_flood", /output of 8388608 bytes is larger than 1048576$/],
    ["host_flood", /trapped: it asked the host more than 1000 times$/],
    ["not_utf8", /its output is not UTF-8$/],
  ];
  const times = await watchHealth(house.url, async () => {
    for (const [name, why] of rows) {
      await t.step(name, async () => {
        const begun = performance.now();
        await assert.rejects(fake.call("hostile", name), (error: Error) => {
          assert.match(error.message, why);
          return true;
        });
        assert.ok(performance.now() - begun < 8_000, "it took too long");
        const [view] = await fake.host.list();
        // Patience is for the test: each of these is one of five.
        if (view?.state === "stopped") await fake.host.restart("hostile", "o");
      });
    }
    await t.step("log_flood", async () => {
      // Lines are dropped, the call is not.
      const said = await fake.call("hostile", "log_flood").catch(String);
      assert.match(said, /done|fuel exhausted/);
      const lines = await fake.host.logs("hostile", 1_000);
      assert.ok(lines.length <= 1_000);
    });
    for (const name of ["bomb_deep", "bomb_wide", "bomb_large"]) {
      await t.step(name, async () => {
        const answer = JSON.parse(await fake.call("hostile", name));
        assert.equal(answer.ok, false);
        assert.match(answer.error, /nested deeper|more than|larger than/);
      });
    }
  });
  const p99 = times[Math.floor(times.length * 0.99)] ?? 0;
  const p50 = times[Math.floor(times.length / 2)] ?? 0;
  console.log(
    `health during the attack: ${times.length} asks, p50 ${
      p50.toFixed(1)
    } ms, p99 ${p99.toFixed(1)} ms`,
  );
  assert.ok(times.length > 100);
  // Two cores, one of them burning; without the worker this would be seconds.
  assert.ok(p99 < 250, `${p99} ms`);
});

Deno.test("what is no module is refused at the door, and nothing of it runs", async (t) => {
  await using fake = await fakeHost();
  const good = await wat('(module (memory 1) (func (export "a")))');
  const install = async (
    bytes: Uint8Array<ArrayBuffer>,
    more: Record<string, unknown> = {},
  ) =>
    await fake.host.install({
      manifest: await manifestOf("bad", bytes, { tools: [tool("a")], ...more }),
      bytes,
      source: "",
      allowUnsigned: true,
      by: "owner",
    });
  const text = new TextEncoder().encode("#!/bin/sh\nrm -rf /\n");
  const rows: [
    what: string,
    bytes: () => Promise<Uint8Array<ArrayBuffer>> | Uint8Array<ArrayBuffer>,
    why: RegExp,
  ][] = [
    ["not WebAssembly", () => new Uint8Array(text), /Cannot load plugin "bad"/],
    ["truncated", () => good.slice(0, -3), /Cannot load plugin "bad"/],
    [
      "far over the limit",
      () => new Uint8Array(METER_LIMITS.bytesMax + 1),
      /larger than 16777216/,
    ],
    [
      "an import it may not have",
      () =>
        wat(
          '(module (import "extism:host/env" "http_request" (func (param i64 i64) (result i64))) (func (export "a")))',
        ),
      /http_request/,
    ],
    [
      "an import of the host's that it does not want",
      () =>
        wat(
          '(module (import "extism:host/user" "carapace_http" (func (param i64) (result i64))) (func (export "a")))',
        ),
      /carapace_http/,
    ],
    [
      "an export that the manifest names and it has not",
      () => wat("(module (memory 1))"),
      /no function "a"/,
    ],
    [
      "imported memory",
      () =>
        wat('(module (import "env" "memory" (memory 1)) (func (export "a")))'),
      /Cannot load plugin "bad"/,
    ],
  ];
  for (const [what, bytes, why] of rows) {
    await t.step(what, async () => {
      await assert.rejects(install(await bytes()), why);
      assert.deepEqual(await fake.host.list(), []);
    });
  }
  await t.step("another module than the manifest's", async () => {
    const manifest = await manifestOf("bad", good, { tools: [tool("a")] });
    await assert.rejects(
      fake.host.install({
        manifest,
        bytes: await wat('(module (func (export "a") unreachable))'),
        source: "",
        allowUnsigned: true,
        by: "owner",
      }),
      /is not the file its manifest names/,
    );
  });
  await t.step("ids and names that mean a place", async () => {
    for (const id of ["../x", "a/b", "a", "A", "", "a%2fb", "__proto__"]) {
      await assert.rejects(install(good, { id }), /manifest/i, id);
    }
    for (const file of ["../x.wasm", "/etc/passwd", "a/b.wasm", ".wasm"]) {
      const wasm = { file, sha256: "0".repeat(64) };
      await assert.rejects(install(good, { wasm }), /manifest/i, file);
    }
  });
  await t.step(
    "a start function that does not end is not started",
    async () => {
      const endless = await wat(
        '(module (func $s (loop (br 0))) (func (export "a")) (start $s))',
      );
      const begun = performance.now();
      await install(endless);
      assert.ok(
        performance.now() - begun < 3_000,
        "it ran at the installation",
      );
      const manifest = await manifestOf("bad", endless, { tools: [tool("a")] });
      const view = await fake.add(manifest, endless);
      assert.equal(view.state, "blocked");
      assert.match(
        view.why ?? "",
        /its start function trapped or used up its fuel/,
      );
    },
  );
  await t.step(
    "schemas whose checks could be used against the host",
    async () => {
      const inputs: Record<string, unknown>[] = [
        {
          type: "object",
          properties: { a: { type: "string", pattern: "(a+)+$" } },
        },
        { type: "object", properties: { a: { $ref: "#" } } },
        { type: "string" },
      ];
      for (const input of inputs) {
        const tools = [{ ...tool("a"), input }];
        await assert.rejects(install(good, { tools }), /Cannot use|manifest/i);
      }
    },
  );
});

Deno.test("what a guest asks the host for is parsed, bounded and its own", async (t) => {
  await using server = serveHttp();
  await using fake = await fakeHost();
  const place = { host: "127.0.0.1", scheme: "http", port: server.port };
  const { manifest, bytes } = await probe({
    wants: {
      http: [{ ...place, pathPrefix: "/ok", methods: ["GET", "POST"] }],
      secrets: [{
        name: "token",
        host: "127.0.0.1",
        header: "authorization",
        prefix: "Bearer ",
        methods: ["GET"],
        pathPrefix: "/ok/private",
      }],
    },
  });
  await fake.add(manifest, bytes, {
    secrets: { token: new Secret("s3cret-value-of-it", "secret T") },
  });
  const url = (path: string) => `http://127.0.0.1:${server.port}${path}`;
  const refused = async (request: unknown, why: RegExp) => {
    const answer = await fake.ask("http", request);
    assert.equal(answer["ok"], false, JSON.stringify(answer));
    assert.match(String(answer["error"]), why);
  };
  await t.step("a granted place answers", async () => {
    const answer = await fake.ask("http", {
      url: url("/ok/a"),
      method: "POST",
      body: "hello",
    });
    assert.equal(answer["status"], 200);
    assert.equal(JSON.parse(String(answer["body"])).body, "hello");
  });
  await t.step("a secret is attached where it belongs, unseen", async () => {
    const answer = await fake.ask("http", { url: url("/ok/private/a") });
    assert.equal(answer["status"], 200);
    assert.ok(!JSON.stringify(answer).includes("s3cret"));
    assert.equal(
      server.seen.at(-1)?.authorization,
      "Bearer s3cret-value-of-it",
    );
    await fake.ask("http", { url: url("/ok/a") });
    assert.equal(server.seen.at(-1)?.authorization, null);
  });
  await t.step("an answer that echoes it is not shown", async () => {
    for (const how of ["plain", "base64", "url", "json", "header"]) {
      await refused(
        { url: url(`/ok/private/echo?how=${how}`) },
        /holds the secret "token": it is not shown/,
      );
    }
  });
  await t.step("other places, methods, paths and schemes", async () => {
    await refused({ url: url("/other") }, /path is not below "\/ok"/);
    await refused({ url: url("/ok/%2e%2e/other") }, /path is not below/);
    await refused({ url: url("/ok"), method: "DELETE" }, /DELETE is not among/);
    await refused({ url: "http://127.0.0.1:1/ok" }, /port/);
    await refused({ url: "http://169.254.169.254/" }, /no line .* names it/);
    await refused({ url: "http://[::1]/ok" }, /no line .* names it/);
    await refused({ url: "http://localhost/ok" }, /no line .* names it/);
    await refused({ url: "http://2130706433:1/ok" }, /port/);
    await refused({ url: "file:///etc/passwd" }, /not http/);
    await refused({ url: "https://user:pw@127.0.0.1/ok" }, /user name/);
    await refused({ url: "nonsense" }, /no URL/);
  });
  await t.step(
    "a redirect is a request of its own, without the secret",
    async () => {
      await refused({ url: url("/ok/away") }, /follow a redirect/);
      await refused({ url: url("/ok/private/away") }, /follow a redirect/);
      await fake.ask("http", { url: url("/ok/private/home") });
      assert.equal(server.seen.at(-1)?.authorization, null);
    },
  );
  await t.step("headers that are not a guest's", async () => {
    for (const name of ["host", "cookie", "x-forwarded-for", "Origin"]) {
      await refused(
        { url: url("/ok"), headers: { [name]: "a" } },
        /not a guest's/,
      );
    }
    await refused({ url: url("/ok"), headers: { a: "b\r\nc: d" } }, /header/);
  });
  await t.step("requests that are none", async () => {
    for (const text of ["", "{", "[]", "null", '{"url":1}', '{"x":1}']) {
      const answer = await fake.ask("http", text);
      assert.equal(answer["ok"], false, text);
    }
  });
  await t.step("storage is its own, and ends", async () => {
    assert.equal(
      (await fake.ask("kv_set", { key: "a", value: "1" }))["ok"],
      true,
    );
    const big = await fake.ask("kv_set", { key: "b", value: "x".repeat(5000) });
    assert.match(String(big["error"]), /may keep 4096 bytes/);
    const { keys } = await fake.ask("kv_list", {});
    assert.deepEqual(keys, ["a"]);
    for (const key of ["", "\n", "x".repeat(300)]) {
      assert.equal((await fake.ask("kv_get", { key }))["ok"], false);
    }
    await fake.ask("kv_delete", { key: "a" });
    assert.equal((await fake.ask("kv_get", { key: "a" }))["value"], null);
  });
  await t.step("messages go where they were granted to", async () => {
    assert.equal(
      (await fake.ask("message", { to: "owner", text: "hi" }))["ok"],
      true,
    );
    assert.deepEqual(fake.told, [{ plugin: "probe", text: "hi" }]);
    const other = await fake.ask("message", { to: "ntfy", text: "hi" });
    assert.match(String(other["error"]), /messages to "ntfy" is not granted/);
  });
  await t.step("timers end with the day's allowance", async () => {
    for (let n = 0; n < 3; n++) {
      const name = `t${n}`;
      await fake.ask("schedule", { name, inMs: 3_600_000 });
    }
    const more = await fake.ask("schedule", { name: "t4", inMs: 3_600_000 });
    assert.match(String(more["error"]), /3 timers a day/);
    const soon = await fake.ask("schedule", { name: "t5", inMs: 1 });
    assert.equal(soon["ok"], false);
  });
  await t.step("a flood of requests ends", async () => {
    let refusals = 0;
    for (let n = 0; n < 110; n++) {
      const answer = await fake.ask("http", { url: url("/ok") });
      if (answer["code"] === "rate_limited") refusals++;
    }
    assert.ok(refusals > 0 && server.seen.length <= 100, `${refusals}`);
  });
});

/** A server that shows what it was sent. */
function serveHttp(): AsyncDisposable & {
  port: number;
  seen: { path: string; authorization: string | null }[];
} {
  const seen: { path: string; authorization: string | null }[] = [];
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const { pathname, searchParams } = new URL(request.url);
      const authorization = request.headers.get("authorization");
      seen.push({ path: pathname, authorization });
      if (pathname.endsWith("/away")) {
        return Response.redirect("http://127.0.0.1:9/ok", 302);
      }
      if (pathname.endsWith("/home")) {
        return Response.redirect(new URL("/ok/a", request.url), 302);
      }
      const value = (authorization ?? "").replace("Bearer ", "");
      switch (searchParams.get("how")) {
        case "plain":
          return new Response(`you sent ${value}`);
        case "base64":
          return new Response(btoa(value));
        case "url":
          return new Response(`a=${encodeURIComponent(value)}`);
        case "json":
          return Response.json({ authorization });
        case "header":
          return new Response("", { headers: { etag: `"${value}"` } });
      }
      return Response.json({ path: pathname, body: await request.text() });
    },
  );
  return {
    port: server.addr.port,
    seen,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
