/**
 * An agent desk over a real store in memory or in a directory, with scripted
 * models: what most tests of turns need, in one line.
 */
import {
  AgentLimits,
  AgentsConfig,
  type Binding,
  SessionsConfig,
} from "../../src/agent/config.ts";
import { AgentDesk } from "../../src/agent/desk.ts";
import type { AgentDeps } from "../../src/agent/deps.ts";
import { GuardDesk } from "../../src/agent/guard_desk.ts";
import type { ContextSources } from "../../src/agent/context/sections.ts";
import type { TurnRequest } from "../../src/agent/turns.ts";
import { Authority, type AuthorityRecord } from "../../src/core/authority.ts";
import type { Price } from "../../src/core/cost.ts";
import type { Hooks } from "../../src/core/hooks.ts";
import { label } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import { type Clock, systemClock } from "../../src/core/time.ts";
import type { Tool } from "../../src/core/tool.ts";
import type { TurnEvent } from "../../src/core/turn.ts";
import type { Approvals } from "../../src/guard/approvals.ts";
import { BudgetsConfig } from "../../src/guard/budget.ts";
import { GuardConfig, type PolicyLine } from "../../src/guard/config.ts";
import type { GuardMeter } from "../../src/guard/counts.ts";
import { makeGuard } from "../../src/guard/guarding.ts";
import { toRules } from "../../src/guard/rules.ts";
import {
  type BudgetNotice,
  openSpending,
  type Spending,
} from "../../src/guard/spending.ts";
import { UsageDesk } from "../../src/guard/usage_desk.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { makeTools, type ToolDeps } from "../../src/tools/all.ts";
import { mathEval } from "../../src/tools/math.ts";
import { MemoryBook } from "../../src/tools/memory_book.ts";
import { Outputs } from "../../src/tools/outputs.ts";
import { Registry } from "../../src/tools/registry.ts";
import { currentTime } from "../../src/tools/time.ts";

import { FakeModels, type Step } from "./models.ts";

/** The owner, as `auth` would make it. */
export function ownerAuthority(
  change: Partial<AuthorityRecord> = {},
): Authority {
  return new Authority({
    principal: "owner",
    kind: "owner",
    credential: "tok_owner",
    revision: 1,
    scopes: ["admin"],
    agents: "any",
    models: "any",
    tools: "any",
    integrity: "owner",
    ...change,
  });
}

/** What a test may set. */
export interface FakeHouseOptions {
  isLive?(record: AuthorityRecord): boolean;
  steps?: readonly Step[];
  forever?: Step;
  limits?: Partial<AgentLimits>;
  agents?: Parameters<typeof AgentsConfig.parse>[0];
  bindings?: readonly Binding[];
  sessions?: Partial<SessionsConfig>;
  context?: ContextSources;
  windowTokens?: number;
  policy?: readonly PolicyLine[];
  /** The rest of the guard's configuration. */
  guard?: Parameters<typeof GuardConfig.parse>[0] & object;
  /** The program's own secrets, as the leak detector is given them. */
  secrets?: readonly string[];
  tools?: readonly Tool[];
  /** What no agent is shown, read at every use. */
  toolsDenied?: () => readonly string[];
  onRegistry?(registry: Registry): void;
  /** All built-in tools, made of this beside the store's own; else only two. */
  toolDeps?: Partial<ToolDeps> | ((store: Store) => Partial<ToolDeps>);
  dir?: string;
  hooks?: Hooks;
  remotes?: AgentDeps["remotes"];
  clock?: Clock;
  budgets?: Parameters<typeof BudgetsConfig.parse>[0];
  /** What models cost; without it nobody knows. */
  priceOf?(model: string): Price | undefined;
  onBudget?(notice: BudgetNotice): void;
  grantsOf?: AgentDeps["grantsOf"] & object;
}

