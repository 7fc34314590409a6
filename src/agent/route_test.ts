import assert from "node:assert/strict";
import { ownerAuthority } from "../../tests/fakes/house.ts";
import { Binding, SessionsConfig } from "./config.ts";
import { agentFor, resetDue, sessionKeyFor, type Whence } from "./route.ts";

function from(change: Partial<Whence> = {}): Whence {
  return {
    channel: "chat",
    account: "home",
    sender: { id: "ann" },
    chat: { kind: "direct", id: "ann" },
    ...change,
  };
}

Deno.test("agentFor(): the binding that names most wins, then the first", () => {
  const bindings = [
    { agent: "a", channel: "chat" },
    { agent: "b", channel: "chat", account: "work" },
    { agent: "c", peer: "ann" },
    { agent: "d", channel: "chat", account: "work", peer: "ann" },
    { agent: "e", channel: "chat", account: "work", peer: "ann" },
    { agent: "g", channel: "chat", peer: "group1" },
  ].map((row) => Binding.parse(row));
  const bob = {
    sender: { id: "bob" },
    chat: { kind: "direct", id: "bob" },
  } as const;
  const rows: [why: string, whence: Whence, agent: string][] = [
    ["by peer", from(), "c"],
    ["by channel", from(bob), "a"],
    ["by account", from({ ...bob, account: "work" }), "b"],
    ["by all three, the first", from({ account: "work" }), "d"],
    [
      "by the group's id",
      from({ sender: { id: "bob" }, chat: { kind: "group", id: "group1" } }),
      "g",
    ],
    ["by nothing", from({ ...bob, channel: "mail" }), "main"],
  ];
  for (const [why, whence, agent] of rows) {
    assert.equal(agentFor(bindings, whence), agent, why);
  }
  assert.equal(agentFor([], from()), "main");
});

Deno.test("a binding that names nothing, or an account of nowhere, is a mistake", () => {
  assert.ok(!Binding.safeParse({ agent: "a" }).success);
  assert.ok(!Binding.safeParse({ agent: "a", account: "x" }).success);
});

Deno.test("sessionKeyFor(): direct messages never share a session", async () => {
  const owner = ownerAuthority();
  const peer = ownerAuthority({ kind: "peer", principal: "peer:ann" });
  const key = (change: Partial<Whence>, authority = peer) =>
    sessionKeyFor("main", { inbound: from(change), authority });
  assert.equal(await key({}, owner), "agent:main:main");
  assert.equal(await key({}), "agent:main:chat:home:dm:ann");
  assert.equal(
    await key({ chat: { kind: "group", id: "g1", thread: "7" } }, owner),
    "agent:main:chat:home:group:g1:thread:7",
  );
  const strange = await key({ sender: { id: "Ann:main" } });
  assert.match(strange, /^agent:main:chat:home:dm:x-[a-z2-7]{26}$/);
  assert.notEqual(strange, await key({ sender: { id: "ann:main" } }));
  assert.notEqual(await key({ account: "a:b" }), await key({ account: "a" }));
});

Deno.test("resetDue(): idle, daily, in a zone, over a change of clocks", () => {
  const at = (text: string) => Date.parse(text);
  const daily = SessionsConfig.parse({
    dailyAt: "04:00",
    zone: "Europe/Berlin",
  });
  const idle = SessionsConfig.parse({ idleMinutes: 30 });
  const rows: [SessionsConfig, string, string, string | undefined][] = [
    [
      SessionsConfig.parse({}),
      "2026-01-01T00:00Z",
      "2027-01-01T00:00Z",
      undefined,
    ],
    [idle, "2026-01-01T00:00Z", "2026-01-01T00:29Z", undefined],
    [idle, "2026-01-01T00:00Z", "2026-01-01T00:30Z", "idle"],
    // 03:59 and 04:01 in Berlin, winter
    [daily, "2026-01-02T02:59Z", "2026-01-02T03:01Z", "daily"],
    [daily, "2026-01-02T03:01Z", "2026-01-02T22:00Z", undefined],
    [daily, "2026-01-01T22:00Z", "2026-01-02T02:00Z", undefined],
    // Summer time began at 01:00Z on 29 March
    [daily, "2026-03-29T01:59Z", "2026-03-29T02:01Z", "daily"],
    [daily, "2026-03-29T00:30Z", "2026-03-29T01:30Z", undefined],
  ];
  for (const [config, updatedAt, now, want] of rows) {
    assert.equal(
      resetDue(config, { updatedAt: at(updatedAt), now: at(now) }),
      want,
      `${updatedAt} ${now}`,
    );
  }
});
