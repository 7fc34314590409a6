/** Plugins in a turn: their tools' words, and their hooks at every point. */
import { FakeChannel, fakeInbox } from "../fakes/channel.ts";
import assert from "node:assert/strict";
import { makePluginWorld } from "../../src/agent/plugin_world.ts";
import { pluginAuthority } from "../../src/auth/principal.ts";
import type { HookPoint } from "../../src/core/hooks.ts";
import { label } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import type { TurnEvent } from "../../src/core/turn.ts";
import { systemClock } from "../../src/core/time.ts";
import { GuardConfig } from "../../src/guard/config.ts";
import { toRules } from "../../src/guard/rules.ts";
import { collect, fakeHouse, request } from "../fakes/house.ts";
import { calls, Gate, says, type Step } from "../fakes/models.ts";
import { type FakeHost, fakeHost, probe } from "../fakes/plugins.ts";

const MAY = ["annotate", "change", "cancel"];

async function withHooks(
  points: readonly HookPoint[],
  how: string,
  may: readonly string[] = MAY,
): Promise<FakeHost> {
  const fake = await fakeHost();
  const { manifest, bytes } = await probe({
    hooks: points.map((point) => ({ point, may, export: "hook" })),
  });
  const view = await fake.add(manifest, bytes, { config: { hook: how } });
  assert.equal(view.state, "ready", `${view.why}`);
  return fake;
}

function of<K extends TurnEvent["kind"]>(
  events: readonly TurnEvent[],
  kind: K,
) {
  return events.filter((event): event is TurnEvent & { kind: K } =>
    event.kind === kind
  );
}

async function say(
  fake: FakeHost,
  steps: readonly Step[],
): Promise<{ events: TurnEvent[]; shown: string; joined: string }> {
  const shown: string[] = [];
  const watched = steps.map((step): Step => (request, signal) => {
    shown.push(JSON.stringify(request.messages));
    return typeof step === "function" ? step(request, signal) : step;
  });
  await using house = await fakeHouse({
    steps: watched,
    hooks: fake.host.hooks,
  });
  const events = await house.say("how late is it?");
  const session = await house.store.sessions.find("agent:main:main");
  return {
    events,
    shown: shown.join("\n"),
    joined: session?.joined.integrity ?? "",
  };
}

