/** MCP's own client, unmodified, against the whole house. */
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  LATEST_PROTOCOL_VERSION,
  SUPPORTED_PROTOCOL_VERSIONS,
} from "@modelcontextprotocol/sdk/types.js";
import { FakeClient } from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import { say } from "../fakes/vendor.ts";

async function connect(
  house: RealHouse,
  token: string,
): Promise<Client & AsyncDisposable> {
  const client = new Client({ name: "test", version: "1.0.0" });
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`${house.url}/mcp`), {
      requestInit: { headers: { authorization: `Bearer ${token}` } },
    }),
  );
  return Object.assign(client, {
    [Symbol.asyncDispose]: () => client.close(),
  });
}

interface Named {
  name: string;
}

// deno-lint-ignore no-explicit-any
function textOf(result: any): string {
  return result.content[0].text;
}

Deno.test("tools are listed with their schemas, and run", async (t) => {
  await using house = await openRealHouse();
  await using client = await connect(house, house.owner);
  assert.equal(client.getServerVersion()?.name, "carapace");
  const { tools } = await client.listTools();
  await t.step("listed", () => {
    const math = tools.find(({ name }: Named) => name === "math_eval");
    assert.equal(math?.inputSchema.type, "object");
    assert.ok("expression" in (math?.inputSchema.properties ?? {}));
  });
  await t.step("run", async () => {
    const result = await client.callTool({
      name: "math_eval",
      arguments: { expression: "6*7" },
    });
    assert.equal(textOf(result), "42");
    assert.equal(result.isError, false);
  });
  await t.step("arguments that do not fit", async () => {
    const result = await client.callTool({ name: "math_eval", arguments: {} });
    assert.equal(result.isError, true);
    assert.match(textOf(result), /do not fit/);
  });
  await t.step("no such tool", async () => {
    await assert.rejects(client.callTool({ name: "nonesuch" }), /no tool/);
  });
  await t.step("many at once", async () => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        client.callTool({
          name: "math_eval",
          arguments: { expression: `${n}+1` },
        })),
    );
    assert.deepEqual(
      results.map(textOf),
      results.map((_: unknown, n: number) => String(n + 1)),
    );
  });
});

Deno.test("a token's tools are its own", async () => {
  await using house = await openRealHouse();
  await using client = await connect(
    house,
    await house.token({ scopes: ["tools"], tools: ["math_eval"] }),
  );
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map(({ name }: Named) => name), []);
  await using other = await connect(
    house,
    await house.token({ scopes: ["write"], tools: ["math_eval"] }),
  );
  const { tools: shown } = await other.listTools();
  assert.deepEqual(shown.map(({ name }: Named) => name), ["math_eval"]);
  await assert.rejects(other.callTool({ name: "current_time" }), /no tool/);
});

