/** The WebSocket protocol as a client meets it, on a real socket. */
import { CHANNEL_METHODS } from "../../core/methods/channel.ts";
import assert from "node:assert/strict";
import fc from "fast-check";
import { label } from "../../core/label.ts";
import type { StoredMessage } from "../../core/message.ts";
import { NO_USAGE } from "../../core/message.ts";
import { DEVICE_METHODS } from "../../core/methods/device.ts";
import { GUARD_METHODS } from "../../core/methods/guard.ts";
import { OPS_METHODS } from "../../core/methods/ops.ts";
import { SCHEDULE_METHODS } from "../../core/methods/schedule.ts";
import { SESSION_METHODS } from "../../core/methods/session.ts";
import { TOOL_METHODS } from "../../core/methods/tool.ts";
import { METHODS } from "../../core/methods.ts";
import { ChatEvent, HelloOk, WIRE_LIMITS } from "../../core/protocol.ts";
import {
  type AnyFrame,
  CLIENT,
  type FakeClient,
  type FakeGatewayHouse,
  openGatewayHouse,
  principal,
  program,
  sessionRow,
} from "../../../tests/fakes/gateway_house.ts";
import { type RunScript, silence } from "../../../tests/fakes/turns.ts";

const KEY = "agent:main:main";

function send(message: string, idempotencyKey: string, sessionKey = KEY) {
  return { sessionKey, message, idempotencyKey };
}

function hello(change: Record<string, unknown> = {}) {
  return {
    type: "req",
    id: "1",
    method: "connect",
    params: {
      minProtocol: 3,
      maxProtocol: 4,
      client: CLIENT,
      auth: { token: "owner-token" },
      ...change,
    },
  };
}

Deno.test("the handshake negotiates and says what this caller may use", async () => {
  await using house = await openGatewayHouse();
  for (const path of ["/ws", "/"]) {
    using client = await house.socket({ path });
    const challenge = await client.event("connect.challenge");
    assert.match(challenge.nonce, /^[0-9a-f]{48}$/);
    const { ok, payload } = await client.connect({
      auth: { token: "owner-token" },
    });
    assert.equal(ok, true);
    HelloOk.parse(payload);
    assert.equal(payload.protocol, 4);
    assert.deepEqual(
      payload.features.methods,
      Object.entries(METHODS).filter(([, { scope }]) => scope !== "node")
        .map(([name]) => name),
    );
    assert.equal(
      payload.snapshot.sessionDefaults.mainSessionKey,
      "agent:main:main",
    );
  }
  using old = await house.socket();
  const { payload } = await old.connect({
    maxProtocol: 3,
    auth: { token: "app-token" },
    scopes: ["operator.read"],
  });
  assert.equal(payload.protocol, 3);
  assert.deepEqual(payload.auth.scopes, ["operator.read"]);
  assert.ok(!payload.features.methods.includes("chat.send"));
  assert.ok(!payload.features.methods.includes("token.create"));
  assert.ok(!payload.features.events.includes("exec.approval.requested"));
});

