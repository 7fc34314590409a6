/**
 * Keys as their owner makes them: each field of one by its flag, shown in the
 * list, and in force at the door.
 */
import assert from "node:assert/strict";
import { fakeOpenai } from "../fakes/openai.ts";
import { providedBy, start } from "./gateways.ts";
import { freePort, scratch } from "./processes.ts";
import { good } from "./verbs.ts";

const CONFIG = {
  prices: { "openai:gpt-test": { input: 10, output: 100 } },
  agents: { main: {}, work: {} },
};

Deno.test("carapace token: every field by its flag, in the list, and in force", async (t) => {
  await using dir = await scratch();
  await using fake = await fakeOpenai({
    // 70 cents, and 25,000 tokens.
    script: () => ({
      text: "done",
      usage: { input: 20_000, output: 5_000 },
    }),
  });
  const port = freePort();
  await Deno.writeTextFile(
    `${dir.path}/carapace.jsonc`,
    JSON.stringify({ ...CONFIG, gateway: { port } }),
    { mode: 0o600 },
  );
  await using gateway = await start({
    dir: dir.path,
    port,
    env: providedBy(fake),
  });
  const make = async (name: string, ...flags: string[]) =>
    await good(dir.path, ["token", "create", name, ...flags]);
  const ask = async (token: string, model: string) => {
    const answer = await fetch(`${gateway.url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({
        model,
        messages: [{ role: "user", content: "hi" }],
      }),
    });
    await answer.body?.cancel();
    return answer.status;
  };
  const invoke = async (token: string, tool: string) => {
    const answer = await fetch(`${gateway.url}/tools/invoke`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({ tool, args: { text: "x" } }),
    });
    await answer.body?.cancel();
    return answer.status;
  };
  const scopes = ["--scopes", "write,tools"];
  await t.step("--scopes", async () => {
    const token = await make("reader", "--scopes", "read");
    assert.equal(await ask(token, "carapace"), 403);
  });
  await t.step("--agents", async () => {
    const token = await make("worker", ...scopes, "--agents", "work");
    assert.equal(await ask(token, "carapace/work"), 200);
    assert.equal(await ask(token, "carapace/main"), 404);
  });
  await t.step("--models", async () => {
    const token = await make("modest", ...scopes, "--models", "openai:other");
    assert.equal(await ask(token, "openai:gpt-test"), 403);
  });
  await t.step("--tools and --integrity", async () => {
    const tools = ["--tools", "memory_write"];
    const owner = ["--integrity", "owner"];
    const mine = await make("mine", ...scopes, ...tools, ...owner);
    assert.equal(await invoke(mine, "memory_write"), 200);
    assert.equal(await invoke(mine, "current_time"), 404);
    const other = await make("other", ...scopes, ...tools);
    assert.equal(await invoke(other, "memory_write"), 403);
  });
  await t.step("--expires", async () => {
    const token = await make("brief", ...scopes, "--expires", "1s");
    let status = 200;
    // Bounded by its second.
    while (status !== 401) status = await invoke(token, "current_time");
  });
  await t.step("--budget", async () => {
    const token = await make("thrifty", ...scopes, "--budget", "1usd");
    assert.equal(await ask(token, "carapace"), 200);
    assert.equal(await ask(token, "carapace"), 429);
    const other = await make("counted", ...scopes, "--budget", "30000tokens");
    assert.equal(await ask(other, "openai:gpt-test"), 200);
    assert.equal(await ask(other, "openai:gpt-test"), 429);
  });
  await t.step("the list shows them all", async () => {
    const { tokens } = JSON.parse(
      await good(dir.path, ["token", "list", "--json"]),
    );
    const named = (name: string) =>
      tokens.find((one: { name: string }) => one.name === name);
    assert.deepEqual(named("worker").agents, ["work"]);
    assert.deepEqual(named("modest").models, ["openai:other"]);
    assert.deepEqual(named("mine").tools, ["memory_write"]);
    assert.equal(named("mine").integrity, "owner");
    assert.deepEqual(named("thrifty").budget, { usdPerDay: 1 });
    assert.ok(named("thrifty").lastUsedAt > 0);
    assert.ok(named("brief").expiresAt > 0);
    const text = await good(dir.path, ["token", "list"]);
    assert.match(text, /worker +.* agents=work +untrusted/);
    assert.match(text, /modest +.* models=openai:other /);
    assert.match(text, /mine +.* tools=memory_write +owner /);
    assert.match(
      text,
      /thrifty +.*\$0\.7 of \$1\.00 +untrusted +(now|.* ago) /,
    );
    assert.match(text, /counted +.*25,000 of 30,000 tokens/);
    assert.match(text, /reader +read +untrusted +(now|.* ago) +never/);
  });
  await t.step("usage and budget show the budget", async () => {
    const usage = await good(dir.path, ["usage", "--by", "key"]);
    assert.match(usage, /tok_\w+ +1 .* \$0\.7 +\$1\.00 a day$/m);
    assert.match(usage, /tok_\w+ +1 .* 30,000 tokens a day$/m);
    const budget = await good(dir.path, ["budget"]);
    assert.match(budget, /key tok_\w+ +money .*token create --budget$/m);
  });
});
