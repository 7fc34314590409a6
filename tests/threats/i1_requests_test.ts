/** I1: heads, bodies and streams beyond their limits, from outside. */
import assert from "node:assert/strict";
import {
  type FakeGatewayHouse,
  forwarding,
  openGatewayHouse,
  rawRequest,
} from "../fakes/gateway_house.ts";
import { silence } from "../fakes/turns.ts";

const TOKEN = "Authorization: Bearer owner-token";

const models = (house: FakeGatewayHouse, ...lines: string[]) =>
  rawRequest(house.port, [
    "GET /v1/models HTTP/1.1",
    `Host: 127.0.0.1:${house.port}`,
    TOKEN,
    ...lines,
  ]);

Deno.test("I1: header fields are bounded, by their number and their size", async (t) => {
  await using house = await openGatewayHouse({
    limits: { headersMax: 20, headerCharsMax: 2_000 },
  });
  const fields = (count: number) =>
    Array.from({ length: count }, (_, n) => `X-${n}: y`);
  await t.step("number", async () => {
    // Host, Authorization and Connection are three of them.
    assert.equal((await models(house, ...fields(17))).status, 200);
    assert.equal((await models(house, ...fields(18))).status, 431);
  });
  await t.step("size", async () => {
    const host = `127.0.0.1:${house.port}`.length;
    const own = "host".length + host + TOKEN.length - 2 +
      "connectionclose".length;
    const rest = 2_000 - own - 1;
    assert.equal((await models(house, `X: ${"y".repeat(rest)}`)).status, 200);
    const { status, head } = await models(house, `X: ${"y".repeat(rest + 1)}`);
    assert.equal(status, 431);
    assert.match(head, /"too_large"/);
  });
  await t.step("before anybody asks who it is", async () => {
    const { status } = await rawRequest(house.port, [
      "GET /health/live HTTP/1.1",
      "Host: evil.example",
      ...fields(40),
    ]);
    assert.equal(status, 431);
  });
  await t.step("what the runtime cannot hold is refused too", async () => {
    const { status } = await models(house, `X: ${"y".repeat(300_000)}`);
    assert.ok(status === 400 || status === 431 || status === 0, `${status}`);
  });
});

Deno.test("I1: a request's target is bounded, query included", async () => {
  await using house = await openGatewayHouse({
    limits: { targetCharsMax: 200 },
  });
  const own = `http://127.0.0.1:${house.port}/v1/models?`.length;
  const ask = (count: number) =>
    rawRequest(house.port, [
      `GET /v1/models?${"q".repeat(count - own)} HTTP/1.1`,
      `Host: 127.0.0.1:${house.port}`,
      TOKEN,
    ]);
  assert.equal((await ask(200)).status, 200);
  assert.equal((await ask(201)).status, 414);
});

/** A chunked body, piece by piece; the answer's status. */
async function chunked(
  house: FakeGatewayHouse,
  path: string,
  bytes: number,
): Promise<number> {
  const connection = await Deno.connect({
    hostname: "127.0.0.1",
    port: house.port,
  });
  try {
    const encoder = new TextEncoder();
    const head = [
      `POST ${path} HTTP/1.1`,
      `Host: 127.0.0.1:${house.port}`,
      TOKEN,
      "Content-Type: application/json",
      "Transfer-Encoding: chunked",
      "",
      "",
    ];
    const write = async (text: string) => {
      const data = encoder.encode(text);
      for (let at = 0; at < data.length;) {
        at += await connection.write(data.subarray(at));
      }
    };
    const sending = (async () => {
      await write(head.join("\r\n"));
      const piece = 65_536;
      for (let left = bytes; left > 0; left -= piece) {
        const size = Math.min(left, piece);
        await write(`${size.toString(16)}\r\n${" ".repeat(size)}\r\n`);
      }
      await write("0\r\n\r\n");
    })().catch(() => {}); // cut off while it was sending, as it should be
    const buffer = new Uint8Array(4096);
    const count = await connection.read(buffer) ?? 0;
    const text = new TextDecoder().decode(buffer.subarray(0, count));
    await Promise.race([sending, Promise.resolve()]);
    return Number(text.split(" ", 2)[1] ?? 0);
  } finally {
    connection.close();
  }
}