Deno.test("the handshake refuses", async (t) => {
  await using house = await openGatewayHouse({ limits: { handshakeMs: 150 } });
  type Row = [why: string, frame: unknown, close: number, code?: string];
  const deep = `${"[".repeat(40)}${"]".repeat(40)}`;
  const rows: Row[] = [
    ["no token", hello({ auth: {} }), 1008, "UNAUTHORIZED"],
    ["a wrong token", hello({ auth: { token: "x" } }), 1008, "UNAUTHORIZED"],
    [
      "versions that are over",
      hello({ minProtocol: 1, maxProtocol: 2 }),
      1002,
      "PROTOCOL_MISMATCH",
    ],
    [
      "versions to come",
      hello({ minProtocol: 5, maxProtocol: 9 }),
      1002,
      "PROTOCOL_MISMATCH",
    ],
    ["an unknown parameter", hello({ admin: true }), 1008, "INVALID_REQUEST"],
    ["an unknown property", { ...hello(), as: "x" }, 1008, "INVALID_REQUEST"],
    ["a role it does not have", hello({ role: "node" }), 1008, "FORBIDDEN"],
    [
      "another method first",
      { type: "req", id: "1", method: "health" },
      1008,
      "INVALID_REQUEST",
    ],
    ["another type", { type: "res", id: "1" }, 1008, "INVALID_REQUEST"],
    ["no id", { type: "req", method: "connect" }, 1008],
    ["not JSON", "{", 1008],
    ["null", "null", 1008],
    ["too deep", `{"type":"req","id":"1","params":${deep}}`, 1008],
    ["too big", `{"type":"req","id":"${"x".repeat(70_000)}"}`, 1009],
  ];
  for (const [why, frame, close, code] of rows) {
    await t.step(why, async () => {
      using client = await house.socket();
      client.send(frame);
      if (code !== undefined) {
        const { ok, error } = await client.frame((f) => f.type === "res");
        assert.equal(ok, false);
        assert.equal(error.code, code);
      }
      assert.equal((await client.closed).code, close);
    });
  }
  await t.step("a binary frame", async () => {
    using client = await house.socket();
    client.socket.send(new Uint8Array([1, 2]));
    assert.deepEqual(await client.closed, {
      code: 1008,
      reason: "binary frames are not taken",
    });
  });
  await t.step("silence", async () => {
    using client = await house.socket();
    const late = { code: 1008, reason: "handshake too late" };
    assert.deepEqual(await client.closed, late);
  });
  await t.step("a mismatch names what is expected", async () => {
    using client = await house.socket();
    client.send(hello({ minProtocol: 9, maxProtocol: 9 }));
    const { error } = await client.frame((f) => f.type === "res");
    assert.equal(error.details.expectedProtocol, 4);
  });
  assert.equal(house.gateway.counts().preAuth, 0);
});

Deno.test("a turn's events come in order, cumulative and with one last chat", async () => {
  await using house = await openGatewayHouse();
  using client = await house.socket({ token: "owner-token" });
  const { payload } = await client.call("chat.send", send("hi you", "k1"));
  assert.equal(payload.status, "started");
  await client.event("sessions.changed", (p) => p.reason === "end");
  const chats = client.frames.filter((f) => f.event === "chat")
    .map((f) => ChatEvent.parse(f.payload));
  assert.deepEqual(
    chats.map((c) => [c.state, c.deltaText, c.message?.content[0]?.text]),
    [
      ["delta", "echo: ", "echo: "],
      ["delta", "hi ", "echo: hi "],
      ["delta", "you", "echo: hi you"],
      ["final", undefined, "echo: hi you"],
    ],
  );
  const streams = client.frames.filter((f) => f.event === "agent")
    .map((f) => `${f.payload.stream} ${f.payload.data.phase ?? ""}`.trim());
  assert.deepEqual(streams, [
    "lifecycle start",
    "lifecycle step",
    "assistant",
    "assistant",
    "assistant",
    "lifecycle usage",
    "lifecycle end",
  ]);
  const seqs = client.frames.filter((f) => f.type === "event").map((f) =>
    f.seq
  );
  assert.deepEqual(seqs, seqs.map((_, n) => n + 1));
  const again = await client.call("chat.send", send("hi you", "k1"));
  assert.equal(again.payload.status, "duplicate");
  const waited = await client.call("agent.wait", { runId: payload.runId });
  assert.equal(waited.payload.status, "ok");
  assert.equal(waited.payload.reply, "echo: hi you");
});

