/**
 * Who may run now: one turn at a time in a session, so many in all. Both are
 * lines people stand in, in the order they came.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";

type Waiter = { grant(): void; position: number; moved(): void };

/**
 * A line with a number of places. `enter` waits for one; disposing what it
 * returns gives it back.
 */
class Line {
  readonly #places: () => number;
  readonly #waiting: Waiter[] = [];
  #taken = 0;

  /** @param places How many at once; asked anew each time */
  constructor(places: () => number) {
    this.#places = places;
  }

  get taken(): number {
    return this.#taken;
  }
  get waiting(): number {
    return this.#waiting.length;
  }
  get isIdle(): boolean {
    return this.#taken === 0 && this.#waiting.length === 0;
  }

  #leave = (): void => {
    this.#taken--;
    while (this.#taken < this.#places()) { // ends with those who wait
      const next = this.#waiting.shift();
      if (next === undefined) break;
      this.#taken++;
      next.grant();
    }
    this.#waiting.forEach((waiter, n) => {
      waiter.position = n;
      waiter.moved();
    });
  };

  #place(): Disposable {
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#leave();
        isHeld = false;
      },
    };
  }

  /** A place without waiting, or `undefined`. */
  tryEnter(): Disposable | undefined {
    if (this.#taken >= this.#places()) return undefined;
    this.#taken++;
    return this.#place();
  }

  /**
   * Waits for a place. `front` goes before all who wait; `onMove` hears the
   * position, 0 being next.
   */
  async enter(
    signal: AbortSignal,
    options: { front?: boolean; onMove?(position: number): void } = {},
  ): Promise<Disposable> {
    signal.throwIfAborted();
    const free = this.tryEnter();
    if (free !== undefined) return free;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = {
      grant: resolve,
      position: 0,
      moved: () => options.onMove?.(waiter.position),
    };
    if (options.front === true) this.#waiting.unshift(waiter);
    else this.#waiting.push(waiter);
    waiter.position = this.#waiting.indexOf(waiter);
    waiter.moved();
    const onAbort = () => {
      const at = this.#waiting.indexOf(waiter);
      if (at < 0) return;
      this.#waiting.splice(at, 1);
      reject(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
    return this.#place();
  }
}

/** The lanes of all sessions; a lane exists while somebody is in it. */
export class Lanes {
  readonly #lanes = new Map<string, Line>();
  readonly #queuedMax: () => number;

  constructor(queuedMax: () => number) {
    this.#queuedMax = queuedMax;
  }

  #lane(session: string): Line {
    let lane = this.#lanes.get(session);
    if (lane === undefined) this.#lanes.set(session, lane = new Line(() => 1));
    return lane;
  }

  #held(session: string, lane: Line, place: Disposable): Disposable {
    return {
      [Symbol.dispose]: () => {
        place[Symbol.dispose]();
        if (lane.isIdle) this.#lanes.delete(session);
      },
    };
  }

  /** The lane at once, or `undefined`. */
  tryEnter(session: string): Disposable | undefined {
    const lane = this.#lane(session);
    const place = lane.tryEnter();
    return place && this.#held(session, lane, place);
  }

  /** @throws {AppError} `rate_limited` when too many wait in this session */
  assertRoom(session: string): void {
    if ((this.#lanes.get(session)?.waiting ?? 0) < this.#queuedMax()) return;
    throw new AppError(
      "rate_limited",
      `Cannot queue another turn: ${this.#queuedMax()} already wait in this session`,
      { hint: "Wait for them, or send /stop", retryAfterMs: 5_000 },
    );
  }

  /** Waits for the session's lane. */
  async enter(
    session: string,
    signal: AbortSignal,
    onMove: (position: number) => void,
  ): Promise<Disposable> {
    const lane = this.#lane(session);
    return this.#held(session, lane, await lane.enter(signal, { onMove }));
  }

  get waiting(): number {
    let all = 0;
    for (const lane of this.#lanes.values()) all += lane.waiting;
    return all;
  }
}

/** A turn's places: its agent's and the house's. */
interface Places {
  agent: Disposable | undefined;
  house: Disposable | undefined;
}

/** The caps on running turns: of all, and of each agent that has one. */
export class Slots {
  readonly #house: Line;
  readonly #agents = new Map<string, Line>();
  readonly #agentMax: (agentId: string) => number | undefined;

  constructor(
    caps: {
      house(): number;
      agent(agentId: string): number | undefined;
    },
  ) {
    this.#house = new Line(caps.house);
    this.#agentMax = caps.agent;
  }

  get taken(): number {
    return this.#house.taken;
  }

  get waiting(): number {
    let all = this.#house.waiting;
    for (const line of this.#agents.values()) all += line.waiting;
    return all;
  }

  /** An agent's line; one without a cap has no bound of its own. */
  agent(agentId: string): Line {
    let line = this.#agents.get(agentId);
    if (line === undefined) {
      line = new Line(() => this.#agentMax(agentId) ?? Infinity);
      this.#agents.set(agentId, line);
    }
    return line;
  }

  get house(): Line {
    return this.#house;
  }

  /** Both places at once, or neither. */
  tryEnter(agentId: string): Places | undefined {
    const agent = this.agent(agentId).tryEnter();
    if (agent === undefined) return undefined;
    const house = this.#house.tryEnter();
    if (house !== undefined) return { agent, house };
    agent[Symbol.dispose]();
    return undefined;
  }
}
