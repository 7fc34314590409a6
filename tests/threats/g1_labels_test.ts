/**
 * Threat G1, from outside: whatever a house is made to do, in whatever order, a
 * conversation that has read a stranger's words stays one that has, and whose
 * secrets it read it keeps; through the store, notes, memory, helpers, other
 * conversations, messages between them, and restarts.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { z } from "zod";
import { childRunner, sessionCarrier } from "../../src/agent/helpers.ts";
import { label } from "../../src/core/label.ts";
import { systemClock } from "../../src/core/time.ts";
import { tool } from "../../src/core/tool.ts";
import type { TurnEvent } from "../../src/core/turn.ts";
import { type FakeHouse, fakeHouse, ownerAuthority } from "../fakes/house.ts";
import { calls, says, type Step } from "../fakes/models.ts";
import { pageTool } from "../fakes/tools.ts";
import { scratch } from "../process/processes.ts";

const KEYS = ["agent:main:a", "agent:main:b", "agent:main:c"] as const;
type Key = (typeof KEYS)[number];

type Op =
  | { do: "say" | "page" | "remember" | "recall" | "compact"; at: Key }
  | { do: "secret"; at: Key; of: "peer:1" | "peer:2" }
  | { do: "helper"; at: Key; reads: "read_page" | "secret_peer_1" }
  | { do: "read" | "tell"; at: Key; other: Key }
  | { do: "restart" };

const key = fc.constantFrom(...KEYS);
const op: fc.Arbitrary<Op> = fc.oneof(
  fc.record({
    do: fc.constantFrom("say", "page", "remember", "recall", "compact"),
    at: key,
  }),
  fc.record({
    do: fc.constant("secret" as const),
    at: key,
    of: fc.constantFrom("peer:1" as const, "peer:2" as const),
  }),
  fc.record({
    do: fc.constant("helper" as const),
    at: key,
    reads: fc.constantFrom("read_page" as const, "secret_peer_1" as const),
  }),
  fc.record({
    do: fc.constantFrom("read" as const, "tell" as const),
    at: key,
    other: key,
  }),
  fc.record({ do: fc.constant("restart" as const) }),
) as fc.Arbitrary<Op>;

/** What something must at least be labelled with. */
interface Least {
  isUntrusted: boolean;
  secrecy: Set<string>;
}

function least(...of: readonly Least[]): Least {
  return {
    isUntrusted: of.some((one) => one.isUntrusted),
    secrecy: new Set(of.flatMap((one) => [...one.secrecy])),
  };
}

function secretTool(of: "peer:1" | "peer:2") {
  return tool({
    name: `secret_${of.replace(":", "_")}`,
    about: "What a paired sender told in confidence",
    input: z.strictObject({}),
    scope: "chat",
    effect: "read_private",
    result: { integrity: "inherit", secrecy: "inherit" },
    destinations: [],
    run: () => ({ text: `${of} is ill`, label: label("owner", [of]) }),
  });
}

/** A house of these tools over a directory, and what its model says next. */
async function open(dir: string, script: Step[]): Promise<FakeHouse> {
  const house: FakeHouse = await fakeHouse({
    dir,
    guard: { policy: [{ verdict: "allow", tool: "*" }] },
    tools: [
      pageTool("Remember what I say"),
      secretTool("peer:1"),
      secretTool("peer:2"),
    ],
    toolDeps: (store) => {
      const deps = {
        turns: () => house.desk,
        sessions: store.sessions,
        clock: systemClock,
      };
      return {
        sessions: { sessions: store.sessions, messages: store.messages },
        runChild: childRunner(deps),
        carriers: [sessionCarrier(deps)],
      };
    },
    forever: (request, signal) => {
      if (request.system?.startsWith("You keep the notes") === true) {
        return says("Notes that are long enough to count.");
      }
      const step = script.shift() ?? says("ok");
      return typeof step === "function" ? step(request, signal) : step;
    },
  });
  return house;
}

function lastResult(events: readonly TurnEvent[]): string {
  const last = events.findLast((event) => event.kind === "tool_result");
  return last?.kind === "tool_result" && !last.isError ? last.text : "";
}

/** A house under test, and what its labels must at least be. */
class World implements AsyncDisposable {
  readonly #dir: string;
  readonly #script: Step[] = [];
  readonly #sessions = new Map<Key, Least>();
  #memory = least();
  #house: FakeHouse;

  private constructor(dir: string, house: FakeHouse) {
    this.#dir = dir;
    this.#house = house;
  }

  static async open(dir: string): Promise<World> {
    const world = new World(dir, undefined as never);
    world.#house = await open(dir, world.#script);
    for (const at of KEYS) {
      world.#sessions.set(at, least());
      await world.#say(at);
    }
    return world;
  }