Deno.test("every way to end is one last chat event", async (t) => {
  await using house = await openGatewayHouse();
  using client = await house.socket({ token: "owner-token" });
  const rows: [
    reason: "error" | "interrupted" | "budget" | "done",
    state: string,
  ][] = [
    ["error", "error"],
    ["interrupted", "error"],
    ["budget", "error"],
    ["done", "final"],
  ];
  for (const [reason, state] of rows) {
    await t.step(reason, async () => {
      house.turns.script = async function* () {
        await Promise.resolve();
        yield { kind: "end", reason, message: "why", usage: NO_USAGE };
      };
      const { payload } = await client.call("chat.send", send("x", reason));
      const chat = await client.event("chat", (p) => p.runId === payload.runId);
      assert.equal(chat.state, state);
      if (state === "error") assert.equal(chat.errorMessage, "why");
    });
  }
  await t.step("cancelled", async () => {
    house.turns.script = silence;
    const { payload } = await client.call("chat.send", send("x", "c"));
    const stopped = await client.call("chat.abort", { sessionKey: "main" });
    assert.deepEqual(stopped.payload.runIds, [payload.runId]);
    const chat = await client.event("chat", (p) => p.runId === payload.runId);
    assert.equal(chat.state, "aborted");
  });
});

Deno.test("an approval is told to those who may answer, and its end too", async () => {
  await using house = await openGatewayHouse({
    principals: { reader: principal({ scopes: ["read"] }) },
  });
  using owner = await house.socket({ token: "owner-token" });
  using reader = await house.socket({ token: "reader" });
  house.turns.script = async function* () {
    await Promise.resolve();
    const call = { callId: "c1", name: "web_fetch" };
    yield { kind: "tool_call", ...call, args: {} };
    yield {
      kind: "ask",
      approvalId: "apr_1",
      ...call,
      args: { url: "u" },
      answers: ["allow-once", "deny"],
      card: ["web_fetch (fetch)"],
      question: "Fetch?",
      expiresAt: 9,
    };
    yield { kind: "decision", ...call, verdict: "allow", reason: "owner" };
    yield { kind: "end", reason: "done", usage: NO_USAGE };
  };
  await owner.call("chat.send", send("x", "1"));
  const asked = await owner.event("exec.approval.requested");
  assert.equal(asked.id, "apr_1");
  const resolved = await owner.event("exec.approval.resolved");
  assert.deepEqual([resolved.id, resolved.verdict], ["apr_1", "allow"]);
  assert.equal(house.turns.requests[0]?.attended, true);
  await reader.event("chat");
  assert.ok(!reader.frames.some((f) => f.event?.startsWith("exec.")));
});