Deno.test("sessions are resources, to their owner", async () => {
  await using house = await openRealHouse({ script: () => say("hello Ann") });
  const talk = async (token: string) => {
    const answer = await fetch(`${house.url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({
        model: "carapace",
        user: "ann",
        messages: [{ role: "user", content: "I am Ann" }],
      }),
    });
    await answer.json();
  };
  const program = await house.token();
  await talk(house.owner);
  await talk(program);
  await using owner = await connect(house, house.owner);
  await using client = await connect(house, program);
  const own = (await client.listResources()).resources;
  assert.equal(own.length, 1);
  const all = (await owner.listResources()).resources;
  assert.equal(all.length, 2);
  const { contents: [first] } = await client.readResource({
    uri: own[0]?.uri ?? "",
  });
  const { messages } = JSON.parse(first && "text" in first ? first.text : "");
  assert.deepEqual(
    messages.map((m: { role: string; text: string }) => [m.role, m.text]),
    [["user", "I am Ann"], ["assistant", "hello Ann"]],
  );
  for (
    const { uri } of all.filter(({ uri }: { uri: string }) =>
      uri !== own[0]?.uri
    )
  ) {
    await assert.rejects(client.readResource({ uri }), /no such session/);
  }
  await assert.rejects(
    client.readResource({ uri: "carapace://session/agent:main:none" }),
    /no such session/,
  );
  await using blind = await connect(
    house,
    await house.token({ scopes: ["tools"] }),
  );
  assert.equal(blind.getServerCapabilities()?.resources, undefined);
  await assert.rejects(blind.listResources());
});

Deno.test("without the scope, or a token, there is no server", async () => {
  await using house = await openRealHouse();
  const chat = await house.token({ scopes: ["chat"] });
  await assert.rejects(connect(house, chat), /403|scope/);
  await assert.rejects(connect(house, "cara_wrong"), /401|Unauthorized/i);
});

Deno.test("a client that leaves ends its call", async () => {
  await using house = await openRealHouse({
    settings: { guard: { policy: [{ tool: "math_eval", verdict: "ask" }] } },
  });
  const asked = Promise.withResolvers<string>();
  const ended = Promise.withResolvers<string>();
  using _watching = house.house.desk.watch((event) => {
    if (event.kind === "ask") asked.resolve(event.runId);
    if (event.kind === "end") ended.resolve(event.reason);
  });
  const socket = new WebSocket(`${house.url.replace("http", "ws")}/ws`);
  await new Promise<void>((resolve) => {
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.type === "res") return resolve();
      socket.send(JSON.stringify({
        type: "req",
        id: "1",
        method: "connect",
        params: {
          minProtocol: 3,
          maxProtocol: 4,
          client: { id: "t", version: "1", platform: "x", mode: "test" },
          auth: { token: house.owner },
        },
      }));
    };
  });
  await using client = await connect(house, house.owner);
  const controller = new AbortController();
  const call = client.callTool(
    { name: "math_eval", arguments: { expression: "1" } },
    undefined,
    { signal: controller.signal },
  );
  call.catch(() => {});
  await asked.promise;
  await client.close();
  controller.abort();
  assert.equal(await ended.promise, "cancelled");
  socket.close();
});

/** One request by hand, as a client of a protocol version. */
async function rpc(
  house: RealHouse,
  body: unknown,
  init: { method?: string; version?: string; headers?: HeadersInit } = {},
): Promise<{ status: number; text: string; headers: Headers }> {
  const { method = "POST", version, headers } = init;
  const answer = await fetch(`${house.url}/mcp`, {
    method,
    headers: {
      authorization: `Bearer ${house.owner}`,
      accept: "application/json, text/event-stream",
      "content-type": "application/json",
      ...version === undefined ? {} : { "mcp-protocol-version": version },
      ...headers,
    },
    ...method === "POST"
      ? { body: typeof body === "string" ? body : JSON.stringify(body) }
      : {},
  });
  const text = await answer.text();
  return { status: answer.status, text, headers: answer.headers };
}

function messagesOf(text: string): { id: number; result?: unknown }[] {
  return text.split("\n").filter((line) => line.startsWith("data: {"))
    .map((line) => JSON.parse(line.slice("data: ".length)));
}

const LIST = { jsonrpc: "2.0", id: 1, method: "tools/list" };

Deno.test("every version of the protocol is spoken, and no other", async (t) => {
  await using house = await openRealHouse();
  const init = (protocolVersion: string) => ({
    jsonrpc: "2.0",
    id: 1,
    method: "initialize",
    params: {
      protocolVersion,
      capabilities: {},
      clientInfo: { name: "test", version: "1" },
    },
  });
  for (const version of SUPPORTED_PROTOCOL_VERSIONS) {
    await t.step(version, async () => {
      const { text, headers } = await rpc(house, init(version));
      const [said] = messagesOf(text);
      assert.equal((said?.result as Said).protocolVersion, version);
      assert.equal(headers.get("mcp-session-id"), null, "nothing is kept");
      assert.equal((await rpc(house, LIST, { version })).status, 200);
    });
  }
  await t.step("one that nobody knows is answered with ours", async () => {
    const { text } = await rpc(house, init("1999-01-01"));
    const { protocolVersion } = messagesOf(text)[0]?.result as Said;
    assert.equal(protocolVersion, LATEST_PROTOCOL_VERSION);
  });
  await t.step("and refused in a header", async () => {
    const refused = await rpc(house, LIST, { version: "1999-01-01" });
    assert.equal(refused.status, 400);
    assert.match(refused.text, /Unsupported protocol version/);
  });
});

interface Said {
  protocolVersion: string;
}

Deno.test("there is no session to hold or to end, and that is said as the protocol says it", async () => {
  await using house = await openRealHouse();
  for (const method of ["GET", "DELETE", "PUT"]) {
    const { status } = await rpc(house, undefined, {
      method,
      headers: { "mcp-session-id": "made-up" },
    });
    assert.equal(status, 405, method);
  }
  // A session's id that somebody brings along opens nothing and breaks nothing.
  const known = await rpc(house, LIST, {
    headers: { "mcp-session-id": "made-up" },
  });
  assert.equal(known.status, 200);
});

Deno.test("batches are answered each, and bounded as any body is", async (t) => {
  await using house = await openRealHouse();
  const call = (id: number) => ({
    jsonrpc: "2.0",
    id,
    method: "tools/call",
    params: { name: "math_eval", arguments: { expression: `${id}*2` } },
  });
  await t.step("three", async () => {
    const { status, text } = await rpc(house, [call(1), call(2), call(3)]);
    assert.equal(status, 200);
    const said = messagesOf(text).map(({ id, result }) => [id, textOf(result)]);
    assert.deepEqual(said.toSorted(), [[1, "2"], [2, "4"], [3, "6"]]);
  });
  const rows: [name: string, body: string, status: number][] = [
    ["none", "[]", 202],
    ["not JSON", "{", 400],
    ["no message", JSON.stringify({ hello: 1 }), 400],
    ["one that is no message", JSON.stringify([LIST, { hello: 1 }]), 400],
    ["too many values", `[${"1,".repeat(10_001)}1]`, 413],
    ["too deep", "[".repeat(40) + "]".repeat(40), 400],
    ["too long", JSON.stringify({ ...LIST, pad: "x".repeat(1_048_576) }), 413],
  ];
  for (const [name, body, status] of rows) {
    await t.step(name, async () => {
      const refused = await rpc(house, body);
      assert.equal(refused.status, status, refused.text);
    });
  }
  await t.step("what does not take the stream is told so", async () => {
    const headers = { accept: "application/json" };
    assert.equal((await rpc(house, LIST, { headers })).status, 406);
    const type = { "content-type": "text/plain" };
    assert.ok(
      [400, 415].includes((await rpc(house, LIST, { headers: type })).status),
    );
  });
});

Deno.test("the tools of a token are listed alike at every door", async (t) => {
  await using house = await openRealHouse();
  const tokens = [
    ["the owner's", house.owner],
    ["write", await house.token({ scopes: ["write"] })],
    ["read and tools", await house.token({ scopes: ["read", "tools"] })],
    ["one tool", await house.token({ tools: ["current_time"] })],
  ] as const;
  for (const [name, token] of tokens) {
    await t.step(name, async () => {
      await using client = await connect(house, token);
      const { tools } = await client.listTools();
      const here = tools.map(({ name }: Named) => name);
      using socket = new FakeClient(`${house.url.replace("http", "ws")}/ws`);
      await socket.connect({ auth: { token } });
      const { payload } = await socket.call("tools.catalog", {});
      const there = payload.groups.flatMap((
        { tools }: { tools: { id: string }[] },
      ) => tools.map(({ id }) => id));
      assert.deepEqual(here.toSorted(), there.toSorted());
      for (
        const tool of ["math_eval", "current_time", "memory_list", "nonesuch"]
      ) {
        const answer = await fetch(`${house.url}/tools/invoke`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${token}`,
            "content-type": "application/json",
          },
          body: JSON.stringify({ tool }),
        });
        await answer.body?.cancel();
        assert.equal(answer.status !== 404, here.includes(tool), tool);
      }
    });
  }
});
