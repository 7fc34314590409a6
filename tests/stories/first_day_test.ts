/**
 * What a newcomer does on the first day, and what goes wrong then: real
 * processes, real sockets, the official client.
 */
import assert from "node:assert/strict";
import { fakeOpenai } from "../fakes/openai.ts";
import { fail, say } from "../fakes/vendor.ts";
import {
  client,
  openai,
  providedBy,
  start,
  tokenOf,
} from "../process/gateways.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  Proc,
  scratch,
  until,
} from "../process/processes.ts";

Deno.test("the first start without a key says everything and answers", async (t) => {
  await using dir = await scratch();
  await using gateway = await start({ dir: dir.path });
  const said = gateway.proc.out.join("\n");
  await t.step("the banner", () => {
    assert.match(said, new RegExp(`address +${gateway.url}`));
    assert.match(said, /token +in .*cli-token/);
    assert.match(said, /model +demo:demo, because/);
    assert.match(said, /set ANTHROPIC_API_KEY or .*OPENAI_API_KEY/);
    assert.match(said, /(\d+) forbidden acts tried, \1 refused/);
    assert.match(said, /next +deno task chat/);
    assert.doesNotMatch(said, /cara_/, "no token where nobody looks");
  });
  await t.step("the token's file is its owner's alone", async () => {
    const { mode } = await Deno.stat(`${dir.path}/cli-token`);
    assert.equal((mode ?? 0) & 0o777, 0o600);
    const kv = await Deno.stat(`${dir.path}/kv.db`);
    assert.equal((kv.mode ?? 0) & 0o777, 0o600);
  });
  await t.step("the terminal, through a pipe", async () => {
    await using chat = new Proc(
      ["run", ...LAUNCHER_FLAGS, "src/launch.ts", "chat", "what is 6*7?"],
      {
        env: {
          CARAPACE_STATE_DIR: dir.path,
          CARAPACE_PORT: String(gateway.port),
        },
      },
    );
    assert.equal(await chat.code(), 0);
    assert.match(chat.out.join("\n"), /42/);
  });
  await t.step("the official client, agent and models", async () => {
    const api = await openai(gateway);
    const models = await Array.fromAsync(await api.models.list());
    assert.ok(models.some((model) => model.id === "carapace"));
    const answer = await api.chat.completions.create({
      model: "carapace",
      messages: [{ role: "user", content: "what is 2+2?" }],
    });
    assert.match(answer.choices[0]?.message.content ?? "", /4/);
  });
  await t.step("a second process names the holder and exits 3", async () => {
    await using second = new Proc(
      ["run", ...LAUNCHER_FLAGS, "src/launch.ts", "start"],
      {
        env: {
          CARAPACE_STATE_DIR: dir.path,
          CARAPACE_PORT: String(freePort()),
        },
      },
    );
    assert.equal(await second.code(), 3);
    assert.match(second.err.join("\n"), /held by pid \d+ at 127\.0\.0\.1/);
  });
  await t.step("a busy port says so and how to choose another", async () => {
    await using other = await scratch();
    await using second = new Proc(
      ["run", ...LAUNCHER_FLAGS, "src/launch.ts", "start"],
      {
        env: {
          CARAPACE_STATE_DIR: other.path,
          CARAPACE_PORT: String(gateway.port),
        },
      },
    );
    assert.notEqual(await second.code(), 0);
    assert.match(second.err.join("\n"), /CARAPACE_PORT=\d+/);
  });
});

Deno.test("with a provider: the agent, pass-through, and how little is sent for hi", async (t) => {
  await using dir = await scratch();
  await using fake = await fakeOpenai({ script: () => say("Hello ", "you") });
  await using gateway = await start({ dir: dir.path, env: providedBy(fake) });
  const api = await openai(gateway);
  await t.step("hi sends under 8 KB", async () => {
    const answer = await api.chat.completions.create({
      model: "carapace",
      messages: [{ role: "user", content: "hi" }],
    });
    assert.equal(answer.choices[0]?.message.content, "Hello you");
    const bytes = fake.requests.at(-1)?.bytes.byteLength ?? Infinity;
    assert.ok(bytes < 8192, `${bytes} bytes were sent`);
  });
  await t.step("streaming", async () => {
    const stream = await api.chat.completions.create({
      model: "carapace",
      stream: true,
      messages: [{ role: "user", content: "hi" }],
    });
    const pieces: string[] = [];
    for await (const chunk of stream) {
      pieces.push(chunk.choices[0]?.delta.content ?? "");
    }
    assert.equal(pieces.join(""), "Hello you");
  });
  await t.step("pass-through sends what it was given", async () => {
    const before = fake.requests.length;
    await api.chat.completions.create({
      model: "openai:gpt-test",
      temperature: 0.3,
      messages: [{ role: "user", content: "raw" }],
    });
    assert.equal(fake.requests.length, before + 1);
    const { body, headers } = fake.requests.at(-1) ?? {};
    assert.deepEqual(body, {
      model: "gpt-test",
      temperature: 0.3,
      messages: [{ role: "user", content: "raw" }],
    });
    assert.equal(
      headers?.get("authorization"),
      "Bearer sk-fake-key-of-this-test",
    );
  });
  await t.step("nothing printed holds the key or the token", async () => {
    const all = [...gateway.proc.out, ...gateway.proc.err].join("\n");
    assert.doesNotMatch(all, /sk-fake-key/);
    assert.ok(!all.includes(await tokenOf(gateway)));
  });
});