Deno.test("a caller that is not the owner sees its own and nothing else", async (t) => {
  const own = "agent:main:client:token-tok_app:work";
  const stored: StoredMessage = {
    role: "user",
    parts: [{ kind: "text", text: "mine", label: label("untrusted", []) }],
    seq: 1,
    at: 5,
  };
  const rows = [sessionRow(KEY, 9), sessionRow(own, 8)];
  await using house = await openGatewayHouse({
    sessions: rows,
    messages: { [rows[0]?.id ?? ""]: [stored], [rows[1]?.id ?? ""]: [stored] },
    principals: { other: program("tok_other") },
  });
  house.turns.script = silence;
  using owner = await house.socket({ token: "owner-token" });
  using app = await house.socket({ token: "app-token" });
  using other = await house.socket({ token: "other" });
  const { payload: ownersRun } = await owner.call("chat.send", send("x", "1"));
  await t.step("sessions.list", async () => {
    const keys = async (client: FakeClient) =>
      (await client.call("sessions.list", {})).payload.sessions
        .map((s: { key: string }) => s.key);
    assert.deepEqual(await keys(owner), [KEY, own]);
    assert.deepEqual(await keys(app), [own]);
    assert.deepEqual(await keys(other), []);
  });
  await t.step("chat.history", async () => {
    const { payload } = await app.call("chat.history", { sessionKey: KEY });
    assert.deepEqual(payload.messages, []);
    assert.equal(payload.sessionKey, "agent:main:client:token-tok_app:main");
    const mine = await app.call("chat.history", { sessionKey: "work" });
    assert.equal(mine.payload.messages[0].content[0].text, "mine");
    assert.deepEqual(
      (await app.call("chat.history", { sessionKey: own })).payload.messages,
      mine.payload.messages,
    );
    const theirs = await other.call("chat.history", { sessionKey: own });
    assert.deepEqual(theirs.payload.messages, []);
  });
  await t.step("chat.abort and agent.wait", async () => {
    const { runId } = ownersRun;
    for (const method of ["chat.abort", "agent.wait"]) {
      const params = method === "chat.abort"
        ? { sessionKey: KEY, runId }
        : { runId };
      const { error } = await app.call(method, params);
      assert.equal(error.code, "NOT_FOUND");
    }
    const { payload } = await app.call("chat.abort", { sessionKey: KEY });
    assert.deepEqual(payload.runIds, []);
  });
  await t.step("events", async () => {
    const { payload } = await app.call("chat.send", send("x", "2", "main"));
    await owner.event("agent", (p) => p.runId === payload.runId);
    await app.event("agent", (p) => p.runId === payload.runId);
    await app.call("chat.abort", { sessionKey: "main" });
    await app.event("chat", (p) => p.runId === payload.runId);
    const seen = (client: FakeClient) =>
      client.frames.filter((f) => ["chat", "agent"].includes(f.event))
        .map((f) => f.payload.runId);
    assert.ok(seen(app).every((id: string) => id === payload.runId));
    assert.deepEqual(seen(other), []);
  });
  await t.step("presence, status, scopes", async () => {
    assert.equal((await owner.call("system-presence")).payload.length, 3);
    assert.equal((await app.call("system-presence")).payload.length, 1);
    const { payload } = await app.call("status");
    assert.deepEqual(payload.posture.grants, {});
    METHODS.status.output.parse(payload);
    assert.deepEqual(
      (await owner.call("status")).payload.posture.grants.read,
      ["/secret/path"],
    );
    const { error } = await app.call("token.list");
    assert.equal(error.code, "FORBIDDEN");
    assert.equal(error.details.scope, "operator.admin");
  });
});

Deno.test("every method answers in the shape its contract says", async (t) => {
  await using house = await openGatewayHouse({ sessions: [sessionRow(KEY)] });
  using client = await house.socket({ token: "owner-token" });
  const params: Partial<Record<string, unknown>> = {
    "chat.send": send("x", "m1"),
    "chat.history": { sessionKey: "main" },
    "chat.abort": { sessionKey: "main" },
    "sessions.list": { includeLastMessage: true },
    agent: { message: "y", idempotencyKey: "m2", extraSystemPrompt: "p" },
    "token.create": { name: "n", scopes: ["read"] },
    "token.rotate": { id: "tok_n" },
    "token.revoke": { id: "tok_n" },
    "plugins.manifest": { id: "fake" },
    "plugins.install": {
      manifest: { id: "fake" },
      sha256: "0".repeat(64),
      source: "/fake",
    },
    "plugins.remove": { id: "fake" },
    "plugins.restart": { id: "fake" },
    "plugins.call": { id: "fake", tool: "echo" },
    "plugins.logs": { id: "fake" },
  };
  let runId = "";
  for (const [method, { output }] of Object.entries(METHODS)) {
    // Those of the guard need one: tests/threats/c2_approvals_test.ts; those of
    // sessions and tools need real ones: session_methods_test.ts, memory_cli_test.ts;
    // those of channels too: tests/stories/channels_test.ts.
    if (Object.hasOwn(CHANNEL_METHODS, method)) continue;
    if (Object.hasOwn(GUARD_METHODS, method)) continue;
    // Those of devices need keys: device_test.ts.
    if (Object.hasOwn(DEVICE_METHODS, method)) continue;
    if (Object.hasOwn(SESSION_METHODS, method)) continue;
    if (Object.hasOwn(TOOL_METHODS, method)) continue;
    // The house's own: tests/stories/field_methods_test.ts.
    if (Object.hasOwn(OPS_METHODS, method)) continue;
    if (/^(?:tools|config|node)\./.test(method)) continue;
    // Those of the schedule need one: tests/stories/schedule_test.ts.
    if (Object.hasOwn(SCHEDULE_METHODS, method)) continue;
    await t.step(method, async () => {
      const own = method === "agent.wait" ? { runId } : params[method];
      const { ok, payload, error } = await client.call(method, own);
      assert.ok(ok, JSON.stringify(error));
      output.parse(payload);
      runId = payload.runId ?? runId;
      const bad = await client.call(method, { nonsense: 1 });
      assert.equal(bad.error.code, "INVALID_REQUEST");
    });
  }
  assert.equal(house.turns.requests.at(-1)?.preamble, "p");
});

