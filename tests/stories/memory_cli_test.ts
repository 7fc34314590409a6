/**
 * A house from outside: the model remembers, the owner looks with the command
 * line and forgets; another's token sees nothing.
 */
import assert from "node:assert/strict";
import { mcp } from "../../src/cli/verbs/mcp.ts";
import { memory } from "../../src/cli/verbs/memory.ts";
import type { Roof, Verb } from "../../src/cli/verb.ts";
import { label } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import { Secret } from "../../src/core/secret.ts";
import { systemClock } from "../../src/core/time.ts";
import { openHouse } from "../../src/house.ts";
import { Settings } from "../../src/settings.ts";
import { fakeMcp } from "../fakes/mcp.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { authority } from "../fakes/tools.ts";
import { io } from "../fakes/io.ts";
import { say } from "../fakes/vendor.ts";
import { freePort, scratch, until } from "../process/processes.ts";

const roof = {} as Roof;

Deno.test("what a model remembers, the owner lists, searches, exports and forgets", async (t) => {
  await using folder = await scratch();
  await using vendor = await fakeOpenai();
  await using server = fakeMcp([{ name: "pay", description: "Pays" }]);
  vendor.script = [
    {
      calls: [{
        name: "memory_write",
        args: { text: "The dentist is in Graz", tags: ["health"], pin: true },
      }],
    },
    say("Noted."),
    say("Graz."),
  ];
  const port = freePort();
  await using house = await openHouse({
    settings: Settings.parse({
      gateway: { port },
      providers: {
        openai: {
          baseUrl: vendor.url,
          apiKey: new Secret("k", "test"),
          api: "chat",
        },
      },
      agents: { main: { model: "openai:test-1" } },
      mcpServers: { bank: { url: server.url } },
    }),
    stateDir: `${folder.path}/state`,
    env: { get: () => undefined },
    clock: systemClock,
    log: silentLog,
    posture: { tried: 0, refused: 0, sandboxOff: true, grants: {} },
  });
  const owner = await house.tokens.create({
    name: "o",
    scopes: ["admin"],
    kind: "owner",
  });
  const program = await house.tokens.create({ name: "p", scopes: ["admin"] });
  const talk = async (text: string) => {
    const at = Date.now();
    const { events } = await house.desk.start({
      inbound: {
        id: text,
        channel: "test",
        account: "local",
        sender: { id: "owner" },
        chat: { kind: "direct", id: "owner" },
        kind: "message",
        text,
        images: [],
        label: label("owner", ["owner"], { kind: "owner", ref: "test", at }),
        receivedAt: at,
      },
      authority: authority(),
      sessionKey: "agent:main:main",
      attended: true,
    });
    return await Array.fromAsync(events);
  };
  const run = async (verb: Verb, args: string[], token = owner.token) => {
    const on = io(args, {
      CARAPACE_URL: `http://127.0.0.1:${port}`,
      CARAPACE_TOKEN: token,
      CARAPACE_STATE_DIR: `${folder.path}/state`,
    });
    const code = await verb.run(on, roof);
    return { code, text: on.text() };
  };
  await talk("remember my dentist");

  await t.step("the next prompt holds what is pinned", async () => {
    await talk("where is my dentist?");
    const last = JSON.stringify(vendor.requests.at(-1)?.body);
    assert.match(last, /Pinned memory/);
  });
  await t.step("list, search, show", async () => {
    assert.match(
      (await run(memory, ["list"])).text,
      /owner, pinned +The dentist is in Graz #health/,
    );
    const found = await run(memory, ["search", "graz", "--json"]);
    const [one] = JSON.parse(found.text).memories;
    assert.equal(one.text, "The dentist is in Graz");
    assert.match((await run(memory, ["show", one.id])).text, /from: +owner: /);
    assert.match(
      (await run(memory, ["search", "zebra"])).text,
      /nothing found/,
    );
  });
  await t.step("export is one JSON a line", async () => {
    const { text } = await run(memory, ["export"]);
    assert.deepEqual(
      text.trim().split("\n").map((line) => JSON.parse(line).tags),
      [["health"]],
    );
  });
  await t.step(
    "a program's token, whatever its scopes, sees none of it",
    async () => {
      await assert.rejects(run(memory, ["list"], program.token), /owner's/);
      await assert.rejects(
        run(memory, ["delete", "--all"], program.token),
        /owner's/,
      );
      await assert.rejects(run(mcp, ["list"], program.token), /owner's/);
    },
  );
  await t.step("forget", async () => {
    assert.match((await run(memory, ["delete", "--all"])).text, /forgotten: 1/);
    assert.match((await run(memory, ["list"])).text, /nothing is remembered/);
  });
  await t.step("mcp list shows the servers", async () => {
    await until(
      "the server",
      async () => (await run(mcp, ["list"])).text.includes("pay (ready)"),
    );
  });
});
