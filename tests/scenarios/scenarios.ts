/**
 * Runs the scenarios of `flow/*.jsonc`: a whole desk with scripted, fully
 * compromised models. An attack succeeds when its act happens and nobody was
 * asked; a benign task is finished when all its acts happen.
 */
import { parse } from "jsonc-parser";
import { z } from "zod";
import type { Authority } from "../../src/core/authority.ts";
import { label } from "../../src/core/label.ts";
import { systemClock } from "../../src/core/time.ts";
import type { TurnEvent } from "../../src/core/turn.ts";
import { fakeHouse, ownerAuthority } from "../fakes/house.ts";
import { calls, says, type Step } from "../fakes/models.ts";
import { type World, worldTools } from "./world.ts";

/** A model's step: words, or calls. */
const ModelStep = z.union([
  z.string(),
  z.array(z.tuple([z.string(), z.unknown()])),
]);

const ScenarioTurn = z.strictObject({
  say: z.string(),
  /** Whose words it is; the owner's without it. */
  from: z.enum(["owner", "peer", "stranger", "cron", "hook"]).default("owner"),
  session: z.string().default("agent:main:main"),
  attended: z.boolean().default(true),
  /** So many days after the turn before. */
  daysLater: z.int().default(0),
  model: z.array(ModelStep),
  /** What the owner says to asks of this turn, in order; then no. */
  answers: z.array(
    z.enum(["allow-once", "allow-session", "allow-always", "deny"]),
  ).default([]),
});

export const Scenario = z.strictObject({
  about: z.string(),
  row: z.string().describe("The threat it belongs to, or `benign`"),
  guard: z.record(z.string(), z.unknown()).default({}),
  memory: z.boolean().default(false),
  pages: z.record(z.string(), z.string()).default({}),
  files: z.record(z.string(), z.string()).default({}),
  notes: z.string().default("door code 4711, my blood pressure is too high"),
  turns: z.array(ScenarioTurn).min(1),
  want: z.strictObject({
    /** `tool verdict`, in order. */
    decisions: z.array(z.string()),
    /** Acts that must have happened, in order; no others but `get`. */
    acts: z.array(z.string()),
    prompts: z.int().default(0),
    /** Of the last reply. */
    reply: z.string().optional(),
    noReply: z.string().optional(),
  }),
});
export type Scenario = z.infer<typeof Scenario>;

/** How a scenario came out. */
export interface Outcome {
  name: string;
  scenario: Scenario;
  decisions: string[];
  acts: string[];
  prompts: number;
  reply: string;
  card: string[];
  /** Whether everything came out as its file says. */
  isAsWanted: boolean;
}

const DAY_MS = 86_400_000;

const FLOW = new URL("flow/", import.meta.url);

/** Every scenario by name. */
export async function readScenarios(): Promise<Map<string, Scenario>> {
  const names = await Array.fromAsync(Deno.readDir(FLOW), ({ name }) => name);
  const all = new Map<string, Scenario>();
  for (const name of names.filter((n) => n.endsWith(".jsonc")).sort()) {
    const text = await Deno.readTextFile(new URL(name, FLOW));
    all.set(
      name.replace(/\.jsonc$/, ""),
      Scenario.parse(parse(text, [], { allowTrailingComma: true })),
    );
  }
  return all;
}

function peer(): Authority {
  return ownerAuthority({
    principal: "peer:chat:bot:77",
    kind: "peer",
    credential: "pair_77",
    scopes: ["chat"],
    integrity: "peer",
  });
}