Deno.test("a connection that was lost gets the rest of its run", async () => {
  await using house = await openGatewayHouse();
  let runId = "";
  {
    using first = await house.socket({ token: "owner-token" });
    runId = (await first.call("chat.send", send("a b", "1"))).payload.runId;
    await first.event("chat", (p) => p.state === "final");
  }
  const resume = { sessionKey: KEY, runId, seq: 4 };
  using again = await house.socket();
  await again.connect({ auth: { token: "owner-token" }, resume });
  const final = await again.event("chat", (p) => p.state === "final");
  assert.equal(final.message.content[0].text, "echo: a b");
  const deltas = again.frames.filter((f) => f.payload?.state === "delta");
  assert.deepEqual(
    deltas.map((f) => [f.payload.seq, f.payload.message.content[0].text]),
    [[5, "echo: a b"]],
  );
  using thief = await house.socket();
  await thief.connect({ auth: { token: "app-token" }, resume });
  await thief.call("health");
  assert.ok(!thief.frames.some((f) => f.event === "chat"));
});

Deno.test("who comes and goes while a run speaks hears each event once, and none is missing", async () => {
  await using house = await openGatewayHouse();
  const count = 4_000;
  house.turns.script = async function* () {
    for (let n = 0; n < count; n++) {
      yield { kind: "thinking", text: `${n}` };
      if (n % 25 === 0) await new Promise((done) => setTimeout(done));
    }
    yield { kind: "end", reason: "done", usage: NO_USAGE };
  };
  using watcher = await house.socket({ token: "owner-token" });
  const { payload: { runId } } = await watcher.call(
    "chat.send",
    send("x", "1"),
  );
  const isOf = (f: AnyFrame) =>
    f.event === "agent" && f.payload.runId === runId;
  const heard: number[] = [];
  let visits = 0;
  for (; heard.at(-1) !== count + 2; visits++) {
    using visitor = await house.socket();
    await visitor.connect({
      auth: { token: "owner-token" },
      resume: { sessionKey: KEY, runId, seq: heard.at(-1) ?? 0 },
    });
    const enough = (heard.at(-1) ?? 0) + 40;
    await visitor.frame((f) =>
      isOf(f) && f.payload.seq >= Math.min(enough, count + 2)
    );
    heard.push(...visitor.frames.filter(isOf).map((f) => f.payload.seq));
    const numbers = visitor.frames.filter((f) => f.type === "event")
      .map(({ seq }) => seq);
    assert.deepEqual(numbers, numbers.map((_, n) => n + 1));
  }
  assert.ok(visits > 3, "it was over too soon");
  assert.deepEqual(heard, heard.map((_, n) => n + 1));
});

