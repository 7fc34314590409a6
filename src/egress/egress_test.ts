import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { AppError } from "../core/errors.ts";
import { silentLog } from "../core/log.ts";
import { Secret } from "../core/secret.ts";
import { type Clock, systemClock } from "../core/time.ts";
import { EgressConfig, egressNeeds } from "./config.ts";
import {
  type DoorOptions,
  type Egress,
  type EgressRefusal,
  makeEgress,
} from "./egress.ts";

/** A real server on a real socket, and what it saw. */
function serve(
  handler: (request: Request) => Response | Promise<Response>,
): { port: number; base: string; seen: Request[] } & AsyncDisposable {
  const seen: Request[] = [];
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    (request) => {
      seen.push(request.clone());
      return handler(request);
    },
  );
  const { port } = server.addr;
  return {
    port,
    base: `http://127.0.0.1:${port}`,
    seen,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

function open(
  options: { clock?: Clock; config?: unknown } = {},
): { egress: Egress; rows: EgressRefusal[] } & Disposable {
  const rows: EgressRefusal[] = [];
  const egress = makeEgress({
    config: EgressConfig.parse(options.config ?? {}),
    clock: options.clock ?? systemClock,
    log: silentLog,
    onVerdict: (row) => rows.push(row),
  });
  return { egress, rows, [Symbol.dispose]: () => egress[Symbol.dispose]() };
}

function local(
  port: number,
  options: Partial<DoorOptions> = {},
): DoorOptions {
  return {
    caller: "test",
    hosts: [{ host: "127.0.0.1", scheme: "http", port }],
    ...options,
  };
}

async function fails(
  asked: Promise<unknown>,
  code: AppError["code"],
  text: RegExp,
): Promise<AppError> {
  const error = await asked.then(
    () => assert.fail("it went through"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(`${error.message} (${error.hint})`, text);
  return error;
}

Deno.test("a named host is reached, and what it says comes through", async () => {
  await using server = serve(async (request) =>
    Response.json({
      body: await request.text(),
      type: request.headers.get("content-type"),
      agent: request.headers.get("user-agent"),
    }, { status: 201, headers: { "x-one": "1" } })
  );
  using door = open();
  const fetch = door.egress.door(local(server.port));
  const response = await fetch(`${server.base}/v1/x?y=1`, {
    method: "post",
    body: '{"a":1}',
    headers: { "content-type": "application/json" },
  });
  assert.equal(response.status, 201);
  assert.equal(response.headers.get("x-one"), "1");
  assert.equal(response.url, `${server.base}/v1/x?y=1`);
  assert.deepEqual(await response.json(), {
    body: '{"a":1}',
    type: "application/json",
    agent: "carapace",
  });
  assert.equal(server.seen[0]?.headers.get("accept-encoding"), "identity");
  const types = [];
  for (const body of ["t", new URLSearchParams({ a: "b" }), new Blob(["x"])]) {
    const echo = await fetch(server.base, { method: "POST", body });
    types.push((await echo.json()).type);
  }
  assert.deepEqual(types, [
    "text/plain;charset=utf-8",
    "application/x-www-form-urlencoded;charset=utf-8",
    null,
  ]);
  const request = new Request(`${server.base}/r`, { method: "PUT", body: "b" });
  assert.equal((await (await fetch(request)).json()).body, "b");
  assert.deepEqual(door.egress.counts(), [{
    caller: "test",
    rule: `127.0.0.1:${server.port}`,
    verdict: "ok",
    count: 5,
  }]);
});

Deno.test("what no rule names is refused, counted and explained", async () => {
  await using server = serve(() => new Response("secret"));
  using door = open({ config: { hosts: ["api.example.com"] } });
  const fetch = door.egress.door({
    caller: "tool:x",
    hosts: [
      { host: "api.example.com", scheme: "https", pathPrefix: "/v1" },
      { host: "*.wild.example.com", scheme: "https", methods: ["GET"] },
    ],
  });
  const cases: [url: string, text: RegExp, init?: RequestInit][] = [
    [
      "https://example.com/",
      /"example.com:443" for "tool:x".*Add "example.com" to egress.hosts/,
    ],
    [server.base, /no line of the configuration names it/],
    ["https://api.example.com./v1", /no line/],
    ["https://api.example.com:444/v1", /on port 443 only/],
    ["https://api.example.com/v10", /path is not below "\/v1"/],
    ["https://api.example.com/v1/..%2fadmin", /path is not below/],
    ["https://api.example.com/v1/../admin", /path is not below/],
    ["http://api.example.com/v1", /over https only/],
    ["https://me:pw@api.example.com/v1", /user name or password/],
    ["ftp://api.example.com/v1", /not http or https/],
    ["file:///etc/passwd", /not http or https/],
    ["data:text/plain,x", /not http or https/],
    ["/v1/x", /not a URL/],
    ["https://a.b.wild.example.com/", /no line/],
    ["https://wild.example.com/", /no line/],
    ["https://a.wild.example.com/", /TRACE is never sent/, { method: "TRACE" }],
    ["https://xwild.example.com/", /no line/],
    ["https://a.wild.example.com/", /POST is not among GET/, {
      method: "post",
    }],
  ];
  for (const [url, text, init] of cases) {
    await fails(fetch(url, init), "forbidden", text);
  }
  assert.equal(server.seen.length, 0);
  assert.equal(door.rows.length, cases.length);
  assert.equal(door.rows[0]?.verdict, "refused:host");
  assert.ok(door.egress.counts().every((row) => row.rule === "unlisted"));
});

Deno.test("a caller may know a better fix than egress.hosts", async () => {
  using door = open();
  const fetch = door.egress.door({
    caller: "plugin:x",
    hosts: [],
    fix: (host) => `Grant ${host} to the plugin`,
  });
  await fails(
    fetch("https://a.example.com/"),
    "forbidden",
    /Grant a\.example\.com to the plugin/,
  );
});

Deno.test("a rule that cannot be one is refused when the door is made", () => {
  using door = open();
  for (
    const host of ["", "a b", "x/y", "x:1", "u@x", "*.com", "https://x", "x?"]
  ) {
    assert.throws(
      () =>
        door.egress.door({ caller: "t", hosts: [{ host, scheme: "https" }] }),
      { code: "bad_input" },
      host,
    );
  }
  assert.throws(
    () =>
      door.egress.door({
        caller: "t",
        hosts: [{ host: "*.example.com", scheme: "http" }],
      }),
    { code: "bad_input" },
  );
});

Deno.test("a credential goes to its place and not along a redirect", async () => {
  await using other = serve(() => new Response("other"));
  await using server = serve((request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/v1/away") {
      return Response.redirect(`${other.base}/x`, 307);
    }
    if (pathname === "/v1/home") {
      return Response.redirect(`${server.base}/v1/x`, 307);
    }
    return new Response("ok");
  });
  using door = open();
  const fetch = door.egress.door({
    caller: "t",
    hosts: [server, other].map(({ port }) => ({
      host: "127.0.0.1",
      scheme: "http",
      port,
    })),
    credentials: [{
      host: "127.0.0.1",
      header: "x-api-key",
      prefix: "Key ",
      secret: new Secret("s3cr3t", "secret T"),
      pathPrefix: "/v1",
    }],
  });
  const send = async (path: string) => {
    const response = await fetch(`${server.base}${path}`, {
      method: "POST",
      body: "private",
      headers: {
        authorization: "Bearer mine",
        cookie: "c=1",
        "x-token": "t",
        accept: "text/plain",
      },
    });
    return await response.text();
  };
  assert.equal(await send("/v1/x"), "ok");
  assert.equal(server.seen[0]?.headers.get("x-api-key"), "Key s3cr3t");
  assert.equal(await send("/other"), "ok");
  assert.equal(server.seen[1]?.headers.get("x-api-key"), null);

  assert.equal(await send("/v1/home"), "ok");
  assert.equal(server.seen[3]?.headers.get("x-api-key"), null);
  assert.equal(server.seen[3]?.headers.get("authorization"), "Bearer mine");
  assert.equal(await server.seen[3]?.text(), "private");

  assert.equal(await send("/v1/away"), "other");
  const [seen] = other.seen;
  assert.equal(await seen?.text(), "");
  for (const name of ["authorization", "cookie", "x-token", "x-api-key"]) {
    assert.equal(seen?.headers.get(name), null, name);
  }
  assert.equal(seen?.headers.get("accept"), "text/plain");
});

Deno.test("each redirect is checked like a first request", async () => {
  await using hidden = serve(() => new Response("private"));
  await using server = serve((request) => {
    const to = new URL(request.url).searchParams.get("to") ?? "/loop";
    const status = request.method === "PUT" ? 307 : 302;
    return new Response("moved", { status, headers: { location: to } });
  });
  using door = open();
  const fetch = door.egress.door(local(server.port));
  const to = (url: string) =>
    fetch(`${server.base}/?to=${encodeURIComponent(url)}`);
  for (
    const url of [
      hidden.base,
      "http://169.254.169.254/latest/",
      "file:///etc/passwd",
      `//[::1]:${hidden.port}/`,
      `http://u:p@127.0.0.1:${server.port}/`,
      "https://example.com/",
    ]
  ) {
    await fails(to(url), "forbidden", /Cannot follow a redirect to/);
  }
  assert.equal(hidden.seen.length, 0);
  assert.ok(door.rows.every((row) => row.hop === 1));
  server.seen.length = 0;
  await fails(fetch(`${server.base}/loop`), "upstream", /redirects too often/);
  assert.equal(server.seen.length, 6);

  const stream = new Response("once").body;
  await fails(
    fetch(`${server.base}/`, { method: "PUT", body: stream }),
    "upstream",
    /cannot be sent twice/,
  );
  const manual = await fetch(`${server.base}/`, { redirect: "manual" });
  assert.equal(manual.status, 302);
  await manual.body?.cancel();
  await fails(
    fetch(`${server.base}/`, { redirect: "error" }),
    "upstream",
    /redirect/,
  );
});

Deno.test("an answer is cut at its size, also while it streams", async () => {
  await using server = serve((request) =>
    new URL(request.url).pathname === "/said"
      ? new Response("x".repeat(2000))
      : new Response(
        new ReadableStream({
          pull: (to) => to.enqueue(new Uint8Array(100)),
        }),
      )
  );
  using door = open();
  const fetch = door.egress.door(
    local(server.port, { limits: { responseBytesMax: 1000 } }),
  );
  await fails(fetch(`${server.base}/said`), "too_large", /too large/);
  const endless = await fetch(server.base);
  await fails(endless.text(), "too_large", /too large/);
  assert.equal(
    door.egress.counts().find((row) => row.verdict === "cut:size")?.count,
    1,
  );
});

Deno.test("a small answer that inflates without end is cut", async () => {
  const bomb = new Uint8Array(gzipSync(new Uint8Array(64_000_000)));
  const text = new Uint8Array(gzipSync("hello ".repeat(1000)));
  await using server = serve((request) =>
    new Response(new URL(request.url).pathname === "/bomb" ? bomb : text, {
      headers: {
        "content-encoding": new URL(request.url).pathname === "/odd"
          ? "gzip, gzip"
          : new URL(request.url).pathname === "/broken"
          ? "br"
          : "gzip",
      },
    })
  );
  using door = open();
  const fetch = door.egress.door(local(server.port));
  const fine = await fetch(`${server.base}/fine`);
  assert.equal(fine.headers.get("content-encoding"), null);
  assert.equal(await fine.text(), "hello ".repeat(1000));
  const bombed = await fetch(`${server.base}/bomb`);
  await fails(bombed.text(), "too_large", /inflates/);
  await fails(fetch(`${server.base}/odd`), "upstream", /encoding/);
  const broken = await fetch(`${server.base}/broken`);
  await fails(broken.text(), "upstream", /encoding/);
});

Deno.test("a body streams: the first part is there before the last is made", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  await using server = serve(() =>
    new Response(
      new ReadableStream({
        async start(to) {
          to.enqueue(new TextEncoder().encode("one"));
          await promise;
          to.enqueue(new TextEncoder().encode("two"));
          to.close();
        },
      }),
    )
  );
  using door = open();
  const response = await door.egress.door(local(server.port))(server.base);
  const parts: string[] = [];
  for await (const chunk of response.body ?? []) {
    parts.push(new TextDecoder().decode(chunk));
    resolve();
  }
  assert.deepEqual(parts, ["one", "two"]);
});

Deno.test("an abort stops waiting and reading, with the caller's own reason", async () => {
  await using server = serve((request) =>
    new URL(request.url).pathname === "/body"
      ? new Response(
        new ReadableStream({
          start: (to) => to.enqueue(new Uint8Array([1])),
        }),
      )
      : new Promise<Response>((resolve) =>
        request.signal.addEventListener(
          "abort",
          () => resolve(new Response("late")),
        )
      )
  );
  using door = open();
  const fetch = door.egress.door(local(server.port));
  const waiting = new AbortController();
  const asked = fetch(`${server.base}/wait`, { signal: waiting.signal });
  setTimeout(() => waiting.abort(), 20);
  await assert.rejects(asked, { name: "AbortError" });

  const reading = new AbortController();
  const { body } = await fetch(`${server.base}/body`, {
    signal: reading.signal,
  });
  const reader = body?.getReader();
  assert.equal((await reader?.read())?.value?.length, 1);
  const next = reader?.read();
  const at = performance.now();
  const reason = new TypeError("mine");
  reading.abort(reason);
  await assert.rejects(next ?? Promise.resolve(), reason);
  assert.ok(performance.now() - at < 100);
  await assert.rejects(
    fetch(server.base, { signal: AbortSignal.abort() }),
    { name: "AbortError" },
  );
});

/** A clock whose sleeps end when the test says so. */
function makeClock(): Clock & { end(ms: number): void } {
  const sleepers: { ms: number; wake(): void }[] = [];
  return {
    now: () => 0,
    sleep: (ms, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      signal?.addEventListener("abort", () => reject(signal.reason));
      sleepers.push({ ms, wake: resolve });
      return promise;
    },
    end: (ms) => sleepers.filter((s) => s.ms === ms).forEach((s) => s.wake()),
  };
}

Deno.test("both limits of time end a request", async () => {
  await using server = serve((request) =>
    new URL(request.url).pathname === "/body"
      ? new Response(
        new ReadableStream({ start: (to) => to.enqueue(new Uint8Array([1])) }),
      )
      : new Promise<Response>((resolve) =>
        request.signal.addEventListener(
          "abort",
          () => resolve(new Response("late")),
        )
      )
  );
  const clock = makeClock();
  using door = open({ clock });
  const fetch = door.egress.door(
    local(server.port, { limits: { answerMs: 7, totalMs: 9 } }),
  );
  const asked = fetch(`${server.base}/wait`);
  clock.end(7);
  await fails(asked, "timeout", /no answer in time/);
  const { body } = await fetch(`${server.base}/body`);
  const reader = body?.getReader();
  await reader?.read();
  const next = reader?.read();
  clock.end(9);
  await fails(Promise.resolve(next), "timeout", /did not end in time/);
  assert.deepEqual(
    door.egress.counts().map((row) => row.verdict).sort(),
    ["cut:total_time", "failed:answer_time", "ok"],
  );
});

Deno.test("a failure names host and port, and nothing of the URL", async () => {
  await using server = serve(() => new Response("x"));
  using door = open();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const closed = listener.addr.port;
  listener.close();
  const fetch = door.egress.door({
    caller: "t",
    hosts: [
      { host: "127.0.0.1", scheme: "http", port: 9 },
      { host: "127.0.0.1", scheme: "http", port: closed },
      { host: "127.0.0.1", scheme: "https", port: server.port },
      { host: "nowhere.invalid", scheme: "https" },
    ],
    credentials: [{
      host: "127.0.0.1",
      header: "authorization",
      secret: new Secret("tok3n\n2", "secret T"),
      pathPrefix: "/broken",
    }],
  });
  const urls: [string, RegExp][] = [
    ["http://127.0.0.1:9/bot-tok3n/", /127.0.0.1:9.*never used for HTTP/],
    [`http://127.0.0.1:${closed}/bot-tok3n?tok3n`, /connection was refused/],
    [`https://127.0.0.1:${server.port}/bot-tok3n/`, /TLS/],
    ["https://nowhere.invalid/bot-tok3n", /could not be resolved/],
  ];
  for (const [url, text] of urls) {
    const error = await fails(fetch(url), "upstream", text);
    assert.doesNotMatch(Deno.inspect(error), /tok3n/);
  }
  const broken = await fails(
    fetch("http://127.0.0.1:9/broken"),
    "bad_input",
    /value of secret T cannot stand in a header/,
  );
  assert.doesNotMatch(Deno.inspect(broken), /tok3n/);
});

Deno.test("needs follow the slice", () => {
  const of = (slice: unknown) =>
    egressNeeds(EgressConfig.parse(slice)).map(({ value }) => value);
  assert.deepEqual(of({}), []);
  assert.deepEqual(of({ hosts: ["a.example.com"] }), ["a.example.com:443"]);
  assert.deepEqual(of({ open: true, proxy: "http://10.1.2.3:3128" }), [
    true,
    "10.1.2.3:3128",
  ]);
  for (
    const hosts of [["https://x.com"], ["x.com:1"], ["X.com"], ["x/y"], ["u@x"]]
  ) {
    assert.equal(
      EgressConfig.safeParse({ hosts }).success,
      false,
      `${hosts[0]}`,
    );
  }
  assert.equal(
    EgressConfig.safeParse({ proxy: "http://u:p@x:1" }).success,
    false,
  );
});

Deno.test("a request that may have an effect is never sent twice", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const heads: string[] = [];
  // Answers while it is asked with GET, and closes on anything else.
  const answer = async (conn: Deno.Conn) => {
    while (true) {
      const bytes = new Uint8Array(4096);
      const count = await conn.read(bytes).catch(() => null);
      if (count === null) break;
      const head = new TextDecoder().decode(bytes.subarray(0, count));
      heads.push(head);
      if (!head.startsWith("GET")) break;
      const text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
      await conn.write(new TextEncoder().encode(text));
    }
    conn.close();
  };
  const serving: Promise<void>[] = [];
  const accepting = (async () => {
    for await (const conn of listener) serving.push(answer(conn));
  })();
  {
    using door = open();
    const base = `http://127.0.0.1:${listener.addr.port}/`;
    const fetch = door.egress.door(local(listener.addr.port));
    const form = new FormData();
    form.set("a", "b");
    for (
      const init of [
        { method: "POST", body: "text" },
        { method: "PUT", body: new Uint8Array([65]) },
        { method: "PATCH", body: new URLSearchParams({ a: "b" }) },
        { method: "POST", body: form },
        { method: "POST" },
        { method: "DELETE" },
      ]
    ) {
      await (await fetch(base)).text(); // leaves a pooled connection
      heads.length = 0;
      await fails(fetch(base, init), "upstream", /connection broke/);
      assert.equal(heads.length, 1, `${init.method}: ${heads.join("\n")}`);
      assert.doesNotMatch(heads[0] ?? "", /transfer-encoding/i);
    }
  }
  listener.close();
  await accepting;
  await Promise.all(serving);
});