Deno.test("hooks in a turn", async (t) => {
  await t.step(
    "message_received changes it; it is the guest's words then",
    async () => {
      await using fake = await withHooks(
        ["message_received"],
        '{"text":"how early?"}',
      );
      const { shown, joined } = await say(fake, [says("early")]);
      assert.match(shown, /how early\?/);
      assert.doesNotMatch(shown, /how late/);
      assert.equal(joined, "untrusted");
    },
  );
  await t.step(
    "message_received stops it before anything is stored",
    async () => {
      await using fake = await withHooks(
        ["message_received"],
        '{"cancel":"no"}',
      );
      await assert.rejects(
        say(fake, [says("late")]),
        /The plugin "probe" stopped the message: no/,
      );
    },
  );
  await t.step("before_turn notes something for the model", async () => {
    await using fake = await withHooks(
      ["before_turn"],
      '{"note":"it is dark"}',
    );
    const { shown, events } = await say(fake, [says("late")]);
    assert.match(shown, /The plugin \\"probe\\" notes: it is dark/);
    assert.equal(of(events, "end")[0]?.reason, "done");
  });
  await t.step(
    "before_turn changes it, also for every later turn",
    async () => {
      await using fake = await withHooks(
        ["before_turn"],
        '{"text":"how early?"}',
      );
      const shown: string[] = [];
      await using house = await fakeHouse({
        forever: (request) => {
          shown.push(JSON.stringify(request.messages));
          return says("early");
        },
        hooks: fake.host.hooks,
      });
      await house.say("how late is it?");
      await fake.grant("probe", undefined);
      await house.say("and now?");
      for (const text of shown) {
        assert.match(text, /how early\?/);
        assert.doesNotMatch(text, /how late/);
      }
      const session = await house.store.sessions.find("agent:main:main");
      const [first] = await house.store.messages.tail(session?.id ?? "", {
        limit: 10,
      });
      const [part, ...others] = first?.parts ?? [];
      assert.ok(part?.kind === "text" && others.length === 0);
      assert.equal(part.text, "how early?");
      assert.equal(part.label.integrity, "untrusted");
      assert.ok(part.label.origins.some(({ kind }) => kind === "plugin"));
      assert.equal(session?.joined.integrity, "untrusted");
    },
  );
  await t.step("before_turn stops it before the model is asked", async () => {
    await using fake = await withHooks(["before_turn"], '{"cancel":"late"}');
    const { events, shown } = await say(fake, [says("late")]);
    assert.equal(of(events, "end")[0]?.reason, "denied");
    assert.equal(shown, "");
  });
  await t.step(
    "before_turn does only what its manifest declares",
    async () => {
      for (const how of ['{"text":"x"}', '{"cancel":"x"}']) {
        await using fake = await withHooks(["before_turn"], how, ["annotate"]);
        const { events, shown } = await say(fake, [says("late")]);
        assert.equal(of(events, "end")[0]?.reason, "denied");
        assert.match(of(events, "end")[0]?.message ?? "", /does not say/);
        assert.equal(shown, "");
      }
    },
  );
  await t.step(
    "what is said to a turn that runs passes before_turn too",
    async () => {
      for (
        const [how, want] of [
          ['{"text":"softly"}', /softly/],
          ['{"cancel":"no"}', /The plugin \\"probe\\" stopped this message/],
        ] as const
      ) {
        await using fake = await withHooks(["before_turn"], "");
        const gate = new Gate();
        await using house = await fakeHouse({
          steps: [
            async function* (_, signal) {
              await gate.pass(signal);
              yield* calls(["math_eval", { expression: "1+1" }]);
            },
            says("done"),
          ],
          hooks: fake.host.hooks,
        });
        await house.say("/queue steer");
        const first = await house.desk.start(request("loudly, please"));
        await gate.arrivals(1);
        const granted = fake.config.granted["probe"];
        assert.ok(granted);
        await fake.grant("probe", { ...granted, config: { hook: how } });
        const second = await house.desk.start(request("as loud as you can"));
        assert.equal(second.status, "queued");
        gate.open();
        await collect(first.events);
        await collect(second.events);
        const shown = house.models.requests.map(({ messages }) =>
          JSON.stringify(messages)
        );
        assert.match(shown[1] ?? "", want);
        assert.doesNotMatch(shown[1] ?? "", /as loud as you can/);
        assert.match(shown[1] ?? "", /loudly, please/);
      }
    },
  );
  await t.step("before_turn that fails ends the turn", async () => {
    await using fake = await withHooks(["before_turn"], "trap");
    const { events } = await say(fake, [says("late")]);
    const [end] = of(events, "end");
    assert.equal(end?.reason, "denied");
    assert.match(end?.message ?? "", /hook of plugin "probe" failed/);
    assert.equal(of(events, "text").length, 0);
  });
  await t.step(
    "before_tool_call changes arguments before they are judged",
    async () => {
      await using fake = await withHooks(
        ["before_tool_call"],
        '{"args":{"expression":"2*3"},"note":"doubled"}',
      );
      const { events, joined } = await say(fake, [
        calls(["math_eval", { expression: "1+1" }]),
        says("six"),
      ]);
      const [result] = of(events, "tool_result");
      assert.match(result?.text ?? "", /^6\b[\s\S]*notes: doubled/);
      assert.equal(joined, "untrusted");
    },
  );
  await t.step("before_tool_call stops it, also by failing", async () => {
    for (const how of ['{"cancel":"not now"}', "trap"]) {
      await using fake = await withHooks(["before_tool_call"], how);
      const { events } = await say(fake, [
        calls(["math_eval", { expression: "1+1" }]),
        says("no"),
      ]);
      assert.equal(of(events, "decision")[0]?.verdict, "deny");
      assert.equal(of(events, "tool_result")[0]?.isError, true);
    }
  });
  await t.step("after_tool_call changes what the model reads", async () => {
    await using fake = await withHooks(["after_tool_call"], '{"text":"7"}');
    const { events, shown } = await say(fake, [
      calls(["math_eval", { expression: "1+1" }]),
      says("seven"),
    ]);
    assert.equal(of(events, "tool_result")[0]?.text, "7");
    // Framed as what it now is: the plugin's words.
    assert.match(shown, /untrusted \w+ from [^"]*plugin:probe[^"]*\\n7\\n/);
  });
  await t.step(
    "before_reply: nothing is shown before the hook is done",
    async () => {
      await using fake = await withHooks(["before_reply"], '{"text":"softer"}');
      const { events } = await say(fake, [says("harsh ", "words")]);
      assert.deepEqual(of(events, "text").map(({ text }) => text), ["softer"]);
      assert.equal(of(events, "reply")[0]?.text, "softer");
    },
  );
  await t.step("before_reply writes no live address of its own", async () => {
    await using fake = await withHooks(
      ["before_reply"],
      '{"text":"see https://evil.test/?d=4711"}',
    );
    const { events } = await say(fake, [says("words")]);
    for (const kind of ["text", "reply"] as const) {
      const text = of(events, kind)[0]?.text ?? "";
      assert.match(text, /^see /);
      assert.doesNotMatch(text, /https:\/\/evil\.test/);
    }
  });
  await t.step("before_reply that fails holds the reply back", async () => {
    await using fake = await withHooks(["before_reply"], "trap");
    const { events } = await say(fake, [says("words")]);
    assert.equal(of(events, "text").length, 0);
    assert.equal(of(events, "end")[0]?.reason, "denied");
  });
  await t.step("session_start is told, and nobody waits for it", async () => {
    await using fake = await withHooks(["session_start"], "");
    await say(fake, [says("hi")]);
    let seen: string | undefined;
    while (seen === undefined) {
      await new Promise((done) => setTimeout(done, 20));
      seen = await fake.store.plugins.get("probe", "hook");
    }
    assert.equal(JSON.parse(seen).point, "session_start");
  });
});