Deno.test("what is said in the middle of a resumed handshake is not missed", async () => {
  for (let steps = 0; steps < 8; steps++) {
    await using house = await openGatewayHouse();
    const shaking = Promise.withResolvers<void>();
    house.turns.script = async function* () {
      yield { kind: "thinking", text: "before" };
      await shaking.promise;
      for (let n = 0; n < 20; n++) yield { kind: "thinking", text: `${n}` };
      yield { kind: "end", reason: "done", usage: NO_USAGE };
    };
    using first = await house.socket({ token: "owner-token" });
    const { runId } = (await first.call("chat.send", send("x", "1"))).payload;
    await first.event("agent", (p) => p.stream === "thinking");
    const find = house.turns.find.bind(house.turns);
    house.turns.find = async (id) => {
      const view = await find(id);
      shaking.resolve();
      // In the midst of what is said now, wherever that is.
      for (let n = 0; n < 8 + steps; n++) await Promise.resolve();
      return view;
    };
    using again = await house.socket();
    await again.connect({
      auth: { token: "owner-token" },
      resume: { sessionKey: KEY, runId, seq: 1 },
    });
    await again.event("chat", (p) => p.state === "final");
    const heard = again.frames.filter((f) => f.event === "agent")
      .map((f) => f.payload.seq);
    assert.deepEqual(heard, Array.from({ length: 22 }, (_, n) => n + 2));
  }
});

Deno.test("a long answer that was missed is not too much to be sent again", async () => {
  await using house = await openGatewayHouse({
    limits: { unreadBytesMax: 1_000_000 },
  });
  const word = "word ".repeat(20);
  house.turns.script = async function* () {
    for (let n = 0; n < 900; n++) yield { kind: "text", text: word };
    await new Promise((done) => setTimeout(done));
    yield { kind: "reply", text: word.repeat(900), model: "fake:x" };
    yield { kind: "end", reason: "done", usage: NO_USAGE };
  };
  using first = await house.socket({ token: "owner-token" });
  const { runId } = (await first.call("chat.send", send("x", "1"))).payload;
  await house.turns.wait(runId, { timeoutMs: 10_000 });
  using again = await house.socket();
  await again.connect({
    auth: { token: "owner-token" },
    resume: { sessionKey: KEY, runId, seq: 0 },
  });
  const final = await again.event("chat", (p) => p.state === "final");
  assert.equal(final.message.content[0].text, word.repeat(900));
});

Deno.test("a frame is as deep as the limit and no deeper, before and after the handshake", async (t) => {
  await using house = await openGatewayHouse();
  /** A frame with so many levels, the frame itself and its `params` among them. */
  const nested = (method: string, levels: number) => {
    const inner = "[".repeat(levels - 2) + "]".repeat(levels - 2);
    return `{"type":"req","id":"1","method":"${method}","params":{"x":${inner}}}`;
  };
  const { depthMax } = WIRE_LIMITS;
  for (const isReady of [false, true]) {
    const open = () =>
      house.socket(isReady ? { token: "owner-token" } : undefined);
    const method = isReady ? "health" : "connect";
    await t.step(`${method}: at the limit it is read`, async () => {
      using client = await open();
      client.send(nested(method, depthMax));
      const { error } = await client.frame((f) => f.type === "res" && !f.ok);
      assert.equal(error.code, "INVALID_REQUEST");
    });
    await t.step(`${method}: beyond it the socket closes`, async () => {
      using client = await open();
      client.send(nested(method, depthMax + 1));
      assert.deepEqual(await client.closed, {
        code: 1008,
        reason: "the frame is not JSON within the limits",
      });
    });
  }
});

