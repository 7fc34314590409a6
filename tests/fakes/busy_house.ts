/**
 * A whole house whose model, tools, plugin and webhook do as the message says:
 * what a test needs that wants everything to happen once.
 */
import assert from "node:assert/strict";
import { Secret } from "../../src/core/secret.ts";
import { freePort, until } from "../process/processes.ts";
import type { AnyFrame, FakeClient } from "./gateway_house.ts";
import { grantOf, installIn, ownerOf, probe } from "./plugins.ts";
import { openRealHouse, type RealHouse } from "./real_house.ts";
import type { FakeRequest, Reply } from "./vendor.ts";
import { type WebhookReceiver, webhookReceiver } from "./webhook_receiver.ts";

/** A house, its owner's socket, and what it is reached by. */
export interface BusyHouse extends AsyncDisposable {
  real: RealHouse;
  client: FakeClient;
  receiver: WebhookReceiver;
  /** Asks over HTTP, and reads the answer. */
  post(path: string, body: unknown, token?: string): Promise<Answer>;
  get(path: string, token?: string): Promise<Answer>;
  /** A method of the owner's that must work. */
  call(method: string, params?: object): Promise<AnyFrame>;
  /** Begins a turn in a session of its own; its run's id. */
  start(message: string, session?: string): Promise<string>;
  /** A turn to its end; why it ended. */
  turn(message: string, session?: string): Promise<string>;
}

export interface Answer {
  status: number;
  headers: Headers;
  text: string;
}

interface Wire {
  role: string;
  content: unknown;
}

/** A sum that the owner is asked about. */
const ASKED = "6*7";
/** And one that is denied. */
const DENIED = "9*9";

const call = (name: string, args: object): Reply => ({
  calls: [{ name, args }],
});

/** What the model does, by the first word of the last message. */
function modelOf(request: FakeRequest): Reply {
  const messages: Wire[] = request.body.messages ?? [];
  const at = messages.findLastIndex(({ role }) => role === "user");
  const [word = "", ...rest] = JSON.stringify(messages[at]?.content ?? "")
    .replaceAll(/[^a-z0-9_ .:/]/gi, " ").trim().split(/ +/);
  const isCalled = messages.length - 1 > at;
  const usage = { input: 100, output: 20, cached: 30, cacheWrite: 10 };
  if (isCalled && !["loop", "steps", "dear"].includes(word)) {
    return { text: "done", usage };
  }
  switch (word) {
    case "time":
      return call("current_time", {});
    case "sum":
      return call("math_eval", { expression: ASKED });
    case "loop":
      return call("math_eval", { expression: "1+1" });
    case "steps":
      return call("math_eval", { expression: `1+${messages.length}` });
    case "dear":
      return {
        calls: [{ name: "current_time", args: {} }],
        usage: { input: 10_000, output: 6_000 },
      };
    case "never":
      return call("math_eval", { expression: DENIED });
    case "tell":
      return call("message_send", { to: "webhook/alerts", text: "hi" });
    case "long":
      return { text: "cut", stop: "length", usage };
    case "refuse":
      return { text: "no", stop: "refused", usage };
    case "fail":
      return { status: 400 };
    case "hang":
      return { text: ["on", "and on"], after: 2, then: "hang" };
    case "break":
      return { text: ["on", "and on"], after: 2, then: "break" };
    case "away":
      return {
        status: 307,
        headers: { location: `http://127.0.0.1:1/${rest.join("")}` },
      };
    default:
      return { text: `You said ${word}`, usage };
  }
}

/** Opens one. */
export async function openBusyHouse(
  { settings = {}, stateDir }: {
    settings?: Record<string, unknown>;
    stateDir?: string;
  } = {},
): Promise<BusyHouse> {
  await using opening = new AsyncDisposableStack();
  const receiver = opening.use(webhookReceiver("s3cret"));
  const secret = new Secret("s3cret", "test");
  const { manifest, bytes } = await probe();
  const real = opening.use(
    await openRealHouse({
      script: modelOf,
      ...stateDir === undefined ? {} : { stateDir },
      providers: {
        gone: { api: "chat", baseUrl: `http://127.0.0.1:${freePort()}/v1` },
      },
      settings: {
        agents: {
          main: { model: "openai:gpt-test" },
          poor: { model: "openai:gpt-test" },
        },
        budgets: { agents: { poor: { usdPerDay: 0.25 } } },
        prices: {
          "openai:gpt-test": { input: 5, output: 20 },
          "anthropic:claude-test": { input: 5, output: 20 },
        },
        limits: { stepsMax: 4, turnMs: 4_000, approvalMs: 1_500 },
        guard: {
          policy: [
            {
              verdict: "ask",
              tool: "math_eval",
              args: [{ path: "expression", equals: ASKED }],
            },
            { verdict: "allow", tool: "message_send" },
            {
              verdict: "deny",
              tool: "math_eval",
              args: [{ path: "expression", equals: DENIED }],
            },
          ],
        },
        channels: { webhook: { alerts: { url: receiver.url, secret } } },
        plugins: { granted: { probe: await grantOf(manifest) } },
        ...settings,
      },
    }),
  );
  const client = opening.use(await ownerOf(real));
  if (stateDir === undefined) {
    const view = await installIn(real, client, { manifest, bytes });
    assert.equal(view.state, "ready", view.why);
  }
  const read = async (answer: Promise<Response>): Promise<Answer> => {
    const { status, headers, ...rest } = await answer.then(async (one) => ({
      status: one.status,
      headers: one.headers,
      text: await one.text(),
    }));
    return { status, headers, ...rest };
  };
  let count = 0;
  const busy = {
    real,
    client,
    receiver,
    post: (path: string, body: unknown, token = real.owner) =>
      read(fetch(`${real.url}${path}`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${token}`,
          "content-type": "application/json",
        },
        body: JSON.stringify(body),
      })),
    get: (path: string, token = real.owner) =>
      read(fetch(`${real.url}${path}`, {
        headers: { authorization: `Bearer ${token}` },
      })),
    call: async (method: string, params: object = {}) => {
      const { ok, payload, error } = await client.call(method, params);
      assert.ok(ok, `${method}: ${JSON.stringify(error)}`);
      return payload;
    },
    start: async (message: string, session = `agent:main:s${++count}`) => {
      const { runId } = await busy.call("chat.send", {
        sessionKey: session,
        message,
        idempotencyKey: crypto.randomUUID(),
      });
      return runId as string;
    },
    turn: async (message: string, session?: string) => {
      const runId = await busy.start(message, session);
      let reason: string | undefined;
      await until("the turn's end", async () => {
        reason = (await real.house.desk.wait(runId, { timeoutMs: 10_000 }))
          ?.reason;
        return reason !== undefined;
      });
      return reason ?? "";
    },
  };
  const closing = opening.move();
  return { ...busy, [Symbol.asyncDispose]: () => closing.disposeAsync() };
}

/** The approval a run waits for. */
export async function asked(
  { client }: BusyHouse,
  runId: string,
): Promise<string> {
  const { id } = await client.event(
    "exec.approval.requested",
    (payload) => JSON.stringify(payload).includes(runId),
  );
  return id;
}