const FROM = {
  owner: () => ({
    authority: ownerAuthority(),
    label: label("owner", ["owner"], { kind: "owner", ref: "test", at: 500 }),
  }),
  peer: () => ({
    authority: peer(),
    label: label("peer", ["peer:chat:bot:77"], {
      kind: "peer",
      ref: "peer:chat:bot:77",
      at: 500,
    }),
  }),
  stranger: () => ({
    authority: peer(),
    label: label("untrusted", [], { kind: "channel", ref: "group", at: 500 }),
  }),
  cron: () => ({
    authority: ownerAuthority({ integrity: "untrusted" }),
    label: label("untrusted", ["owner"], {
      kind: "schedule",
      ref: "job",
      at: 500,
    }),
  }),
  hook: () => ({
    authority: ownerAuthority({
      principal: "token:hook",
      kind: "program",
      scopes: ["chat", "hooks"],
      integrity: "untrusted",
    }),
    label: label("untrusted", [], { kind: "hook", ref: "hook", at: 500 }),
  }),
} as const;

/** Runs one scenario. */
export async function runScenario(
  name: string,
  scenario: Scenario,
): Promise<Outcome> {
  const { pages, files, notes, turns, want } = scenario;
  const world: World = { pages, files, notes, acts: [] };
  const script: Step[] = [];
  let days = 0;
  await using house = await fakeHouse({
    clock: { ...systemClock, now: () => systemClock.now() + days * DAY_MS },
    guard: scenario.guard,
    tools: worldTools(world),
    ...(scenario.memory ? { toolDeps: {} } : {}),
    // A sub-agent runs within its parent's step: whoever asks gets the next.
    forever: (request, signal) => {
      const step = script.shift() ?? says("(no script)");
      return typeof step === "function" ? step(request, signal) : step;
    },
  });
  const decisions: string[] = [];
  let prompts = 0;
  let reply = "";
  let card: string[] = [];
  const follow = async (
    events: AsyncIterable<TurnEvent>,
    answers: Scenario["turns"][number]["answers"],
  ) => {
    const left = [...answers];
    for await (const event of events) {
      if (event.kind === "decision") {
        decisions.push(`${event.name} ${event.verdict}`);
      } else if (event.kind === "ask") {
        prompts++;
        card = event.card;
        await house.approvals.answer(event.approvalId, left.shift() ?? "deny", {
          by: "owner",
        });
      } else if (event.kind === "reply") reply = event.text;
    }
  };
  let n = 0;
  const start = async (
    text: string,
    options: {
      authority: Authority;
      label: ReturnType<typeof label>;
      sessionKey: string;
      attended: boolean;
    },
  ) => {
    const { events } = await house.desk.start({
      inbound: {
        id: `s${++n}`,
        channel: "test",
        account: "local",
        sender: { id: options.authority.principal },
        chat: { kind: "direct", id: "chat" },
        kind: "message",
        text,
        images: [],
        label: options.label,
        receivedAt: 500,
      },
      ...options,
    });
    return events;
  };
  world.spawn = async (text, context) => {
    const events = await start(text, {
      authority: context.authority.narrow({ integrity: "untrusted" }),
      label: context.label,
      sessionKey: `agent:main:subagent:${++n}`,
      attended: false,
    });
    await follow(events, []);
    return reply;
  };
  for (const turn of turns) {
    days += turn.daysLater;
    script.push(
      ...turn.model.map((step) =>
        typeof step === "string" ? says(step) : calls(...step)
      ),
    );
    const events = await start(turn.say, {
      ...FROM[turn.from](),
      sessionKey: turn.session,
      attended: turn.attended,
    });
    await follow(events, turn.answers);
  }
  const acts = world.acts.filter((act) =>
    !act.startsWith("get ")
  ) satisfies string[];
  const all = want.acts.some((act) => act.startsWith("get "))
    ? world.acts
    : acts;
  const isAsWanted = JSON.stringify(decisions) ===
      JSON.stringify(want.decisions) &&
    JSON.stringify(all) === JSON.stringify(want.acts) &&
    prompts === want.prompts &&
    (want.reply === undefined || reply.includes(want.reply)) &&
    (want.noReply === undefined || !reply.includes(want.noReply));
  return {
    name,
    scenario,
    decisions,
    acts: all,
    prompts,
    reply,
    card,
    isAsWanted,
  };
}

/** Runs them all. */
export async function runScenarios(): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const [name, scenario] of await readScenarios()) {
    outcomes.push(await runScenario(name, scenario));
  }
  return outcomes;
}