/** A desk, its store and its models. */
export interface FakeHouse extends AsyncDisposable {
  desk: AgentDesk;
  store: Store;
  models: FakeModels;
  approvals: Approvals;
  meter: GuardMeter;
  /** What the gateway's methods for approvals and policy act on. */
  guard: GuardDesk;
  spending: Spending;
  usage: UsageDesk;
  /** Sends a message and collects its events to the end. */
  say(text: string, change?: Partial<TurnRequest>): Promise<TurnEvent[]>;
}

let counter = 0;

/** A message of the owner in the main session. */
export function request(
  text: string,
  change: Partial<TurnRequest> = {},
): TurnRequest {
  const at = Date.now();
  const id = `m${++counter}`;
  return {
    inbound: {
      id,
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
    authority: ownerAuthority(),
    sessionKey: "agent:main:main",
    attended: true,
    ...change,
  };
}

/** All events of a run. */
export async function collect(
  events: AsyncIterable<TurnEvent> | readonly TurnEvent[],
): Promise<TurnEvent[]> {
  return await Array.fromAsync<TurnEvent>(events);
}

/** Opens a desk. */
export async function fakeHouse(
  options: FakeHouseOptions = {},
): Promise<FakeHouse> {
  const clock = options.clock ?? systemClock;
  const store = await openStore({
    dir: options.dir ?? ":memory:",
    clock,
    log: silentLog,
  });
  const models = new FakeModels(options.steps ?? [], options.forever);
  if (options.windowTokens !== undefined) {
    models.windowTokens = options.windowTokens;
  }
  const guardConfig = GuardConfig.parse({
    policy: options.policy ?? [],
    ...options.guard,
  });
  const { approvals, guard } = makeGuard({
    store,
    clock,
    config: () => guardConfig,
    secrets: () => options.secrets ?? [],
  });
  const settings = {
    agents: AgentsConfig.parse(options.agents ?? {}),
    bindings: options.bindings ?? [],
    sessions: SessionsConfig.parse(options.sessions ?? {}),
    limits: AgentLimits.parse(options.limits ?? {}),
    rules: toRules(guardConfig),
    get toolsDenied() {
      return [...options.toolsDenied?.() ?? []];
    },
  };
  const budgets = BudgetsConfig.parse(options.budgets ?? {});
  const spending = await openSpending({
    rows: store.usage,
    journal: store.journal,
    priceOf: options.priceOf ?? (() => undefined),
    config: () => budgets,
    clock,
    log: silentLog,
    ...(options.onBudget === undefined ? {} : { onNotice: options.onBudget }),
  });
  const usage = new UsageDesk({
    rows: store.usage,
    spending,
    config: () => budgets,
    clock,
  });
  const outputs = new Outputs({ blobs: store.blobs, journal: store.journal });
  const registry = new Registry([
    ...options.toolDeps === undefined ? [currentTime, mathEval] : makeTools({
      memory: new MemoryBook({
        rows: store.memories,
        journal: store.journal,
        clock,
      }),
      outputs,
      ...typeof options.toolDeps === "function"
        ? options.toolDeps(store)
        : options.toolDeps,
    }),
    ...options.tools ?? [],
  ]);
  options.onRegistry?.(registry);
  const desk = new AgentDesk({
    ...(options.hooks === undefined ? {} : { hooks: options.hooks }),
    ...(options.remotes === undefined ? {} : { remotes: options.remotes }),
    store,
    models,
    outputs,
    tools: registry,
    approvals,
    guard,
    ...(options.context === undefined ? {} : { context: options.context }),
    spending,
    usageText: (authority) => usage.text(authority),
    settings: () => settings,
    authorityOf: (record) => new Authority(record),
    isLive: options.isLive ?? (() => true),
    ...(options.grantsOf === undefined ? {} : { grantsOf: options.grantsOf }),
    clock,
    log: silentLog,
  });
  return {
    desk,
    store,
    models,
    approvals,
    meter: guard.meter,
    guard: new GuardDesk({
      store,
      approvals,
      guard,
      tools: registry,
      settings: () => settings,
    }),
    spending,
    usage,
    say: async (text, change) =>
      await collect((await desk.start(request(text, change))).events),
    [Symbol.asyncDispose]: async () => {
      await desk.drain(0);
      await spending[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}
