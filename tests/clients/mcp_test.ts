/** MCP's own client, unmodified, against the whole house. */
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
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