/** A connected socket that reads only when it is told to. */
async function openLazy(
  house: FakeGatewayHouse,
): Promise<AsyncDisposable & { frames(): AsyncGenerator<AnyFrame> }> {
  const { port } = house;
  const raw = await Deno.connect({ hostname: "127.0.0.1", port });
  const encoder = new TextEncoder();
  await raw.write(encoder.encode(
    `GET /ws HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\n` +
      "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  ));
  const body = encoder.encode(JSON.stringify(hello()));
  const frame = new Uint8Array(8 + body.length); // masked with zeros
  frame.set([0x81, 0xfe, body.length >> 8, body.length & 255]);
  frame.set(body, 8);
  await raw.write(frame);
  const { counts } = house.gateway;
  while (counts().sockets !== 1 || counts().preAuth !== 0) {
    await new Promise((done) => setTimeout(done, 2));
  }
  return {
    async *frames() {
      let bytes = new Uint8Array();
      let isPastHead = false;
      for await (const chunk of raw.readable) {
        const all = new Uint8Array(bytes.length + chunk.length);
        all.set(bytes);
        all.set(chunk, bytes.length);
        bytes = all;
        if (!isPastHead) {
          const end = new TextDecoder().decode(bytes).indexOf("\r\n\r\n");
          if (end === -1) continue;
          isPastHead = true;
          bytes = bytes.slice(end + 4);
        }
        for (;;) {
          const view = new DataView(bytes.buffer, bytes.byteOffset);
          const short = bytes.length < 2 ? 0 : view.getUint8(1);
          const at = short === 127 ? 10 : short === 126 ? 4 : 2;
          if (bytes.length < at) break;
          const length = short === 127
            ? Number(view.getBigUint64(2))
            : short === 126
            ? view.getUint16(2)
            : short;
          if (bytes.length < at + length) break;
          const text = new TextDecoder().decode(
            bytes.subarray(at, at + length),
          );
          const isText = (view.getUint8(0) & 15) === 1;
          bytes = bytes.subarray(at + length);
          if (isText) yield JSON.parse(text);
        }
      }
    },
    [Symbol.asyncDispose]: async () => {
      // Reading to the end of the loop has closed it already.
      await raw.readable.cancel().catch(() => {});
    },
  };
}

const ASK = {
  model: "carapace",
  messages: [{ role: "user", content: "x" }],
};

/** More than the kernel's buffers take, then some words, then the end. */
function flood(thoughts: number): RunScript {
  return async function* () {
    const text = "x".repeat(20_000);
    for (let n = 0; n < thoughts; n++) {
      yield { kind: "thinking", text };
      if (n % 20 === 0) await new Promise((done) => setTimeout(done));
    }
    for (let n = 0; n < 200; n++) yield { kind: "text", text: `${n} ` };
    yield { kind: "end", reason: "done", usage: NO_USAGE };
  };
}

Deno.test("a slow reader gets merged deltas, without a gap", async () => {
  await using house = await openGatewayHouse({
    limits: {
      bufferedBytesMax: 400_000,
      unreadBytesMax: 1e9,
      heldEventsMax: 1e9,
      slowMs: 60_000,
    },
  });
  await using lazy = await openLazy(house);
  house.turns.script = flood(600);
  await (await house.post("/v1/chat/completions", ASK)).body?.cancel();
  const frames: AnyFrame[] = [];
  for await (const frame of lazy.frames()) {
    frames.push(frame);
    if (frame.payload?.state === "final") break;
  }
  const deltas = frames.filter((f) => f.payload?.state === "delta");
  assert.ok(deltas.length < 200, `${deltas.length} deltas`);
  const whole = Array.from({ length: 200 }, (_, n) => `${n} `).join("");
  assert.equal(deltas.map((f) => f.payload.deltaText).join(""), whole);
  assert.equal(frames.at(-1).payload.message.content[0].text, whole);
  const seqs = frames.filter((f) => f.type === "event").map((f) => f.seq);
  assert.deepEqual(seqs, seqs.map((_, n) => n + 1));
});

Deno.test("a reader that stays behind is cut, and costs nobody else", async (t) => {
  for (
    const [why, limits] of [
      // Each by itself: the other two would not do it.
      ["too many events", { heldEventsMax: 50, slowMs: 600_000 }],
      ["too long", { slowMs: 50, heldEventsMax: 100_000 }],
      [
        "too many bytes",
        { unreadBytesMax: 50_000, slowMs: 600_000, heldEventsMax: 100_000 },
      ],
    ] as const
  ) {
    await t.step(why, async () => {
      await using house = await openGatewayHouse({
        limits: { bufferedBytesMax: 100_000, ...limits },
      });
      await using _lazy = await openLazy(house);
      house.turns.script = flood(600);
      await (await house.post("/v1/chat/completions", ASK)).body?.cancel();
      using driver = await house.socket({ token: "owner-token" });
      const others = async () =>
        (await driver.call("system-presence")).payload.length;
      while (await others() > 1) {
        await new Promise((done) => setTimeout(done, 10));
      }
    });
  }
});

Deno.test("revoking a credential closes its sockets and ends its runs", async () => {
  await using house = await openGatewayHouse();
  house.turns.script = silence;
  using owner = await house.socket({ token: "owner-token" });
  using app = await house.socket({ token: "app-token" });
  const { payload } = await app.call("chat.send", send("x", "1"));
  house.revoke("tok_app");
  assert.equal((await app.closed).code, 1008);
  const last = await owner.event("chat", (p) => p.runId === payload.runId);
  assert.equal(last.state, "aborted");
  assert.equal((await owner.call("health")).ok, true);
});

Deno.test("health does not read the store for every call", async () => {
  await using house = await openGatewayHouse();
  using client = await house.socket({ token: "owner-token" });
  for (let n = 0; n < 200; n++) await client.call("health");
  assert.ok(house.kvReads.count <= 2, String(house.kvReads.count));
});

Deno.test("whatever frame comes, the answer is an error or a close", async () => {
  await using house = await openGatewayHouse();
  const method = fc.constantFrom(
    ...Object.keys(METHODS),
    "connect",
    "x",
    "__proto__",
  );
  const frame = fc.oneof(
    fc.json({ maxDepth: 4 }),
    fc.string({ maxLength: 80 }),
    fc.record({
      type: fc.constantFrom("req", "res", "event"),
      id: fc.oneof(fc.string({ maxLength: 8 }), fc.integer()),
      method,
      params: fc.jsonValue({ maxDepth: 3 }),
    }, { requiredKeys: [] }).map((value) => JSON.stringify(value)),
  );
  let client = await house.socket({ token: "owner-token" });
  await fc.assert(
    fc.asyncProperty(frame, async (text) => {
      if (client.socket.readyState !== WebSocket.OPEN) {
        client = await house.socket({ token: "owner-token" });
      }
      const from = client.frames.length;
      client.send(text);
      const answered = client.frame((f) =>
        f.type === "res" && client.frames.indexOf(f) >= from
      ).catch(() => undefined);
      await Promise.race([answered, client.closed]);
    }),
    { numRuns: 150 },
  );
  client[Symbol.dispose]();
  using after = await house.socket({ token: "owner-token" });
  assert.equal((await after.call("health")).ok, true);
});

Deno.test("draining says so and refuses; closing ends sockets and streams", async () => {
  const house = await openGatewayHouse({ limits: { headMs: 10 } });
  house.turns.script = silence;
  using client = await house.socket({ token: "owner-token" });
  const chat = {
    model: "carapace",
    messages: [{ role: "user", content: "x" }],
    stream: true,
  };
  const stream = await house.post("/v1/chat/completions", chat);
  assert.equal(stream.status, 200);
  await house.gateway.drain();
  await client.event("shutdown");
  const refused = await house.post("/v1/chat/completions", chat);
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get("retry-after"), "2");
  await refused.body?.cancel();
  const { error } = await client.call("chat.send", send("x", "1"));
  assert.equal(error.code, "UNAVAILABLE");
  assert.equal((await client.call("health")).ok, true);
  const ready = await house.get("/health/ready");
  assert.equal(ready.status, 503);
  assert.equal((await ready.json()).status, "draining");
  const from = performance.now();
  await house[Symbol.asyncDispose]();
  assert.ok(performance.now() - from < 1500);
  assert.equal((await client.closed).code, 1013);
  assert.match(await stream.text(), /shutting down/);
});
