/**
 * A plugin that is shown something private as a tool and keeps it, to post it
 * later from a call that was shown nothing: in its memory, in its rows, in a
 * timer, in the name of a key. The guard's own decision, a real guest, a real
 * socket that counts what arrives.
 */
import assert from "node:assert/strict";
import { makePluginWorld } from "../../src/agent/plugin_world.ts";
import { pluginAuthority } from "../../src/auth/principal.ts";
import { type Label, label } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import { systemClock } from "../../src/core/time.ts";
import { GuardConfig } from "../../src/guard/config.ts";
import { toRules } from "../../src/guard/rules.ts";
import type { PluginWorld } from "../../src/plugins/context.ts";
import {
  type FakeHost,
  fakeHost,
  guest,
  manifestOf,
  tool,
} from "../fakes/plugins.ts";
import { until } from "../process/processes.ts";

const PRIVATE = label("owner", ["owner"]);
const PUBLIC = label("owner", []);
const SECRET = "the code is 4711";

interface Kept extends AsyncDisposable {
  fake: FakeHost;
  /** What arrived at the granted host. */
  arrived: string[];
  take(way: string, text: string, seen: Label): Promise<void>;
  /** A webhook: a call that is shown nothing. */
  later(way: string): Promise<string>;
}

/** The one decision, as the gateway makes it. */
const decide: PluginWorld["decide"] = (act) => {
  const none = undefined as never;
  return makePluginWorld({
    store: none,
    receive: none,
    courier: none,
    onSession: none,
    pluginAuthority,
    rules: () => toRules(GuardConfig.parse({})),
    clock: systemClock,
    log: silentLog,
  }).decide(act);
};

async function keeper(): Promise<Kept> {
  const stack = new AsyncDisposableStack();
  const arrived: string[] = [];
  const server = stack.use(Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      arrived.push(await request.text());
      return new Response("");
    },
  ));
  const { port } = server.addr;
  const fake = stack.use(await fakeHost({ world: { decide } }));
  const bytes = await guest("keeper");
  const any = {
    input: {
      type: "object",
      properties: { way: { type: "string" }, text: { type: "string" } },
    },
  };
  const manifest = await manifestOf("keeper", bytes, {
    tools: [tool("take", any), tool("say", any)],
    webhooks: [{
      name: "later",
      auth: { kind: "scope", scope: "hooks" },
      export: "hooked",
    }],
    channel: { description: "for tests", charsMax: 100, sendExport: "send" },
    wants: {
      http: [{ host: "127.0.0.1", scheme: "http", port, methods: ["POST"] }],
      kv: { bytes: 4096 },
      config: ["url"],
      schedule: { maxPerDay: 9 },
    },
  });
  const config = { url: `http://127.0.0.1:${port}/` };
  const view = await fake.add(manifest, bytes, { config });
  assert.equal(view.state, "ready", `${view.why}`);
  const call = async (name: string, args: unknown, seen: Label) => {
    await fake.host.call({ id: "keeper", tool: name, args }, { label: seen });
  };
  return {
    fake,
    arrived,
    take: (way, text, seen) => call("take", { way, text }, seen),
    later: async (way) => {
      const answer = await fake.host.webhook({ id: "keeper", name: "later" }, {
        method: "POST",
        query: new URLSearchParams(),
        headers: new Headers(),
        body: new TextEncoder().encode(way),
        hasScope: true,
        signal: new AbortController().signal,
      });
      return await answer.text();
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

const all = (texts: readonly string[]) => texts.join("\n");

Deno.test("what a plugin was shown does not leave later, however it was kept", async (t) => {
  for (const way of ["memory", "kv", "key"]) {
    await t.step(way, async () => {
      await using plugin = await keeper();
      await plugin.take(way, SECRET, PRIVATE);
      const answer = await plugin.later(way);
      assert.doesNotMatch(all(plugin.arrived), /4711/);
      assert.doesNotMatch(answer, /4711/);
    });
    await t.step(`${way}: what is nobody's is kept and posted`, async () => {
      await using plugin = await keeper();
      await plugin.take(way, "it rains", PUBLIC);
      assert.match(await plugin.later(way), /it rains/);
      assert.match(all(plugin.arrived), /it rains/);
    });
  }
  for (const seen of [PRIVATE, PUBLIC]) {
    const [who = "nobody"] = seen.secrecy;
    await t.step(`timer, of ${who}'s`, async () => {
      await using plugin = await keeper();
      await plugin.take("timer", SECRET, seen);
      const { plugins } = plugin.fake.store;
      let isFired = false;
      while (!isFired) {
        await new Promise((done) => setTimeout(done, 50));
        isFired = await plugins.get("keeper", "fired") === "1";
      }
      const expected = seen === PUBLIC ? [SECRET] : [];
      assert.deepEqual(plugin.arrived, expected);
    });
  }
  await t.step("a row of a time before labels is private", async () => {
    await using plugin = await keeper();
    const { store } = plugin.fake;
    const { key } = store.plugins.keptRow("keeper", "k", {
      value: "",
      mark: { label: PUBLIC, withheld: [] },
    });
    await store.journal.commit([{ key, value: { value: SECRET } }]);
    await plugin.later("kv");
    assert.deepEqual(plugin.arrived, []);
  });
  await t.step("a key that was deleted says nothing either", async () => {
    await using plugin = await keeper();
    const { plugins, journal } = plugin.fake.store;
    const mark = { label: PRIVATE, withheld: ["owner"] };
    await journal.commit([
      plugins.keptRow("keeper", "k", { value: undefined, mark }),
    ]);
    assert.equal(await plugins.get("keeper", "k"), undefined);
    await plugin.later("kv");
    assert.deepEqual(plugin.arrived, []);
  });
});

Deno.test("a plugin that is tool and channel sends its replies, and nothing else", async (t) => {
  await using plugin = await keeper();
  const { fake, arrived } = plugin;
  const send = async (key: string, text: string) => {
    const { id } = await fake.courier.take({
      idempotencyKey: key,
      destination: { channel: "plugin:keeper", account: "default", chat: "c" },
      parts: [{ kind: "text", text, label: PRIVATE }],
      by: "owner",
    });
    await until(
      "sent",
      () => fake.states.some((row) => row.id === id && row.state === "sent"),
    );
  };
  await t.step("a decided message goes out after a private call", async () => {
    await plugin.take("memory", SECRET, PRIVATE);
    await send("1", "see you at five");
    assert.deepEqual(arrived, ["see you at five"]);
  });
  await t.step("what it carried is not a later call's", async () => {
    assert.equal(await plugin.later("memory"), "");
    assert.deepEqual(arrived, ["see you at five", ""]);
  });
  await t.step("its tool's result holds what it read", async () => {
    await plugin.take("kv", SECRET, PRIVATE);
    const say = fake.registry.find("keeper_say");
    assert.ok(say);
    const result = await say.run(
      { way: "kv" },
      {
        label: PUBLIC,
        signal: new AbortController().signal,
        now: () => 0,
      } as Parameters<typeof say.run>[1],
    );
    assert.ok(typeof result !== "string");
    assert.equal(result.text, SECRET);
    assert.deepEqual(result.label?.secrecy, ["owner"]);
  });
});