Deno.test("what goes wrong says what, where and what to do", async (t) => {
  await using dir = await scratch();
  await using fake = await fakeOpenai({ script: () => say("ok") });
  await using gateway = await start({ dir: dir.path, env: providedBy(fake) });
  const api = await openai(gateway);
  const ask = (model: string) =>
    api.chat.completions.create({
      model,
      messages: [{ role: "user", content: "hi" }],
    });
  const raw = (path: string, headers: Record<string, string>) =>
    fetch(`${gateway.url}${path}`, { headers });
  await t.step("an unknown model", async () => {
    await assert.rejects(ask("nobody:x"), (error: Error) => {
      assert.match(error.message, /404.*"nobody:x".*models/);
      return true;
    });
  });
  await t.step("the provider refuses the key", async () => {
    fake.script = () => fail(401);
    await assert.rejects(ask("carapace"), /OPENAI_API_KEY/);
    fake.script = () => say("ok");
  });
  await t.step("a wrong token", async () => {
    const answer = await raw("/v1/models", { authorization: "Bearer wrong" });
    assert.equal(answer.status, 401);
    assert.match((await answer.json()).error.message, /token/);
  });
  await t.step("a wrong Host", async () => {
    const conn = await Deno.connect({
      hostname: "127.0.0.1",
      port: gateway.port,
    });
    const text = "GET /health/live HTTP/1.1\r\nHost: evil.example\r\n" +
      "Connection: close\r\n\r\n";
    await conn.write(new TextEncoder().encode(text));
    const answer = await new Response(conn.readable).text();
    assert.match(answer, /^HTTP\/1\.1 (403|421)/);
    assert.match(answer, /gateway\.hosts/);
  });
  await t.step("none of it ended the process or lost the session", async () => {
    const answer = await ask("carapace");
    assert.equal(answer.choices[0]?.message.content, "ok");
  });
});

Deno.test("a provider that is not there is named with its address", async () => {
  await using dir = await scratch();
  const port = freePort();
  await using gateway = await start({
    dir: dir.path,
    env: {
      OPENAI_BASE_URL: `http://127.0.0.1:${port}/v1`,
      CARAPACE_MODEL: "openai:x",
      CARAPACE_CONFIG_JSON: '{"providers":{"openai":{"retriesMax":0}}}',
    },
  });
  const api = await openai(gateway);
  await assert.rejects(
    api.chat.completions.create({
      model: "carapace",
      messages: [{ role: "user", content: "hi" }],
    }),
    (error: Error) => error.message.includes(`127.0.0.1:${port}`),
  );
});

Deno.test("stopping lets the turn that runs finish, and tells everyone", async () => {
  await using dir = await scratch();
  const reached = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  await using fake = await fakeOpenai({
    script: () => ({
      text: ["first ", "last"],
      before: async (wire) => {
        if (!wire.includes("last")) return;
        reached.resolve();
        await gate.promise;
      },
    }),
  });
  await using gateway = await start({ dir: dir.path, env: providedBy(fake) });
  using one = await client(gateway);
  const seen: string[] = [];
  const shutdown = Promise.withResolvers<void>();
  const final = Promise.withResolvers<unknown>();
  using _listening = one.listen((notice) => {
    if (notice.kind !== "event") return;
    seen.push(notice.event);
    if (notice.event === "shutdown") shutdown.resolve();
    const { state } = notice.payload as { state?: string };
    if (notice.event === "chat" && state === "final") {
      final.resolve(notice.payload);
    }
  });
  await one.call("chat.send", {
    sessionKey: "main",
    message: "go",
    idempotencyKey: "stop-1",
  });
  await reached.promise;
  gateway.proc.child.kill("SIGTERM");
  await shutdown.promise;
  const refused = await fetch(`${gateway.url}/v1/models`, {
    headers: { authorization: `Bearer ${await tokenOf(gateway)}` },
  });
  await refused.body?.cancel();
  assert.equal(refused.status, 503);
  assert.ok(refused.headers.has("retry-after"));
  gate.resolve();
  assert.match(JSON.stringify(await final.promise), /first last/);
  assert.equal(await gateway.proc.code(), 0);
});

Deno.test("a turn survives a restart that the configuration asked for, and its socket comes back", async () => {
  await using dir = await scratch();
  let asked = 0;
  const reached = Promise.withResolvers<void>();
  await using fake = await fakeOpenai({
    script: () =>
      ++asked === 1
        ? {
          text: ["never ", "ends"],
          after: 3,
          then: "hang",
          before: () => reached.resolve(),
        }
        : say("after the restart"),
  });
  const config = (host: string) =>
    Deno.writeTextFile(
      `${dir.path}/carapace.jsonc`,
      JSON.stringify({ egress: { hosts: [host] } }),
      { mode: 0o600 },
    );
  await config("a.example");
  await using gateway = await start({ dir: dir.path, env: providedBy(fake) });
  using one = await client(gateway);
  const notices: string[] = [];
  using _listening = one.listen((notice) => void notices.push(notice.kind));
  const { runId } = await one.call("chat.send", {
    sessionKey: "main",
    message: "go",
    idempotencyKey: "restart-1",
  });
  await reached.promise;
  await config("b.example");
  await until("the end of the old socket", () => notices.includes("lost"));
  const outcome = await one.call("agent.wait", { runId, timeoutMs: 15_000 });
  assert.equal(outcome.status, "ok");
  assert.equal(outcome.reply, "after the restart");
  assert.ok(notices.includes("back"));
  assert.match(gateway.proc.err.join("\n"), /restarting with: .*\+b\.example/);
});
