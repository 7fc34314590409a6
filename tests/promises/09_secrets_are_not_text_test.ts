/**
 * Promise 9: a secret is sealed on disk, and in no output, event, error, prompt
 * or answer; it is attached to requests at the door.
 */
import assert from "node:assert/strict";
import { fakeOpenai } from "../fakes/openai.ts";
import { say } from "../fakes/vendor.ts";
import { ask, client, openai, start, tokenOf } from "../process/gateways.ts";
import { LAUNCHER_FLAGS, Proc, scratch } from "../process/processes.ts";

const KEY = "sk-sealed-0f9a8b7c6d5e4f3a2b1c0d9e";

async function carapace(
  dir: string,
  args: readonly string[],
  input?: string,
): Promise<string> {
  await using verb = new Proc(
    ["run", ...LAUNCHER_FLAGS, "src/launch.ts", ...args],
    {
      env: { CARAPACE_STATE_DIR: dir },
      ...(input === undefined ? {} : { stdin: "piped" as const }),
    },
  );
  if (input !== undefined) {
    const writer = verb.child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(input));
    await writer.close();
  }
  const code = await verb.code();
  const said = [...verb.out, ...verb.err].join("\n");
  assert.equal(code, 0, said);
  return said;
}

async function* filesOf(dir: string): AsyncGenerator<string> {
  for await (const { name, isDirectory, isFile } of Deno.readDir(dir)) {
    if (isDirectory) yield* filesOf(`${dir}/${name}`);
    else if (isFile) yield `${dir}/${name}`;
  }
}

Deno.test("secrets are not text", async (t) => {
  await using dir = await scratch();
  await using fake = await fakeOpenai({ script: () => say("ok"), key: KEY });
  await carapace(dir.path, ["secret", "set", "OPENAI"], `${KEY}\n`);
  await Deno.writeTextFile(
    `${dir.path}/carapace.jsonc`,
    JSON.stringify({
      providers: { openai: { apiKey: "${secret:OPENAI}" } },
      log: { level: "debug" },
    }),
    { mode: 0o600 },
  );
  await using gateway = await start({
    dir: dir.path,
    env: { OPENAI_BASE_URL: fake.url, CARAPACE_MODEL: "openai:gpt-test" },
  });
  using one = await client(gateway);
  const heard: string[] = [];
  using _listening = one.listen((notice) => {
    heard.push(JSON.stringify(notice));
  });

  await t.step("it is attached at the door, and is in no prompt", async () => {
    assert.equal((await ask(one, "hi")).status, "ok");
    const { headers, bytes } = fake.requests.at(-1) ?? {};
    assert.equal(headers?.get("authorization"), `Bearer ${KEY}`);
    assert.ok(!new TextDecoder().decode(bytes).includes(KEY));
  });
  await t.step(
    "a vendor that repeats it in an error is not repeated",
    async () => {
      fake.script = () => ({
        status: 400,
        body: { error: { message: `bad request with key ${KEY}` } },
      });
      const { status, error } = await ask(one, "hi again");
      assert.equal(status, "error");
      assert.ok(!error.includes(KEY), error);
      const api = await openai(gateway);
      for (const model of ["carapace", "openai:gpt-test"]) {
        await assert.rejects(
          api.chat.completions.create({
            model,
            messages: [{ role: "user", content: "hi" }],
          }),
          (error: Error) => !String(error.message).includes(KEY),
        );
      }
    },
  );
  await t.step("a model that says it is not let", async () => {
    fake.script = () =>
      say("the key is ", KEY.slice(0, 12), KEY.slice(12), ".");
    const { reply } = await ask(one, "tell me");
    assert.match(reply, /^the key is /);
    assert.ok(!reply.includes(KEY), reply);
  });
  await t.step("no verb shows it", async () => {
    for (
      const args of [
        ["config", "show"],
        ["config", "get", "providers.openai.apiKey"],
        ["config", "show", "--json"],
        ["secret", "list"],
        ["permissions", "--explain"],
      ]
    ) {
      const said = await carapace(dir.path, args);
      assert.ok(!said.includes(KEY), args.join(" "));
    }
  });
  await t.step("no event, history, log line or file holds it", async () => {
    const history = await one.call("chat.history", { sessionKey: "main" });
    const said = [
      ...gateway.proc.out,
      ...gateway.proc.err,
      ...heard,
      JSON.stringify(history),
      JSON.stringify(await one.call("status", {})),
    ].join("\n");
    assert.ok(!said.includes(KEY));
    const token = await tokenOf(gateway);
    for await (const path of filesOf(dir.path)) {
      const text = new TextDecoder("latin1").decode(await Deno.readFile(path));
      assert.ok(!text.includes(KEY), path);
      const isCli = path.endsWith("/cli-token");
      assert.equal(text.includes(token), isCli, path);
    }
  });
});