Deno.test("I1: a body of unstated length is cut at its route's limit", async (t) => {
  await using house = await openGatewayHouse();
  for (
    const [path, bytesMax] of [
      ["/v1/chat/completions", 4_194_304],
      ["/tools/invoke", 1_048_576],
      ["/mcp", 1_048_576],
    ] as const
  ) {
    await t.step(path, async () => {
      // Within it: read to its end, and no JSON.
      assert.equal(await chunked(house, path, bytesMax), 400);
      assert.equal(await chunked(house, path, bytesMax + 1), 413);
    });
  }
});

Deno.test("I1: JSON that is too deep or too wide is refused by counting", async (t) => {
  await using house = await openGatewayHouse();
  const deep = (levels: number) =>
    `{"model":"a:b","x":${"[".repeat(levels)}${"]".repeat(levels)}}`;
  const wide = (values: number) =>
    `{"model":"a:b","x":[${"1,".repeat(values - 1)}1]}`;
  const rows: [string, string, string, number, RegExp][] = [
    ["31 in an object", "/v1/chat/completions", deep(31), 404, /model/],
    ["32 in an object", "/v1/chat/completions", deep(32), 400, /deeper/],
    ["under 200,000", "/v1/chat/completions", wide(199_997), 404, /model/],
    ["over 200,000", "/v1/chat/completions", wide(200_000), 413, /values/],
    ["under 10,000", "/tools/invoke", wide(9_997), 400, /Unrecognized|tool/],
    ["over 10,000", "/tools/invoke", wide(10_001), 413, /values/],
    ["deep for a tool", "/tools/invoke", deep(32), 400, /deeper/],
  ];
  for (const [name, path, body, status, says] of rows) {
    await t.step(`${path}: ${name}`, async () => {
      const answer = await house.post(path, body);
      const text = await answer.text();
      assert.equal(answer.status, status, text);
      assert.match(text, says);
    });
  }
});

Deno.test("I1: compressed bodies are not taken, whatever they would become", async () => {
  await using house = await openGatewayHouse();
  for (const encoding of ["gzip", "br", "deflate", "zstd", "gzip, identity"]) {
    for (const path of ["/v1/chat/completions", "/tools/invoke", "/mcp"]) {
      const answer = await house.post(path, "{}", {
        headers: { "content-encoding": encoding },
      });
      assert.equal(answer.status, 415, `${path} ${encoding}`);
      await answer.body?.cancel();
    }
  }
});

Deno.test("I1: more queries do not leave more behind", async () => {
  await using house = await openGatewayHouse();
  const get = async (n: number) => {
    const answer = await house.get(`/v1/models?k${n}=${n}&k=${n}&k=${n}`);
    assert.equal(answer.status, 200);
    await answer.body?.cancel();
  };
  for (let n = 0; n < 500; n++) await get(n);
  const before = Deno.memoryUsage().heapUsed;
  for (let n = 500; n < 2_500; n++) await get(n);
  const grown = Deno.memoryUsage().heapUsed - before;
  assert.ok(grown < 60_000_000, `${grown} bytes for 2,000 requests`);
});

/** A vendor that says one piece, then nothing, or more than anybody reads. */
function vendor(kind: "silent" | "endless") {
  const encoder = new TextEncoder();
  const piece = encoder.encode(
    `data: {"choices":[{"delta":{"content":"${"x".repeat(60_000)}"}}]}\n\n`,
  );
  let isGone: () => void = () => {};
  const gone = new Promise<void>((resolve) => isGone = resolve);
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    (request) => {
      request.signal.addEventListener("abort", () => isGone());
      return new Response(
        new ReadableStream({
          start: (controller) => controller.enqueue(piece),
          pull: kind === "endless"
            ? (controller) => controller.enqueue(piece)
            : () => new Promise<void>(() => {}),
          cancel: () => isGone(),
        }),
        { headers: { "content-type": "text/event-stream" } },
      );
    },
  );
  return { url: `http://127.0.0.1:${server.addr.port}`, server, gone };
}

const STREAM = {
  model: "fake:m",
  messages: [{ role: "user", content: "x" }],
  stream: true,
};