  async #say(at: Key, ...steps: Step[]): Promise<string> {
    this.#script.push(...steps, says("ok"));
    const events = await this.#house.say("go on, please", { sessionKey: at });
    assert.equal(this.#script.length, 0, "the plan was not followed");
    return lastResult(events);
  }

  #of(at: Key): Least {
    return this.#sessions.get(at) ?? least();
  }

  #add(at: Key, more: Least): void {
    this.#sessions.set(at, least(this.#of(at), more));
  }

  async run(op: Op): Promise<void> {
    switch (op.do) {
      case "say":
        await this.#say(op.at);
        break;
      case "page":
        assert.notEqual(await this.#say(op.at, calls(["read_page", {}])), "");
        this.#add(op.at, { isUntrusted: true, secrecy: new Set() });
        break;
      case "secret": {
        const name = `secret_${op.of.replace(":", "_")}`;
        assert.notEqual(await this.#say(op.at, calls([name, {}])), "");
        this.#add(op.at, { isUntrusted: false, secrecy: new Set([op.of]) });
        break;
      }
      case "remember": {
        const call = calls(["memory_write", { text: "a note to keep" }]);
        assert.match(await this.#say(op.at, call), /^Remembered/);
        this.#memory = least(this.#memory, this.#of(op.at));
        break;
      }
      case "recall": {
        const call = calls(["memory_list", { all: true, limit: 50 }]);
        await this.#say(op.at, call);
        this.#add(op.at, this.#memory);
        break;
      }
      case "compact":
        await this.#house.say("/compact", { sessionKey: op.at });
        break;
      case "helper": {
        const said = await this.#say(
          op.at,
          calls(["session_spawn", { task: "look", tools: [op.reads] }]),
          calls([op.reads, {}]),
          says("that is what it says"),
        );
        assert.match(said, /that is what it says/);
        this.#add(
          op.at,
          op.reads === "read_page"
            ? { isUntrusted: true, secrecy: new Set() }
            : { isUntrusted: false, secrecy: new Set(["peer:1"]) },
        );
        break;
      }
      case "read": {
        const call = calls(["session_read", { key: op.other }]);
        await this.#say(op.at, call);
        this.#add(op.at, this.#of(op.other));
        break;
      }
      case "tell": {
        const call = calls(["message_send", { to: op.other, text: "hear" }]);
        const said = await this.#say(op.at, call);
        if (op.at === op.other) break; // is refused
        const runId = /run_\w+/.exec(said)?.[0] ?? "";
        await this.#house.desk.wait(runId, { timeoutMs: 5_000 });
        this.#add(op.other, this.#of(op.at));
        break;
      }
      case "restart":
        await this.#house[Symbol.asyncDispose]();
        this.#house = await open(this.#dir, this.#script);
        break;
      default:
        op satisfies never;
    }
    await this.#check(op);
  }

  async #check(op: Op): Promise<void> {
    for (const [at, { isUntrusted, secrecy }] of this.#sessions) {
      const session = await this.#house.store.sessions.find(at);
      assert.ok(session !== undefined);
      const why = `${JSON.stringify(op)}: ${at}`;
      if (isUntrusted) assert.equal(session.joined.integrity, "untrusted", why);
      for (const principal of secrecy) {
        assert.ok(session.joined.secrecy.includes(principal), why);
      }
      // And what is decided goes by it.
      const { integrity } = await this.#house.guard.explain(
        ownerAuthority(),
        { tool: "read_page", sessionKey: at },
      );
      if (isUntrusted) assert.equal(integrity, "untrusted", why);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#house[Symbol.asyncDispose]();
  }
}

Deno.test("G1: no sequence of acts raises a conversation's integrity or forgets a secret", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(op, { minLength: 4, maxLength: 14 }),
      async (ops) => {
        await using folder = await scratch();
        await using world = await World.open(`${folder.path}/state`);
        for (const one of ops) await world.run(one);
      },
    ),
    {
      numRuns: 15,
      examples: [
        // A stranger's word and a secret, by memory, to where neither was read.
        [[
          { do: "page", at: KEYS[0] },
          { do: "secret", at: KEYS[0], of: "peer:1" },
          { do: "remember", at: KEYS[0] },
          { do: "restart" },
          { do: "recall", at: KEYS[1] },
          { do: "tell", at: KEYS[1], other: KEYS[2] },
        ]],
        // By notes, when what they were made of is shown no more.
        [[
          { do: "page", at: KEYS[0] },
          { do: "secret", at: KEYS[0], of: "peer:2" },
          ...Array.from({ length: 10 }, (): Op => ({ do: "say", at: KEYS[0] })),
          { do: "compact", at: KEYS[0] },
          { do: "restart" },
          { do: "read", at: KEYS[1], other: KEYS[0] },
          { do: "remember", at: KEYS[0] },
          { do: "recall", at: KEYS[2] },
        ]],
      ],
    },
  );
});
