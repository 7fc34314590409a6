/**
 * A schedule over a real desk and a real store, with scripted models and a
 * clock that moves when it is told to.
 */
import { configAuthority } from "../../src/auth/principal.ts";
import type { AuthorityRecord } from "../../src/core/authority.ts";
import { Authority } from "../../src/core/authority.ts";
import { label } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import type { ScheduleActor } from "../../src/core/schedule.ts";
import type {
  JobView,
  ScheduleInputOf,
} from "../../src/core/methods/schedule.ts";
import { ScheduleConfig } from "../../src/schedule/config.ts";
import { ScheduleDesk } from "../../src/schedule/desk.ts";
import { FakeClock } from "./clock.ts";
import {
  type FakeHouse,
  fakeHouse,
  type FakeHouseOptions,
  ownerAuthority,
} from "./house.ts";
import { says } from "./models.ts";

/** 2026-01-01T00:00:00Z. */
export const NEW_YEAR = 1_767_225_600_000;
export const MINUTE = 60_000;
export const HOUR = 3_600_000;

/** Who asks; the owner at their own machine without a change. */
export function actor(
  change: Partial<AuthorityRecord> = {},
  integrity: "owner" | "peer" | "untrusted" = change.integrity ?? "owner",
): ScheduleActor {
  const authority = ownerAuthority({ integrity, ...change });
  const kind = authority.kind === "owner" ? "owner" : "client";
  const ref = authority.credential;
  return {
    authority,
    label: label(integrity, [authority.principal], { kind, ref, at: NEW_YEAR }),
    mainKey: "agent:main:main",
  };
}

export const owner = actor();

/** A program with a token of its own. */
export function program(id = "app"): ScheduleActor {
  return actor({
    principal: `token:tok_${id}`,
    kind: "program",
    credential: `tok_${id}`,
    scopes: ["write"],
    integrity: "untrusted",
  });
}

export interface FakeScheduleOptions extends FakeHouseOptions {
  config?: Parameters<typeof ScheduleConfig.parse>[0];
  now?: number;
}

/** What was published. */
export interface Told {
  event: string;
  payload: Record<string, unknown>;
  principal: string;
}

export interface FakeSchedule extends AsyncDisposable {
  schedule: ScheduleDesk;
  house: FakeHouse;
  clock: FakeClock;
  told: Told[];
  revoked: Set<string>;
  revoke(credential: string): void;
  /** Moves time on and waits until all that came of it is over. */
  pass(ms: number): Promise<void>;
  /** Waits until everything that was begun is over. */
  settle(): Promise<void>;
  add(
    fields: Partial<ScheduleInputOf<"cron.add">>,
    by?: ScheduleActor,
  ): Promise<JobView>;
  /** The events of one job: `action status`. */
  history(id: string): Promise<string[]>;
}

/** Opens one; it is started unless `start` is said to be false. */
export async function fakeSchedule(
  options: FakeScheduleOptions & { start?: boolean } = {},
): Promise<FakeSchedule> {
  const clock = new FakeClock(options.now ?? NEW_YEAR);
  const config = ScheduleConfig.parse({ zone: "UTC", ...options.config ?? {} });
  const told: Told[] = [];
  const revoked = new Set<string>();
  const listeners = new Set<(credential: string) => void>();
  // Made after the house that it is handed to.
  const later: { schedule?: ScheduleDesk } = {};
  const house = await fakeHouse({
    forever: says("done"),
    ...options,
    clock,
    grantsOf: (id) => later.schedule?.grantsOf(id) ?? [],
  });
  const schedule = later.schedule = new ScheduleDesk({
    store: house.store,
    turns: house.desk,
    config: () => config,
    hasAgent: (id) =>
      id === "main" || Object.hasOwn(options.agents as object ?? {}, id),
    authorityOf: (record) => new Authority(record),
    configAuthority,
    isLive: ({ credential }) => !revoked.has(credential),
    onRevoked: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    watchCalls: (listener) => house.spending.watch(listener),
    publish: (event, payload, principal) =>
      void told.push({ event, payload, principal }),
    clock,
    log: silentLog,
  });
  await schedule.open();
  if (options.start !== false) schedule.start();
  const settle = async () => {
    // Real commits take real time: looks until nothing moves any more.
    for (let quiet = 0; quiet < 4;) {
      await new Promise((resolve) => setTimeout(resolve, 4));
      const { running, queued } = house.desk.counts();
      const isIdle = running === 0 && queued === 0 && !schedule.isBusy;
      quiet = isIdle ? quiet + 1 : 0;
    }
  };
  return {
    schedule,
    house,
    clock,
    told,
    revoked,
    revoke: (credential) => {
      revoked.add(credential);
      for (const listener of listeners) listener(credential);
    },
    settle,
    pass: async (ms) => {
      await settle();
      await clock.tick(ms);
      schedule.tick();
      await settle();
    },
    add: async (fields, by = owner) =>
      await schedule.run("cron.add", {
        schedule: { kind: "every", everyMs: HOUR },
        payload: { kind: "agentTurn", message: "look" },
        ...fields,
      }, by),
    history: async (id) => {
      const { entries } = await schedule.run(
        "cron.runs",
        { id, limit: 500 },
        owner,
      );
      return entries.map(({ dueAtMs, status, missed }) =>
        `${(dueAtMs - NEW_YEAR) / MINUTE} ${status}${
          missed === undefined ? "" : ` ${missed}`
        }`
      ).reverse();
    },
    [Symbol.asyncDispose]: async () => {
      await schedule[Symbol.asyncDispose]();
      const closing = house[Symbol.asyncDispose]();
      // Its wait for turns that run is a sleep on this clock.
      let isClosed = false;
      void Promise.resolve(closing).finally(() => isClosed = true);
      while (!isClosed) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        await clock.tick(0);
      }
      await closing;
    },
  };
}
