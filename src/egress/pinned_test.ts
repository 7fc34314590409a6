import assert from "node:assert/strict";
import {
  brotliCompressSync,
  deflateRawSync,
  deflateSync,
  gzipSync,
} from "node:zlib";
import {
  openTlsServer,
  TEST_CA,
  type TlsHandler,
} from "../../tests/fakes/tls_server.ts";
import { AppError } from "../core/errors.ts";
import { silentLog } from "../core/log.ts";
import { Secret } from "../core/secret.ts";
import { systemClock } from "../core/time.ts";
import { EgressConfig } from "./config.ts";
import { type DoorOptions, type Egress, makeEgress } from "./egress.ts";
import { findAddressFault } from "./address.ts";
import { makePinned } from "./pinned.ts";

/** To these tests 127.0.0.1 is the public internet; ::1 is the inside. */
const PUBLIC = "127.0.0.1";
const INSIDE = "::1";

/** A machine without IPv6 has no second loopback to tell apart. */
const needsIpv6 = { ignore: !hasIpv6() };

function hasIpv6(): boolean {
  try {
    Deno.listen({ hostname: INSIDE, port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

function findFault(address: string): string | undefined {
  return address === PUBLIC
    ? undefined
    : findAddressFault(address) ?? "elsewhere";
}

/** A door that is open, to a server that is the whole internet. */
function openDoor(
  options: {
    port: number;
    dns: (name: string) => readonly string[];
    door?: Partial<DoorOptions>;
    caCerts?: readonly string[];
    findFault?(address: string): string | undefined;
  },
): { egress: Egress; fetch: typeof fetch; lookups: string[] } & Disposable {
  const lookups: string[] = [];
  const egress = makeEgress({
    config: EgressConfig.parse({ open: true }),
    clock: systemClock,
    log: silentLog,
    pinned: makePinned({
      findFault: options.findFault ?? findFault,
      port: options.port,
      caCerts: options.caCerts ?? [TEST_CA],
      resolve: (name) => {
        lookups.push(name);
        return Promise.resolve(options.dns(name));
      },
    }),
  });
  return {
    egress,
    lookups,
    fetch: egress.door({
      caller: "tool:web_fetch",
      hosts: ["public"],
      ...options.door,
    }),
    [Symbol.dispose]: () => egress[Symbol.dispose](),
  };
}

const hello: TlsHandler = (request, response) =>
  response.end(`hello ${request.headers.host}`);

async function fails(
  asked: Promise<unknown>,
  code: AppError["code"],
  text: RegExp,
): Promise<void> {
  const error = await asked.then(
    () => assert.fail("it went through"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, text);
}

Deno.test("a public name is resolved once and reached by its checked address", async () => {
  await using server = await openTlsServer(hello, { hostname: PUBLIC });
  using door = openDoor({ port: server.port, dns: () => [PUBLIC] });
  const response = await door.fetch("https://GOOD.example.com/a?b=c#d", {
    method: "POST",
    body: "text",
    headers: { host: "evil.example.com", "x-a": "1" },
  });
  assert.equal(await response.text(), "hello good.example.com");
  assert.equal(response.url, "https://good.example.com/a?b=c");
  assert.deepEqual(door.lookups, ["good.example.com"]);
  const [seen] = server.requests;
  assert.equal(seen?.path, "/a?b=c");
  assert.equal(seen?.body, "text");
  assert.equal(seen?.headers["x-a"], "1");
  assert.equal(seen?.headers["content-type"], "text/plain;charset=UTF-8");
  assert.deepEqual(door.egress.counts(), [{
    caller: "tool:web_fetch",
    rule: "public",
    verdict: "ok",
    count: 1,
  }]);
});

Deno.test("a certificate for another name, or of nobody, is refused", async () => {
  await using server = await openTlsServer(hello, { hostname: PUBLIC });
  using door = openDoor({ port: server.port, dns: () => [PUBLIC] });
  await fails(door.fetch("https://evil.example.com/"), "upstream", /TLS/);
  await fails(door.fetch(`https://${PUBLIC}/`), "forbidden", /not public/);
  using stranger = openDoor({
    port: server.port,
    dns: () => [PUBLIC],
    caCerts: [],
  });
  await fails(stranger.fetch("https://good.example.com/"), "upstream", /TLS/);
  assert.equal(server.requests.length, 0);
});

Deno.test(
  "a name that changes its mind between check and connect gains nothing",
  needsIpv6,
  async () => {
    await using outside = await openTlsServer(hello, { hostname: PUBLIC });
    await using inside = await openTlsServer(hello, {
      hostname: INSIDE,
      port: outside.port,
    });
    assert.equal(inside.port, outside.port);
    let asked = 0;
    using door = openDoor({
      port: outside.port,
      dns: () => asked++ % 2 === 0 ? [PUBLIC] : [INSIDE],
    });
    const first = await door.fetch("https://good.example.com/");
    assert.equal(await first.text(), "hello good.example.com");
    await fails(
      door.fetch("https://good.example.com/"),
      "forbidden",
      /not public \(loopback\)/,
    );
    assert.equal(inside.connections, 0);
    assert.equal(outside.requests.length, 1);
  },
);

Deno.test("a connection is used again, but never instead of a check", async () => {
  await using server = await openTlsServer(hello, { hostname: PUBLIC });
  let answer: readonly string[] = [PUBLIC];
  using door = openDoor({ port: server.port, dns: () => answer });
  const ask = async (name: string) =>
    await (await door.fetch(`https://${name}/`)).text();
  await ask("good.example.com");
  await ask("good.example.com");
  assert.equal(server.connections, 1);
  assert.equal(door.lookups.length, 2);

  answer = ["10.0.0.1"];
  await fails(ask("good.example.com"), "forbidden", /private/);
  answer = [PUBLIC];
  await ask("good.example.com");
  assert.equal(server.connections, 1);

  await ask("next.example.com");
  assert.equal(server.connections, 2, "another name has its own TLS session");
  const other = door.egress.door({ caller: "plugin:x", hosts: ["public"] });
  await (await other("https://good.example.com/")).text();
  assert.equal(server.connections, 3, "another caller has its own connection");
});

Deno.test("one address that is not public refuses the name", async () => {
  await using server = await openTlsServer(hello, { hostname: PUBLIC });
  for (const bad of ["127.0.0.2", "::1", "fe80::1%eth0", "::ffff:10.0.0.1"]) {
    using door = openDoor({ port: server.port, dns: () => [PUBLIC, bad] });
    await fails(
      door.fetch("https://good.example.com/"),
      "forbidden",
      /not public/,
    );
  }
  using many = openDoor({
    port: server.port,
    dns: () => Array(65).fill(PUBLIC),
  });
  await fails(many.fetch("https://good.example.com/"), "forbidden", /too many/);
  using nowhere = openDoor({ port: server.port, dns: () => [] });
  await fails(
    nowhere.fetch("https://good.example.com/"),
    "upstream",
    /could not be resolved/,
  );
  assert.equal(server.connections, 0);
});

Deno.test(
  "an address that takes no connection is followed by the next",
  needsIpv6,
  async () => {
    await using server = await openTlsServer(hello, { hostname: INSIDE });
    using door = openDoor({
      port: server.port,
      dns: () => [INSIDE, PUBLIC],
      findFault: () => undefined,
    });
    const response = await door.fetch("https://good.example.com/");
    assert.equal(await response.text(), "hello good.example.com");
  },
);

Deno.test("a request that may have an effect is never sent twice", async () => {
  const served = new WeakMap<object, number>();
  await using server = await openTlsServer((request, response) => {
    const times = (served.get(request.socket) ?? 0) + 1;
    served.set(request.socket, times);
    if (times > 1 || request.url === "/break") request.socket.destroy();
    else response.end("fresh");
  }, { hostname: PUBLIC });
  using door = openDoor({ port: server.port, dns: () => [PUBLIC] });
  for (const method of ["GET", "GET", "POST", "PUT", "DELETE"]) {
    const response = await door.fetch("https://good.example.com/", { method });
    assert.equal(await response.text(), "fresh", method);
  }
  for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
    await fails(
      door.fetch("https://good.example.com/break", { method }),
      "upstream",
      /connection broke/,
    );
    const sent = server.requests.filter((seen) =>
      seen.method === method && seen.path === "/break"
    );
    assert.equal(sent.length, 1, method);
  }
});

Deno.test("redirects on the open route are checked, stripped and counted", async () => {
  await using hidden = await openTlsServer(hello);
  await using server = await openTlsServer((request, response) => {
    const url = new URL(request.url ?? "/", "https://x");
    const to = url.searchParams.get("to") ??
      (url.pathname === "/loop" ? "/loop" : null);
    if (to === null) return void response.end("end");
    response.writeHead(307, { location: to }).end("moved");
  }, { hostname: PUBLIC });
  using door = openDoor({
    port: server.port,
    dns: (name) => name === "inside.example.com" ? ["10.1.2.3"] : [PUBLIC],
    door: {
      credentials: [{
        host: "good.example.com",
        header: "authorization",
        prefix: "Bearer ",
        secret: new Secret("s3cr3t", "secret T"),
      }],
    },
  });
  const to = (url: string) =>
    door.fetch(`https://good.example.com/?to=${encodeURIComponent(url)}`, {
      method: "POST",
      body: "private",
      headers: { "x-api-key": "mine", cookie: "a=b" },
    });
  for (
    const [url, text] of [
      [`https://127.0.0.1:${hidden.port}/`, /port 443 only/],
      ["https://127.0.0.1/", /loopback/],
      ["https://[::ffff:7f00:1]/", /IPv4-mapped/],
      ["https://inside.example.com/", /private/],
      ["https://localhost/", /no dot/],
      ["http://good.example.com/", /leave TLS/],
      ["//metadata.google.internal/computeMetadata/v1/", /internal/],
      ["https://u:p@good.example.com/", /user name/],
      ["javascript:alert(1)", /not http/],
    ] as const
  ) {
    await fails(to(url), "forbidden", text);
  }
  assert.equal(hidden.connections, 0);

  server.requests.length = 0;
  assert.equal(await (await to("https://next.example.com/")).text(), "end");
  const [first, second] = server.requests;
  assert.equal(first?.headers.authorization, "Bearer s3cr3t");
  assert.equal(second?.host, "next.example.com");
  assert.equal(second?.body, "");
  for (const name of ["authorization", "x-api-key", "cookie", "content-type"]) {
    assert.equal(second?.headers[name], undefined, name);
  }
  server.requests.length = 0;
  await fails(
    door.fetch("https://good.example.com/loop?to=/loop%3Fto%3D/loop"),
    "upstream",
    /redirects too often/,
  );
  assert.equal(server.requests.length, 6);
});

Deno.test("answers are decoded as they come, and cut when they swell", async () => {
  const text = "carapace ".repeat(5000);
  const packed: Record<string, Uint8Array> = {
    gzip: gzipSync(text),
    br: brotliCompressSync(text),
    deflate: deflateSync(text),
    raw: deflateRawSync(text),
  };
  const bombs: Record<string, Uint8Array> = {
    gzip: gzipSync(new Uint8Array(80_000_000)),
    br: brotliCompressSync(new Uint8Array(80_000_000)),
    deflate: deflateSync(new Uint8Array(80_000_000)),
  };
  await using server = await openTlsServer((request, response) => {
    const [, kind = "", name = ""] = (request.url ?? "").split("/");
    response.writeHead(200, {
      "content-encoding": name === "raw" ? "deflate" : name,
    });
    response.end((kind === "bomb" ? bombs : packed)[name]);
  }, { hostname: PUBLIC });
  using door = openDoor({ port: server.port, dns: () => [PUBLIC] });
  for (const name of Object.keys(packed)) {
    const response = await door.fetch(`https://good.example.com/fine/${name}`);
    assert.equal(await response.text(), text, name);
  }
  for (const name of Object.keys(bombs)) {
    const response = await door.fetch(`https://good.example.com/bomb/${name}`);
    let bytes = 0;
    await fails(
      (async () => {
        for await (const chunk of response.body ?? []) bytes += chunk.length;
      })(),
      "too_large",
      /inflates/,
    );
    const most = 1_048_576 + (bombs[name]?.length ?? 0) * 100;
    assert.ok(bytes <= most, `${name}: ${bytes} bytes came through`);
  }
});

Deno.test("a body without end is cut, an abort ends it, a broken one says so", async () => {
  await using server = await openTlsServer((request, response) => {
    response.writeHead(200);
    response.write("x".repeat(1000));
    if (request.url === "/endless") {
      const more = () => {
        while (!response.destroyed && response.write("x".repeat(65_536)));
        if (!response.destroyed) response.once("drain", more);
      };
      more();
    }
    if (request.url === "/broken") {
      setTimeout(() => response.destroy(), 20);
    }
  }, { hostname: PUBLIC });
  using door = openDoor({
    port: server.port,
    dns: () => [PUBLIC],
    door: { limits: { responseBytesMax: 300_000, requestBytesMax: 100 } },
  });
  const endless = await door.fetch("https://good.example.com/endless");
  await fails(endless.text(), "too_large", /too large/);

  const controller = new AbortController();
  const hanging = await door.fetch("https://good.example.com/hang", {
    signal: controller.signal,
  });
  const reader = hanging.body?.getReader();
  assert.equal((await reader?.read())?.value?.length, 1000);
  const at = performance.now();
  const next = reader?.read();
  controller.abort();
  await assert.rejects(next ?? Promise.resolve(), { name: "AbortError" });
  assert.ok(performance.now() - at < 100);

  const broken = await door.fetch("https://good.example.com/broken");
  await fails(broken.text(), "upstream", /connection broke/);
  await fails(
    door.fetch("https://good.example.com/", {
      method: "POST",
      body: "x".repeat(101),
    }),
    "too_large",
    /request's body/,
  );
});

Deno.test("a resolver that never answers is left when the caller leaves", async () => {
  using pinned = makePinned({ resolve: () => new Promise(() => {}) });
  using egress = makeEgress({
    config: EgressConfig.parse({ open: true }),
    clock: systemClock,
    log: silentLog,
    pinned,
  });
  const fetch = egress.door({ caller: "t", hosts: ["public"] });
  const controller = new AbortController();
  const asked = fetch("https://good.example.com/", {
    signal: controller.signal,
  });
  controller.abort();
  await assert.rejects(asked, { name: "AbortError" });
});
