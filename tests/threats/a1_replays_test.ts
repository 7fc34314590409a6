/** A1: what one request came to is not the answer to another. */
import assert from "node:assert/strict";
import { tokenSocket } from "../fakes/device.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import { say } from "../fakes/vendor.ts";

const SETTINGS = {
  agents: {
    main: { model: "openai:gpt-test" },
    work: { model: "openai:gpt-test" },
  },
};

const messages = [{ role: "user", content: "hi" }];

interface Sent {
  status: number;
  // deno-lint-ignore no-explicit-any
  body: any;
}

async function send(
  house: RealHouse,
  path: string,
  { token = house.owner, key, body }: {
    token?: string;
    key?: string;
    body?: unknown;
  },
): Promise<Sent> {
  const answer = await fetch(`${house.url}${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(key === undefined ? {} : { "idempotency-key": key }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: answer.status, body: await answer.json() };
}

/** Another of the owner's keys, for one agent only. */
function onlyWork(house: RealHouse): Promise<string> {
  return house.token({ kind: "owner", integrity: "owner", agents: ["work"] });
}

Deno.test("A1: a key of one request answers no other", async (t) => {
  let count = 0;
  await using house = await openRealHouse({
    script: () => say(`answer ${++count}`),
    settings: SETTINGS,
  });
  const chat = "/v1/chat/completions";
  const invoke = "/tools/invoke";
  const ask = { model: "carapace", messages };
  const first = await send(house, chat, { key: "k", body: ask });
  const textOf = ({ body }: Sent) => body.choices[0].message.content;
  await t.step("the same again is the same", async () => {
    const again = await send(house, chat, { key: "k", body: ask });
    assert.equal(textOf(again), textOf(first));
    assert.equal(count, 1);
  });
  await t.step("other words are not", async () => {
    const other = [{ role: "user", content: "something else" }];
    const { status } = await send(house, chat, {
      key: "k",
      body: { ...ask, messages: other },
    });
    assert.equal(status, 409);
  });
  await t.step("nor another agent, for a key that has only that", async () => {
    const { status } = await send(house, chat, {
      token: await onlyWork(house),
      key: "k",
      body: { ...ask, model: "carapace/work" },
    });
    assert.equal(status, 409);
  });
  await t.step("a turn is no tool's result", async () => {
    const tool = { tool: "math_eval", args: { expression: "1+1" } };
    const { status } = await send(house, invoke, { key: "k", body: tool });
    assert.equal(status, 409);
  });
  await t.step("a tool's result is not that of other arguments", async () => {
    const sum = (expression: string) =>
      send(house, invoke, {
        key: "t",
        body: { tool: "math_eval", args: { expression } },
      });
    assert.equal((await sum("1+1")).body.result.content[0].text, "2");
    assert.equal((await sum("1+1")).status, 200);
    assert.equal((await sum("2+3")).status, 409);
  });
  await t.step("by WebSocket", async () => {
    using socket = await tokenSocket(house, house.owner);
    const ask = (message: string) =>
      socket.call("chat.send", {
        sessionKey: "main",
        message,
        idempotencyKey: "w",
      });
    const { payload } = await ask("one");
    assert.equal((await ask("one")).payload.runId, payload.runId);
    assert.equal((await ask("two")).error?.code, "CONFLICT");
  });
  await t.step("at the same time", async () => {
    const [a, b] = await Promise.all(
      ["1+1", "2+3"].map((expression) =>
        send(house, invoke, {
          key: "race",
          body: { tool: "math_eval", args: { expression } },
        })
      ),
    );
    assert.deepEqual([a?.status, b?.status].sort(), [200, 409]);
  });
});

Deno.test("A1: an answer of one agent is not read by a key for another", async () => {
  await using house = await openRealHouse({
    script: () => say("secret"),
    settings: SETTINGS,
  });
  const body = { model: "carapace", input: "hi" };
  const made = await send(house, "/v1/responses", { body });
  const path = `/v1/responses/${made.body.id}`;
  assert.equal((await send(house, path, {})).status, 200);
  // A program's own is its own, though it named no session.
  const app = await house.token({ agents: ["main"] });
  const own = await send(house, "/v1/responses", { token: app, body });
  const more = { ...body, previous_response_id: own.body.id };
  const on = await send(house, "/v1/responses", { token: app, body: more });
  assert.equal(on.status, 200, JSON.stringify(on.body));
  const token = await onlyWork(house);
  assert.equal((await send(house, path, { token })).status, 404);
  const next = { ...body, previous_response_id: made.body.id };
  for (const model of ["carapace", "carapace/work"]) {
    const { status } = await send(house, "/v1/responses", {
      token,
      body: { ...next, model },
    });
    assert.ok(status === 400 || status === 403, `${model}: ${status}`);
  }
  const gone = await fetch(`${house.url}${path}`, {
    method: "DELETE",
    headers: { authorization: `Bearer ${token}` },
  });
  assert.equal(gone.status, 404);
  await gone.body?.cancel();
});