Deno.test("I1: a stream ends at its limit, and its last frame says so", async (t) => {
  const limits = { streamMs: 100, sweepMs: 20, headMs: 40 };
  await t.step("a model's", async () => {
    const { url, server, gone } = vendor("silent");
    await using house = await openGatewayHouse({
      limits,
      providers: [forwarding("fake", url)],
    });
    const answer = await house.post("/v1/chat/completions", STREAM);
    const frames = (await answer.text()).trim().split("\n\n");
    const last = JSON.parse(frames.at(-1)?.replace("data: ", "") ?? "");
    assert.match(last.error.message, /cut off: it lasted 0.1 s/);
    assert.equal(house.gateway.counts().inFlight, 0);
    await gone;
    await server.shutdown();
  });
  for (
    const [name, path, body, says] of [
      ["an agent's", "/v1/chat/completions", {}, /data: .*cut off/],
      ["a message's", "/v1/messages", { max_tokens: 9 }, /event: error\ndata/],
      ["a response's", "/v1/responses", { input: "x" }, /error/],
    ] as const
  ) {
    await t.step(name, async () => {
      await using house = await openGatewayHouse({ limits });
      house.turns.script = silence;
      const { messages, ...rest } = { ...STREAM, model: "carapace", ...body };
      const asked = "input" in body ? rest : { ...rest, messages };
      const answer = await house.post(path, asked);
      assert.equal(answer.status, 200);
      const text = await answer.text();
      assert.match(text.slice(-600), says);
      assert.match(text, /cut off: it lasted 0.1 s/);
      assert.equal(house.gateway.counts().inFlight, 0);
    });
  }
});

Deno.test("I1: who does not read a stream loses it, and its vendor is told", async () => {
  const { url, server, gone } = vendor("endless");
  await using house = await openGatewayHouse({
    limits: { unreadMs: 150, sweepMs: 20 },
    providers: [forwarding("fake", url)],
  });
  const connection = await Deno.connect({
    hostname: "127.0.0.1",
    port: house.port,
  });
  const body = JSON.stringify(STREAM);
  const head = [
    "POST /v1/chat/completions HTTP/1.1",
    `Host: 127.0.0.1:${house.port}`,
    TOKEN,
    "Content-Type: application/json",
    `Content-Length: ${body.length}`,
    "",
    body,
  ];
  await connection.write(new TextEncoder().encode(head.join("\r\n")));
  await gone;
  // Its place is free although nobody read a byte.
  await house.gateway.drain({ limitMs: 2_000 });
  assert.equal(house.gateway.counts().inFlight, 0);
  connection.close();
  await server.shutdown();
});

Deno.test("I1: answers say how the buckets stand they were charged to", async (t) => {
  const { url, server } = vendor("silent");
  await using house = await openGatewayHouse({
    limits: {
      readsPerSecond: 0.1,
      readsBurst: 5,
      passThroughPerSecond: 0.1,
      passThroughBurst: 2,
      turnsPerSecond: 0.5,
      turnsBurst: 1,
    },
    providers: [forwarding("fake", url)],
  });
  const headers = { authorization: "Bearer app-token" };
  const say = async (answer: Promise<Response>) => {
    const { status, headers, body } = await answer;
    await body?.cancel();
    return [
      status,
      headers.get("ratelimit-policy"),
      headers.get("ratelimit"),
      headers.get("retry-after"),
    ];
  };
  const post = (model: string) =>
    say(house.post("/v1/chat/completions", { ...STREAM, model }, { headers }));
  await t.step("a read", async () => {
    assert.deepEqual(await say(house.get("/v1/models", { headers })), [
      200,
      '"requests";q=5;w=50',
      '"requests";r=4;t=10',
      null,
    ]);
  });
  await t.step("a model's call and a turn are charged to two", async () => {
    assert.deepEqual(await post("fake:m"), [
      200,
      '"requests";q=5;w=50, "models";q=2;w=20',
      '"requests";r=3;t=20, "models";r=1;t=10',
      null,
    ]);
    assert.deepEqual(await post("carapace"), [
      200,
      '"requests";q=5;w=50, "turns";q=1;w=2',
      '"requests";r=2;t=30, "turns";r=0;t=2',
      null,
    ]);
  });
  await t.step("a refusal says which, and when to come back", async () => {
    assert.deepEqual(await post("carapace"), [
      429,
      '"requests";q=5;w=50, "turns";q=1;w=2',
      '"requests";r=1;t=40, "turns";r=0;t=2',
      "2",
    ]);
    await post("carapace");
    assert.deepEqual(await say(house.get("/v1/models", { headers })), [
      429,
      '"requests";q=5;w=50',
      '"requests";r=0;t=10',
      "10",
    ]);
  });
  await t.step("who is nobody is told nothing", async () => {
    const [status, policy, limit] = await say(fetch(`${house.url}/v1/models`));
    assert.deepEqual([status, policy, limit], [401, null, null]);
  });
  await server.shutdown();
});
