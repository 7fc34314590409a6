/**
 * Promise 13: who acts is the server's record of a credential; nothing a caller
 * says adds to it, a token made with a token is no wider, and revoking one closes
 * its sockets and ends its runs.
 */
import assert from "node:assert/strict";
import { fakeOpenai } from "../fakes/openai.ts";
import { client, providedBy, start } from "../process/gateways.ts";
import { scratch, until } from "../process/processes.ts";

Deno.test("authority only shrinks", async (t) => {
  await using dir = await scratch();
  const reached = Promise.withResolvers<void>();
  await using fake = await fakeOpenai({
    script: () => ({
      text: ["never ", "ends"],
      after: 2,
      then: "hang",
      before: () => reached.resolve(),
    }),
  });
  await using gateway = await start({ dir: dir.path, env: providedBy(fake) });
  using owner = await client(gateway);
  const chat = await owner.call("token.create", {
    name: "chat only",
    scopes: ["chat"],
  });
  const models = (token: string) =>
    fetch(`${gateway.url}/v1/models`, {
      headers: { authorization: `Bearer ${token}` },
    });

  await t.step("a token does no more than its scopes", async () => {
    using one = await client(gateway, chat.token);
    await assert.rejects(one.call("status", {}), /scope "read"/);
    await assert.rejects(one.call("token.list", {}), /scope "admin"/);
    await assert.rejects(
      one.call("token.create", { name: "more", scopes: ["admin"] }),
      /scope "admin"/,
    );
  });
  await t.step("claims of the connect frame add nothing", async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/ws`);
    const { promise, resolve } = Promise.withResolvers<
      // deno-lint-ignore no-explicit-any
      any
    >();
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.type === "res") resolve(frame);
      if (frame.event !== "connect.challenge") return;
      socket.send(JSON.stringify({
        type: "req",
        id: "1",
        method: "connect",
        params: {
          minProtocol: 3,
          maxProtocol: 4,
          client: {
            id: "cli",
            version: "1",
            platform: "test",
            mode: "cli",
          },
          role: "operator",
          scopes: ["operator.admin", "operator.read"],
          auth: { token: chat.token },
        },
      }));
    };
    const frame = await promise;
    socket.close();
    const scopes = frame.payload?.auth.scopes ?? [];
    assert.deepEqual(
      scopes.filter((scope: string) => scope !== "operator.chat"),
      [],
    );
  });
  await t.step(
    "another's session is not there, whatever key is named",
    async () => {
      using one = await client(gateway, chat.token);
      const sent = await one.call("chat.send", {
        sessionKey: "agent:main:main",
        message: "whose is this?",
        idempotencyKey: "13-a",
      });
      await reached.promise;
      const mains = await owner.call("chat.history", {
        sessionKey: "agent:main:main",
      });
      assert.deepEqual(mains.messages, [], "it went to a session of its own");
      await owner.call("chat.abort", {
        sessionKey: `agent:main:client:token-${chat.id}:main`,
        runId: sent.runId,
      });
      const own = await owner.call("chat.send", {
        sessionKey: "main",
        message: "mine",
        idempotencyKey: "13-own",
      });
      await assert.rejects(
        one.call("agent.wait", { runId: own.runId, timeoutMs: 10 }),
        /Cannot find run/,
      );
      await owner.call("chat.abort", { sessionKey: "main", runId: own.runId });
    },
  );
  await t.step("revoked, its sockets close and its run ends", async () => {
    using one = await client(gateway, chat.token);
    const notices: string[] = [];
    using _listening = one.listen(({ kind }) => void notices.push(kind));
    const { runId } = await one.call("chat.send", {
      sessionKey: "main",
      message: "go",
      idempotencyKey: "13-b",
    });
    await reached.promise;
    assert.equal((await models(chat.token)).status, 200);
    await owner.call("token.revoke", { id: chat.id });
    const { status } = await owner.call("agent.wait", {
      runId,
      timeoutMs: 10_000,
    });
    assert.equal(status, "error");
    const request = fake.requests.at(-1);
    assert.ok(request);
    await request.closed;
    await until("the end of its socket", () => notices.includes("lost"));
    assert.equal((await models(chat.token)).status, 401);
  });
});
