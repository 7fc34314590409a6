/**
 * A5 from outside: secrets of every kind are planted in a real gateway, vendors,
 * servers and receivers repeat what they were shown, and then everything that
 * comes out of it is searched, in every spelling.
 */
import assert from "node:assert/strict";
import { openSecrets } from "../../src/config/secrets.ts";
import { METHODS } from "../../src/core/methods.ts";
import { Secret } from "../../src/core/secret.ts";
import {
  connectDevice,
  knock,
  makeDevice,
  tokenSocket,
} from "../fakes/device.ts";
import type { FakeClient } from "../fakes/gateway_house.ts";
import { fakeAnthropic } from "../fakes/anthropic.ts";
import { fakeMcp } from "../fakes/mcp.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { Lookout, spellingsOf } from "../fakes/planted.ts";
import type { FakeRequest, Reply } from "../fakes/vendor.ts";
import { webhookReceiver } from "../fakes/webhook_receiver.ts";
import { type Gateway, start, tokenOf } from "../process/gateways.ts";
import { readProc, scratch, until } from "../process/processes.ts";
import { carapace } from "../process/verbs.ts";

// Of no known format, and with what every encoder treats otherwise.
const PLANTED = {
  vendor: 'planted-vendor/key+1f="&7',
  password: 'planted pass word/2+="&8',
  webhook: "planted-webhook/secret+3=&9aa",
  mcp: "planted-mcp/token+4=&0bbb",
  passphrase: "planted pass phrase/5+=&1",
};

const messages = [{ role: "user", content: "hi" }];

interface Stage extends AsyncDisposable {
  gateway: Gateway;
  dir: string;
  env: Record<string, string>;
  lookout: Lookout;
  token: string;
  /** What the vendors answer. */
  reply(answer: (request: FakeRequest) => Reply): void;
  prompts(): string[];
}

