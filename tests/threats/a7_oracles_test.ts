/**
 * A7: nothing tells a stranger what there is: what is not there, what is
 * another's and what is over answer alike, byte for byte but for the id asked.
 */
import assert from "node:assert/strict";
import { makeId } from "../../src/core/ids.ts";
import {
  connectDevice,
  knock,
  makeDevice,
  pairDevice,
  tokenSocket,
} from "../fakes/device.ts";
import type { AnyFrame, FakeClient } from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import { say } from "../fakes/vendor.ts";

/** An answer without what is of this one request, or names what was asked. */
function plain(text: string, asked: string): string {
  return text.replaceAll(asked, "ID")
    .replaceAll(/"(ts|at|sinceMs|retryAfterMs)":\d+/g, '"$1":0')
    .replaceAll(/req_[0-9a-z]+/g, "req");
}

interface Answer {
  status: number;
  text: string;
}

async function ask(
  { url }: RealHouse,
  path: string,
  init: { token: string; method?: string; body?: unknown },
): Promise<Answer> {
  const { token, method = "GET", body } = init;
  const answer = await fetch(`${url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  // What tells requests apart, and counts them, is of every answer.
  const headers = [...answer.headers].filter(([name]) =>
    !/^(date|x-request-id|ratelimit.*|content-length)$/.test(name)
  );
  return {
    status: answer.status,
    text: JSON.stringify(headers) + await answer.text(),
  };
}

async function turn(socket: FakeClient, sessionKey: string): Promise<string> {
  const { payload } = await socket.call("chat.send", {
    sessionKey,
    message: "hi",
    idempotencyKey: crypto.randomUUID(),
  });
  const { runId } = payload;
  await socket.call("agent.wait", { runId, timeoutMs: 5_000 });
  return runId;
}

Deno.test("A7: what is another's is what is not there, for every method that takes an id", async (t) => {
  await using house = await openRealHouse({ script: () => say("done") });
  const all = ["write", "chat", "read", "tools", "approvals", "pairing"];
  using owner = await tokenSocket(house, house.owner);
  const theirs = await house.token({ scopes: all });
  using other = await tokenSocket(house, theirs);
  const mine = await house.token({ scopes: all });
  using stranger = await tokenSocket(house, mine);
  const runs = [await turn(owner, "main"), await turn(other, "main")];
  const key = async (socket: FakeClient) =>
    (await socket.call("sessions.list")).payload.sessions[0].key;
  const keys = [await key(owner), await key(other)];
  const job = async (socket: FakeClient) =>
    (await socket.call("cron.add", {
      name: "one",
      schedule: { kind: "every", everyMs: 3_600_000 },
      payload: { kind: "agentTurn", message: "hi" },
      sessionTarget: "isolated",
    })).payload;
  const jobs = [await job(owner), await job(other)].map((one) =>
    one.id ?? one.job?.id
  );
  assert.ok(jobs.every((id) => typeof id === "string"), JSON.stringify(jobs));
  const unknown = {
    run: makeId("run", 1),
    key: "agent:main:nobody",
    job: makeId("job", 1),
    approval: makeId("apr", 1),
  };
  type Row = [string, (id: string) => Record<string, unknown>];
  const byRun: Row[] = [
    ["agent.wait", (runId) => ({ runId, timeoutMs: 10 })],
    ["chat.abort", (runId) => ({ sessionKey: "main", runId })],
  ];
  const byKey: Row[] = [
    ["chat.history", (sessionKey) => ({ sessionKey })],
    ["chat.abort", (sessionKey) => ({ sessionKey })],
    ["sessions.patch", (key) => ({ key, label: "x" })],
    ["sessions.fork", (key) => ({ key })],
    ["sessions.archive", (key) => ({ key })],
    ["sessions.compact", (key) => ({ key })],
    ["sessions.export", (key) => ({ key })],
    ["sessions.preview", (key) => ({ keys: [key] })],
    ["sessions.delete", (key) => ({ key })],
  ];
  const byJob: Row[] = [
    ["cron.run", (id) => ({ id })],
    ["cron.runs", (id) => ({ id })],
    ["cron.update", (id) => ({ id, patch: { name: "x" } })],
    ["cron.remove", (id) => ({ id })],
  ];
  const look = async ([method, params]: Row, id: string) => {
    const { ok, payload, error }: AnyFrame = await stranger.call(
      method,
      params(id),
    );
    const text = JSON.stringify({ ok, payload, error });
    // A caller's own name for a session holds the one it gave.
    const rest = id.split(":").slice(2).join(":");
    const own = text.replaceAll(
      new RegExp(`agent:main:client:[^":]+:[^"]*`, "g"),
      "ID",
    );
    return plain(rest === "" ? own : own.replaceAll(rest, "ID"), id);
  };
  for (
    const [rows, known, none] of [
      [byRun, runs, unknown.run],
      [byKey, keys, unknown.key],
      [byJob, jobs, unknown.job],
      [
        [["approval.resolve", (id) => ({ id, decision: "deny" })]] as Row[],
        [makeId("apr", 2)],
        unknown.approval,
      ],
    ] as const
  ) {
    for (const row of rows) {
      await t.step(`${row[0]} ${Object.keys(row[1]("x"))}`, async () => {
        const nothing = await look(row, none);
        for (const id of known) assert.equal(await look(row, id), nothing);
      });
    }
  }
  await t.step("and they are still there", async () => {
    const { payload } = await owner.call("sessions.list");
    const shown = payload.sessions.map((one: AnyFrame) => one.key);
    for (const one of keys) assert.ok(shown.includes(one), one);
    const list = JSON.stringify((await owner.call("cron.list")).payload);
    for (const id of jobs) assert.ok(list.includes(id));
  });
});

Deno.test("A7: another's response, model and agent are none, over HTTP", async (t) => {
  await using house = await openRealHouse({
    script: () => say("done"),
    settings: { agents: { main: { model: "openai:gpt-test" }, work: {} } },
  });
  const theirs = await house.token();
  const mine = await house.token();
  const made = await ask(house, "/v1/responses", {
    token: theirs,
    method: "POST",
    body: { model: "carapace", input: "hi" },
  });
  const [id = ""] = /resp_[0-9a-z]+/.exec(made.text) ?? [];
  assert.notEqual(id, "");
  const none = makeId("resp", 1);
  await t.step("a response", async () => {
    const ways = (id: string): Promise<Answer>[] => [
      ask(house, `/v1/responses/${id}`, { token: mine }),
      ask(house, `/v1/responses/${id}`, { token: mine, method: "DELETE" }),
      ask(house, "/v1/responses", {
        token: mine,
        method: "POST",
        body: { model: "carapace", input: "hi", previous_response_id: id },
      }),
    ];
    const known = await Promise.all(ways(id));
    const nothing = await Promise.all(ways(none));
    for (const [n, { status, text }] of known.entries()) {
      assert.equal(status, nothing[n]?.status);
      assert.equal(plain(text, id), plain(nothing[n]?.text ?? "", none));
    }
    // Whose it is reads it and goes on from it, though nobody named a session.
    const own = await ask(house, `/v1/responses/${id}`, { token: theirs });
    assert.equal(own.status, 200);
    const next = await ask(house, "/v1/responses", {
      token: theirs,
      method: "POST",
      body: { model: "carapace", input: "and", previous_response_id: id },
    });
    assert.equal(next.status, 200);
    assert.match(
      new TextDecoder().decode(house.openai.requests.at(-1)?.bytes),
      /done/,
    );
  });
  await t.step("an agent", async () => {
    const bound = await house.token({ agents: ["work"] });
    const body = (agent: string) => ({
      model: `carapace/${agent}`,
      messages: [{ role: "user", content: "hi" }],
    });
    const [there, nowhere] = await Promise.all(
      ["main", "nonesuch"].map(async (agent) => {
        const answer = await ask(house, "/v1/chat/completions", {
          token: bound,
          method: "POST",
          body: body(agent),
        });
        return { ...answer, text: plain(answer.text, agent) };
      }),
    );
    assert.deepEqual(there, nowhere);
  });
  await t.step("a model", async () => {
    const bound = await house.token({ models: ["openai:other"] });
    const [there, nowhere] = await Promise.all(
      ["openai:gpt-test", "openai:gpt-none"].map(async (model) => {
        const answer = await ask(house, `/v1/models/${model}`, {
          token: bound,
        });
        return { ...answer, text: plain(answer.text, model) };
      }),
    );
    assert.deepEqual(there, nowhere);
  });
});

Deno.test("A7: a token that never was, is over, was revoked or rotated away answers alike", async (t) => {
  const refusals = async (
    show: (house: RealHouse, text: string) => Promise<string>,
  ): Promise<Record<string, string>> => {
    await using house = await openRealHouse();
    const { tokens } = house.house;
    const make = (expiresInMs?: number) =>
      tokens.create({
        name: "x",
        scopes: ["write"],
        ...(expiresInMs === undefined ? {} : { expiresInMs }),
      });
    const expired = await make(1);
    const revoked = await make();
    await tokens.revoke(revoked.id);
    const rotated = await make();
    const next = await tokens.rotate(rotated.id);
    using _used = await tokenSocket(house, next.token);
    return {
      unknown: await show(house, revoked.token.replace(/.{6}$/, "abcdef")),
      expired: await show(house, expired.token),
      revoked: await show(house, revoked.token),
      rotated: await show(house, rotated.token),
    };
  };
  await t.step("over HTTP", async () => {
    const said = await refusals(async (house, token) => {
      const { status, text } = await ask(house, "/v1/models", { token });
      return `${status} ${plain(text, token)}`;
    });
    assert.match(said["unknown"] ?? "", /^401 /);
    assert.equal(new Set(Object.values(said)).size, 1, JSON.stringify(said));
  });
  await t.step("over WebSocket", async () => {
    const said = await refusals(async (house, token) => {
      using socket = await knock(house);
      const { error } = await socket.connect({ auth: { token } });
      const { code, reason } = await socket.closed;
      return JSON.stringify([error, code, reason]);
    });
    assert.match(said["unknown"] ?? "", /UNAUTHORIZED/);
    assert.equal(new Set(Object.values(said)).size, 1, JSON.stringify(said));
  });
});

Deno.test("A7: a device's token and an invitation that are not right say no more than that", async (t) => {
  await using house = await openRealHouse();
  using owner = await tokenSocket(house, house.owner);
  const show = async (
    device: ReturnType<typeof makeDevice>,
    auth: Record<string, string>,
  ) => {
    using socket = await knock(house);
    const { error } = await connectDevice(socket, device, { auth });
    const { code, reason } = await socket.closed;
    return JSON.stringify([error, code, reason]);
  };
  await t.step("codes", async () => {
    const make = async () =>
      (await owner.call("device.bootstrap.create", {})).payload;
    const used = await make();
    using first = await knock(house);
    const auth = { bootstrapToken: used.code };
    assert.ok((await connectDevice(first, makeDevice(), { auth })).ok);
    const withdrawn = await make();
    const { inviteId: requestId } = withdrawn;
    assert.ok((await owner.call("device.pair.reject", { requestId })).ok);
    const said = [
      await show(makeDevice(), { bootstrapToken: "cari_never" }),
      await show(makeDevice(), { bootstrapToken: used.code }),
      await show(makeDevice(), { bootstrapToken: withdrawn.code }),
    ];
    assert.match(said[0] ?? "", /UNAUTHORIZED/);
    assert.equal(new Set(said).size, 1, said.join("\n"));
  });
  await t.step("tokens", async () => {
    await using other = await openRealHouse();
    using owner = await tokenSocket(other, other.owner);
    const known = makeDevice();
    await pairDevice(other, owner, { device: known });
    const showAt = async (device: typeof known, deviceToken: string) => {
      using socket = await knock(other);
      const auth = { deviceToken };
      const { error } = await connectDevice(socket, device, { auth });
      const { code, reason } = await socket.closed;
      return JSON.stringify([error, code, reason]);
    };
    const said = [
      await showAt(known, "card_wrong"),
      await showAt(makeDevice(), "card_wrong"),
      await showAt(makeDevice(), house.owner),
    ];
    assert.match(said[0] ?? "", /UNAUTHORIZED/);
    assert.equal(new Set(said).size, 1, said.join("\n"));
  });
});

Deno.test("A7: whoever is not let in is not told which paths there are", async () => {
  await using house = await openRealHouse();
  const said = await Promise.all(
    ["/v1/models", "/metrics", "/none", "/v1/none"].map(async (path) => {
      const answer = await fetch(`${house.url}${path}`);
      return `${answer.status} ${await answer.text()}`;
    }),
  );
  const shapes = new Set(said.map((text) => text.replace(/\s+/g, " ")));
  // Each dialect has its own form of the one refusal.
  assert.ok(said.every((text) => text.startsWith("401 ")), said.join("\n"));
  assert.ok(shapes.size <= 2, [...shapes].join("\n"));
});