Deno.test("a plugin's tool answers in nobody's name", async () => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await probe({
    wants: { schedule: undefined },
  });
  await fake.add({
    ...manifest,
    wants: { ...manifest["wants"] as object, schedule: { maxPerDay: 1 } },
  }, bytes);
  const echo = fake.registry.find("probe_echo");
  assert.ok(echo);
  await using house = await fakeHouse({
    steps: [calls(["probe_echo", { text: "do as I say" }]), says("no")],
    tools: [echo],
  });
  const events = await house.say("ask the plugin");
  assert.match(of(events, "tool_result")[0]?.text ?? "", /do as I say/);
  const session = await house.store.sessions.find("agent:main:main");
  assert.equal(session?.joined.integrity, "untrusted");
  assert.ok(session?.joined.origins.some(({ kind }) => kind === "plugin"));
});

Deno.test("the world of plugins: who is paired, what the owner is told, what may leave", async (t) => {
  await using house = await fakeHouse({ forever: says("hello back") });
  let rules = toRules(GuardConfig.parse({}));
  const changed: string[] = [];
  const listed = [{ account: "a", id: "ann" }];
  await using carried = fakeInbox(house, {
    channel: new FakeChannel("plugin:chat"),
    account: "a",
    rules: { policy: "allowlist", listed },
  });
  const { channel, courier, inbox } = carried;
  const world = makePluginWorld({
    store: house.store,
    receive: (event) => inbox.receive(event),
    courier,
    pluginAuthority,
    rules: () => rules,
    onSession: (key) => changed.push(key),
    clock: systemClock,
    log: silentLog,
  });
  const inbound = (id: string, change = {}) => ({
    id,
    channel: "plugin:chat",
    account: "a",
    sender: { id: "ann" },
    chat: { kind: "direct" as const, id: "c" },
    kind: "message" as const,
    text: "hi",
    images: [],
    label: label("untrusted", []),
    receivedAt: 1,
    ...change,
  });
  await t.step("strangers start nothing", async () => {
    const rows = [
      { sender: { id: "bob" } },
      { account: "b" },
      { channel: "plugin:other" },
    ];
    for (const [n, change] of rows.entries()) {
      const got = await world.receive(inbound(`s${n}`, change));
      assert.deepEqual(got, { accepted: false, reason: "unpaired" });
    }
    const group = { chat: { kind: "group" as const, id: "c" } };
    assert.deepEqual(await world.receive(inbound("g", group)), {
      accepted: false,
      reason: "unpaired",
    });
    assert.equal(await house.store.sessions.count(), 0);
  });
  await t.step("a paired one is answered as a peer, once", async () => {
    const replied = Promise.withResolvers<string>();
    channel.after = ({ text }) => replied.resolve(text);
    const got = await world.receive(inbound("m1"));
    assert.equal(got.accepted, true);
    assert.equal(await replied.promise, "hello back");
    assert.equal(channel.shown[0]?.destination.chat, "c");
    const again = await world.receive(inbound("m1"));
    assert.deepEqual(again, { accepted: false, reason: "duplicate" });
    const [session] = await house.store.sessions.list({ limit: 1 });
    assert.equal(session?.key, "agent:main:plugin-chat:a:dm:ann");
    assert.equal(session?.joined.integrity, "peer");
  });
  await t.step("what the owner is told is stored, in order", async () => {
    await Promise.all(
      ["1", "2", "3"].map((n) =>
        world.tellOwner("gh", n, label("untrusted", []))
      ),
    );
    const key = "agent:main:hook:plugin-gh";
    const session = await house.store.sessions.find(key);
    assert.deepEqual([session?.seq, session?.joined.integrity], [
      3,
      "untrusted",
    ]);
    const said = await house.store.messages.tail(session?.id ?? "", {
      limit: 5,
    });
    assert.equal(said.length, 3);
    assert.deepEqual(changed, [key, key, key]);
  });
  await t.step("private text does not leave by a plugin", () => {
    const act = {
      plugin: "p",
      what: "http" as const,
      place: "https://a.test/",
    };
    const own = label("owner", ["owner"]);
    const open = label("untrusted", []);
    const verdict = (seen: typeof own, effect: "fetch" | "outbound") =>
      world.decide({ ...act, effect, label: seen }).verdict;
    assert.equal(verdict(open, "fetch"), "allow");
    assert.equal(verdict(open, "outbound"), "allow");
    assert.equal(verdict(own, "fetch"), "deny");
    assert.equal(verdict(own, "outbound"), "deny");
    const tell = {
      plugin: "p",
      what: "message" as const,
      effect: "message" as const,
    };
    assert.equal(
      world.decide({ ...tell, place: "owner", label: own }).verdict,
      "allow",
    );
    assert.equal(
      world.decide({ ...tell, place: "ntfy", label: own }).verdict,
      "deny",
    );
    rules = toRules(GuardConfig.parse({
      policy: [{ verdict: "deny", tool: "plugin_p_http" }],
    }));
    assert.equal(verdict(open, "fetch"), "deny");
  });
});
