/** The wrapper around every route: what is open, what is refused, in which order. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../core/errors.ts";
import { ModelError } from "../core/model.ts";
import { openGatewayHouse, program } from "../../tests/fakes/gateway_house.ts";
import { Caller } from "./keys.ts";
import { ROUTES } from "./routes.ts";
import { toErrorResponse } from "./http_errors.ts";
import { findUsage, replaceModel } from "./api/pass_through.ts";
import { parsePath } from "./paths.ts";
import { Rate } from "./rate.ts";

Deno.test("these rows are public, and no others", async () => {
  await using house = await openGatewayHouse();
  const open = ROUTES.filter(({ scope }) => scope === "public");
  assert.deepEqual(open.map(({ method, path }) => `${method} ${path}`), [
    "GET /health/live",
    "GET /health/ready",
    "GET /ui",
    "GET /ui/",
    "GET /ui/app.js",
    "GET /ui/style.css",
  ]);
  const byHandshake = ROUTES.filter(({ scope }) => scope === "handshake");
  assert.deepEqual(byHandshake.map(({ path }) => path), ["/ws", "/"]);
  for (const { method, path, scope } of ROUTES) {
    const answer = await fetch(`${house.url}${path}`, {
      method,
      ...(method === "POST" ? { body: "{}" } : {}),
    });
    assert.equal(answer.status, scope === "public" ? 200 : 401, path);
    await answer.body?.cancel();
  }
});

Deno.test("health says {status} to anyone, more to a token that may read", async (t) => {
  let ok = true;
  let asked = 0;
  await using house = await openGatewayHouse({
    principals: { chat: program("tok_chat", { scopes: ["chat"] }) },
    limits: { readyMs: 0 },
    deps: {
      ready: () => {
        asked++;
        return Promise.resolve({
          ok,
          checks: [{ name: "store", ok, why: "disk full" }],
        });
      },
    },
  });
  const rows: [why: string, token: string | undefined, details: boolean][] = [
    ["nobody", undefined, false],
    ["a token that may not read", "chat", false],
    ["a token that may", "owner-token", true],
  ];
  for (const isOk of [true, false]) {
    for (const [why, token, details] of rows) {
      await t.step(`${why}, ${isOk ? "ready" : "not ready"}`, async () => {
        ok = isOk;
        const answer = await fetch(`${house.url}/health/ready`, {
          headers: token === undefined
            ? {}
            : { authorization: `Bearer ${token}` },
        });
        assert.equal(answer.status, isOk ? 200 : 503);
        const body = await answer.json();
        assert.equal(body.status, isOk ? "ok" : "unavailable");
        assert.deepEqual(
          body.checks?.map((check: { name: string }) => check.name),
          details ? ["store"] : undefined,
        );
      });
    }
  }
  assert.equal(asked, 6);
  const live = await fetch(`${house.url}/health/live`);
  assert.deepEqual(await live.json(), { status: "ok" });
});

Deno.test("readiness asks at most once a second, whoever asks", async () => {
  let asked = 0;
  await using house = await openGatewayHouse({
    deps: {
      ready: () => Promise.resolve({ ok: ++asked > 0, checks: [] }),
    },
  });
  await Promise.all(Array.from({ length: 20 }, async () => {
    const answer = await fetch(`${house.url}/health/ready`);
    await answer.body?.cancel();
  }));
  assert.equal(asked, 1);
});

Deno.test("safe mode serves health and refuses turns and models", async () => {
  await using house = await openGatewayHouse({
    deps: { safeMode: "carapace.jsonc:3: unknown key" },
  });
  const ready = await house.get("/health/ready");
  assert.equal(ready.status, 503);
  assert.equal((await ready.json()).checks.at(-1).name, "config");
  const chat = await house.post("/v1/chat/completions", {
    model: "carapace",
    messages: [{ role: "user", content: "x" }],
  });
  assert.equal(chat.status, 503);
  assert.match((await chat.json()).error.message, /safe mode/);
  using client = await house.socket({ token: "owner-token" });
  assert.equal((await client.call("health")).payload.status, "safe_mode");
  const { error } = await client.call("chat.send", {
    sessionKey: "main",
    message: "x",
    idempotencyKey: "1",
  });
  assert.equal(error.code, "UNAVAILABLE");
});

Deno.test("a busy port says who may hold it and how to choose another", async () => {
  await using first = await openGatewayHouse();
  const { port } = first;
  await assert.rejects(
    openGatewayHouse({
      deps: {
        config: {
          host: "127.0.0.1",
          port,
          hosts: [],
          origins: [],
          trustedProxies: [],
          container: false,
        },
        portHolder: () => "carapace, pid 7",
      },
    }),
    (error: AppError) => {
      assert.equal(error.code, "conflict");
      assert.match(error.message, /pid 7/);
      assert.match(error.hint ?? "", /CARAPACE_PORT=/);
      return true;
    },
  );
});

Deno.test("in flight is bounded", async () => {
  await using house = await openGatewayHouse({ limits: { inFlightMax: 0 } });
  const answer = await house.get("/v1/models");
  assert.equal(answer.status, 503);
  assert.equal(answer.headers.get("retry-after"), "1");
  await answer.body?.cancel();
});

Deno.test("parsePath() takes one spelling of a path and refuses the others", async (t) => {
  const rows: [target: string, want: string | undefined][] = [
    ["/health/live", "/health/live"],
    ["/health/live?x=/../", "/health/live"],
    ["/v1/caf%C3%A9", "/v1/café"],
    ["/a.b/c", "/a.b/c"],
    ["/", "/"],
    ["//health/live", undefined],
    ["/health//live", undefined],
    ["/health/./live", undefined],
    ["/x/../health/live", undefined],
    ["/health%2flive", undefined],
    ["/health%2Flive", undefined],
    ["/%2e%2e/x", undefined],
    ["/a%252fb", undefined],
    ["/a%5cb", undefined],
    ["/a\\b", undefined],
    ["/a%00", undefined],
    ["/a%0d%0ab", undefined],
    ["/a%20b", undefined],
    ["/a#b", undefined],
    ["/a%", undefined],
    ["/a%ff", undefined],
    [`/${"a".repeat(3000)}`, undefined],
    ["", undefined],
    [".evil/x", undefined],
  ];
  for (const [target, want] of rows) {
    await t.step(target.slice(0, 40), () => {
      const url = `http://h.test${target}`;
      if (want === undefined) {
        assert.throws(() => parsePath(url, "h.test"), AppError);
      } else assert.equal(parsePath(url, "h.test"), want);
    });
  }
  await t.step("a target of another host", () => {
    assert.throws(() => parsePath("http://evil.test/x", "h.test"), AppError);
  });
});

Deno.test("replaceModel() changes nothing else, whatever the body", () => {
  fc.assert(fc.property(
    fc.dictionary(fc.string(), fc.jsonValue()),
    fc.string(),
    fc.string(),
    fc.constantFrom(undefined, 1, "\t"),
    (rest, from, to, space) => {
      const body = { ...rest, model: from };
      const text = JSON.stringify(body, null, space);
      const changed = JSON.parse(replaceModel(text, from, to));
      assert.deepEqual(
        changed,
        JSON.parse(JSON.stringify({ ...body, model: to })),
      );
    },
  ));
});

Deno.test("findUsage() finds the last whole usage", () => {
  const usage = (n: number) =>
    `"usage":{"prompt_tokens":${n},"completion_tokens":1}`;
  assert.equal(findUsage(`{${usage(1)}} {${usage(2)}}`)?.inputTokens, 2);
  assert.equal(findUsage(`{${usage(3)},"x":1} {"usage":null}`)?.inputTokens, 3);
  assert.equal(findUsage(`{"usage":{"prompt_tok`), undefined);
  assert.equal(findUsage("data: [DONE]"), undefined);
  fc.assert(fc.property(fc.string(), (tail) => void findUsage(tail)));
});

Deno.test("Caller.toKey() never gives a stranger another's key", async () => {
  const one = await Caller.of(program("tok_one"));
  const two = await Caller.of(program("tok_two"));
  const text = fc.oneof(
    fc.string({ maxLength: 100 }),
    fc.stringMatching(/^agent:(main|coder)(:[a-z0-9_-]{1,20}){0,9}$/),
    fc.constantFrom(
      "main",
      "agent:main:main",
      "agent:main:client:token-tok_two:x",
      "agent:main:client:token-tok_one:x",
    ),
  );
  await fc.assert(fc.asyncProperty(text, async (key) => {
    const got = await one.toKey(key, "main").catch((error) => {
      assert.ok(error instanceof AppError);
    });
    if (got === undefined) return;
    assert.ok(one.ownsSession(got), got);
    assert.ok(!two.ownsSession(got), got);
    assert.equal(await one.toKey(got, "main"), got, "it stays as it is");
  }));
  await assert.rejects(one.toKey("agent:NO!:x", "main"), AppError);
  const narrow = await Caller.of(program("tok_n", { agents: ["coder"] }));
  await assert.rejects(narrow.toKey("main", "main"), { code: "forbidden" });
});

Deno.test("Rate lets a burst through, then its pace", () => {
  const rate = new Rate({
    name: "test",
    perSecond: 10,
    burst: 3,
    identitiesMax: 2,
  });
  for (let n = 0; n < 3; n++) rate.take("a", 0);
  assert.throws(() => rate.take("a", 0), { retryAfterMs: 100 });
  rate.take("b", 0);
  rate.take("a", 100);
  assert.throws(() => rate.take("a", 150), { code: "rate_limited" });
});

Deno.test("an unexpected error says nothing to strangers", async () => {
  await using house = await openGatewayHouse({
    deps: {
      status: () => {
        throw new TypeError("secret detail");
      },
      ready: () => Promise.reject(new TypeError("secret detail")),
    },
  });
  using client = await house.socket({ token: "owner-token" });
  const { error } = await client.call("status");
  assert.equal(error.code, "UNAVAILABLE");
  assert.doesNotMatch(JSON.stringify(error), /secret detail/);
  const ready = await fetch(`${house.url}/health/ready`);
  assert.equal(ready.status, 503);
  assert.doesNotMatch(await ready.text(), /secret detail/);
  const answer = toErrorResponse(
    new ModelError("rate", "slow down", { retryAfterMs: 1500 }),
    "openai",
  );
  assert.equal(answer.headers.get("retry-after"), "2");
});