async function openStage(): Promise<Stage> {
  await using opening = new AsyncDisposableStack();
  const { path: dir } = opening.use(await scratch());
  let answer: (request: FakeRequest) => Reply = () => ({ text: "ok" });
  const script = (request: FakeRequest) => answer(request);
  const openai = opening.use(await fakeOpenai({ script }));
  const anthropic = opening.use(await fakeAnthropic({ script }));
  const mcp = opening.use(fakeMcp([{
    name: "read",
    answer: () => `my token is ${spellingsOf(PLANTED.mcp).join(" ")}`,
  }]));
  const receiver = opening.use(webhookReceiver(PLANTED.webhook));
  receiver.script = () =>
    new Response(`no: ${spellingsOf(PLANTED.webhook).join(" ")}`, {
      status: 400,
      headers: { "x-echo": PLANTED.webhook },
    });
  const env = { CARAPACE_PASSPHRASE: PLANTED.passphrase };
  const sealed = openSecrets({
    dir,
    env: { get: (name) => env[name as never] },
  });
  for (const name of ["vendor", "password", "webhook", "mcp"] as const) {
    await sealed.set(name, new Secret(PLANTED[name], "test"));
  }
  const apiKey = "${secret:vendor}";
  await Deno.writeTextFile(
    `${dir}/carapace.jsonc`,
    JSON.stringify({
      gateway: { password: "${secret:password}" },
      log: { level: "debug" },
      providers: {
        openai: { apiKey, baseUrl: openai.url, retriesMax: 0, api: "chat" },
        anthropic: { apiKey, baseUrl: anthropic.url, retriesMax: 0 },
      },
      agents: { main: { model: "openai:gpt-test" } },
      mcp: { servers: { notes: { url: mcp.url, token: "${secret:mcp}" } } },
      channels: {
        webhook: { own: { url: receiver.url, secret: "${secret:webhook}" } },
      },
    }),
    { mode: 0o600 },
  );
  const gateway = opening.use(await start({ dir, env }));
  const lookout = new Lookout(
    Object.entries(PLANTED).map(([name, value]) => ({ name, value })),
  );
  const token = await tokenOf(gateway);
  lookout.plant("token", token);
  const closing = opening.move();
  return {
    ...{ gateway, dir, env, lookout, token },
    reply: (next) => void (answer = next),
    prompts: () =>
      [...openai.requests, ...anthropic.requests].map(({ bytes }) =>
        new TextDecoder().decode(bytes)
      ),
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

/** Every header and the body of an answer. */
async function whole(response: Response): Promise<string> {
  const headers = [...response.headers].map((pair) => pair.join(": "));
  return [response.status, ...headers, await response.text()].join("\n");
}

async function post(
  { gateway, token }: Stage,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<string> {
  const response = await fetch(`${gateway.url}${path}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      ...headers,
    },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return await whole(response);
}

const DOORS: Readonly<Record<string, (model: string) => [string, object]>> = {
  chat: (model) => ["/v1/chat/completions", { model, messages }],
  "chat, streamed": (model) => [
    "/v1/chat/completions",
    { model, messages, stream: true },
  ],
  responses: (model) => ["/v1/responses", { model, input: "hi" }],
  "responses, streamed": (model) => [
    "/v1/responses",
    { model, input: "hi", stream: true },
  ],
  messages: (model) => ["/v1/messages", { model, messages, max_tokens: 64 }],
  "messages, streamed": (model) => [
    "/v1/messages",
    { model, messages, max_tokens: 64, stream: true },
  ],
  embeddings: (model) => ["/v1/embeddings", { model, input: "hi" }],
};
const MODELS = ["carapace", "openai:gpt-test", "anthropic:claude-test"];

/** Every door with every kind of model. */
async function knockAll(stage: Stage, place: string): Promise<void> {
  for (const [door, ask] of Object.entries(DOORS)) {
    for (const model of MODELS) {
      const answer = await post(stage, ...ask(model));
      stage.lookout.look(`${place}: ${door} ${model}`, answer);
    }
  }
}

async function sayOver(
  socket: FakeClient,
  message: string,
): Promise<void> {
  const { payload } = await socket.call("chat.send", {
    sessionKey: "main",
    message,
    idempotencyKey: crypto.randomUUID(),
  });
  await socket.call("agent.wait", { runId: payload.runId, timeoutMs: 15_000 });
}

Deno.test("A5: what was planted comes out nowhere", async (t) => {
  await using stage = await openStage();
  const { gateway, lookout, token, dir } = stage;
  /** Fails with what was found since it was last asked. */
  const none = (what: string) =>
    assert.deepEqual(lookout.found.splice(0), [], what);
  using socket = await tokenSocket(gateway, token);
  await t.step("a vendor that repeats it in an answer", async () => {
    const said = spellingsOf(PLANTED.vendor).join(" , ");
    stage.reply(() => ({
      text: ["you sent ", said.slice(0, 9), said.slice(9), " to me"],
    }));
    await knockAll(stage, "an answer");
    await sayOver(socket, "hi");
    none("answers");
  });
  await t.step("a server that repeats its token in a result", async () => {
    stage.reply(({ body }) =>
      JSON.stringify(body).includes("toolu_mcp")
        ? { text: "done" }
        : { calls: [{ id: "toolu_mcp", name: "mcp_notes_read", args: {} }] }
    );
    await sayOver(socket, "what do my notes say?");
    assert.ok(stage.prompts().some((one) => one.includes("my token is")));
  });
  await t.step("a receiver that repeats its secret in a refusal", async () => {
    const { ok, error } = await socket.call("send", {
      to: "own",
      channel: "webhook",
      message: "hello",
      idempotencyKey: "one",
    });
    assert.ok(ok, JSON.stringify(error));
    await until("its failure", async () => {
      const { payload } = await socket.call("outbox.list", {});
      lookout.look("outbox", JSON.stringify(payload));
      return JSON.stringify(payload).includes("failed") ||
        JSON.stringify(payload).includes("dead");
    });
    none("the outbox");
  });
  await t.step("a vendor that repeats its key in errors", async () => {
    for (const status of [400, 401, 403, 404, 429, 500, 503]) {
      for (const said of spellingsOf(PLANTED.vendor)) {
        stage.reply(() => ({
          status,
          body: { error: { message: `your key ${said} is bad`, code: said } },
          headers: { "x-request-id": said.replaceAll(/[^ -~]/g, "") },
        }));
        const [path, body] = DOORS["chat"]?.("openai:gpt-test") ??
          assert.fail();
        lookout.look(`${status} ${said}`, await post(stage, path, body));
      }
      await knockAll(stage, `${status}`);
      await sayOver(socket, "hi");
    }
    none("errors");
  });
  await t.step(
    "keys, codes and proofs, once they were handed over",
    async () => {
      const made = await socket.call("token.create", { name: "x", scopes: [] });
      const next = await socket.call("token.rotate", { id: made.payload.id });
      const code = await socket.call("device.bootstrap.create", {});
      const used = await socket.call("device.bootstrap.create", {});
      const device = makeDevice();
      using socket2 = await knock(gateway);
      const auth = { bootstrapToken: used.payload.code };
      const hello = await connectDevice(socket2, device, { auth });
      lookout.look("hello-ok", JSON.stringify(hello));
      lookout.plant("a token", made.payload.token);
      lookout.plant("its next text", next.payload.token);
      lookout.plant("a code", code.payload.code);
      lookout.plant("a used code", used.payload.code);
      lookout.plant("a device's token", hello.payload.auth.deviceToken);
    },
  );
  await t.step("every method that asks for nothing", async () => {
    for (const [method, { scope }] of Object.entries(METHODS)) {
      if (scope === "node" || method === "device.bootstrap.create") continue;
      const { payload, error } = await socket.call(method, {});
      lookout.look(method, JSON.stringify(payload ?? error ?? null));
    }
    for (
      const [method, params] of [
        ["sessions.export", { key: "main" }],
        ["sessions.export", { key: "main", format: "markdown" }],
        ["sessions.preview", { keys: ["main"] }],
        ["chat.history", { sessionKey: "main" }],
        ["logs.tail", { limit: 5_000, level: "debug" }],
        ["audit.list", { limit: 500 }],
        ["config.validate", { raw: '{"gateway":{"password":"x y z"}}' }],
      ] as const
    ) {
      const { payload, error } = await socket.call(method, params);
      lookout.look(method, JSON.stringify(payload ?? error ?? null));
    }
    none("methods");
  });
  await t.step("events and frames, all of them", () => {
    const own = socket.frames.filter(({ payload }) =>
      payload?.token === undefined && payload?.code === undefined
    );
    lookout.look("frames", JSON.stringify(own));
    none("frames");
  });
  await t.step("what is asked by HTTP", async () => {
    for (
      const path of [
        ...["/metrics", "/openapi.json", "/health/ready", "/health/live"],
        ...["/v1/models", "/ui/", "/nothing", "/v1/models/none"],
      ]
    ) {
      const headers = { authorization: `Bearer ${token}` };
      const answer = await fetch(`${gateway.url}${path}`, { headers });
      lookout.look(path, await whole(answer));
    }
    none("HTTP");
  });
  await t.step("a refusal repeats nothing of what was shown", async () => {
    const wrong = `${token.slice(0, -3)}abc`;
    lookout.plant("a wrong token", wrong);
    for (
      const headers of [{ authorization: `Bearer ${wrong}` }, {
        "x-api-key": wrong,
      }]
    ) {
      lookout.look(
        "401",
        await post(stage, "/v1/messages", "{}", headers as never),
      );
    }
    using again = await knock(gateway);
    lookout.look(
      "ws",
      JSON.stringify(await again.connect({ auth: { token: wrong } })),
    );
    lookout.look(
      "broken",
      await post(stage, "/v1/messages", `{"a": "${token}`),
    );
    none("refusals");
  });
  await t.step("a token in an address is refused, and not logged", async () => {
    for (const path of ["/v1/models", "/ws", "/", "/metrics", "/ui/"]) {
      for (const name of ["token", "access_token", "key", "api_key", "auth"]) {
        const answer = await fetch(`${gateway.url}${path}?${name}=${token}`, {
          redirect: "manual",
        });
        const text = await whole(answer);
        if (!path.startsWith("/ui")) assert.match(text, /^4\d\d\n/, path);
        lookout.look(`${path}?${name}`, text);
      }
    }
    const url = gateway.url.replace("http", "ws");
    const upgrade = new WebSocket(`${url}/ws?token=${token}`);
    const opened = Promise.withResolvers<string>();
    upgrade.onerror = () => opened.resolve("refused");
    upgrade.onmessage = () => opened.resolve("asked");
    if (await opened.promise === "asked") {
      upgrade.send(JSON.stringify({ type: "req", id: "1", method: "status" }));
      const closed = Promise.withResolvers<void>();
      upgrade.onclose = () => closed.resolve();
      await closed.promise;
    }
    none("addresses");
  });
  await t.step("verbs", async () => {
    const port = { CARAPACE_PORT: String(gateway.port), ...stage.env };
    for (
      const args of [
        ["doctor", "--json"],
        ["status", "--json"],
        ["config", "show", "--json"],
        ["permissions", "--explain"],
        ["secret", "list", "--json"],
        ["logs", "--json"],
        ["audit", "list", "--json"],
        ["token", "list", "--json"],
      ]
    ) {
      const { out, err } = await carapace(dir, args, port);
      lookout.look(args.join(" "), `${out}\n${err}`);
    }
    none("verbs");
  });
  await t.step("prompts, processes, the log, the state directory", async () => {
    for (const prompt of stage.prompts()) lookout.look("a prompt", prompt);
    const { payload } = await socket.call("status", {});
    for (const pid of [gateway.proc.pid, payload.runtime.pid]) {
      lookout.look("ps", await readProc(`/proc/${pid}/cmdline`));
      // What its owner put there is there, and nothing of ours is added.
      const environ = await readProc(`/proc/${pid}/environ`);
      lookout.look("environ", environ, ["passphrase"]);
    }
    const { out, err } = gateway.proc;
    assert.ok(err.join("\n").includes("provider"), "it was logged at all");
    lookout.look("the log", [...out, ...err].join("\n"));
    for await (const path of filesOf(dir)) {
      const text = new TextDecoder("latin1").decode(await Deno.readFile(path));
      const may = path.endsWith("/cli-token") ? ["token"] : [];
      lookout.look(path, text, may);
    }
    none("the rest");
  });
  assert.ok(lookout.looked > 250, `${lookout.looked} places`);
});

async function* filesOf(dir: string): AsyncGenerator<string> {
  for await (const { name, isDirectory, isFile } of Deno.readDir(dir)) {
    if (isDirectory) yield* filesOf(`${dir}/${name}`);
    else if (isFile) yield `${dir}/${name}`;
  }
}
