/**
 * A turn's place in the house: the session's lane, then a running slot of its
 * agent and of the house.
 *
 * @module
 */
import type { TurnEventBody } from "../core/turn.ts";
import type { Lanes, Slots } from "./lanes.ts";
import type { Holder, Holders } from "./queue.ts";
import type { Seat } from "./turn.ts";

/** Waits in a line and says where it stands. */
async function* waitIn(
  enter: (onMove: (position: number) => void) => Promise<Disposable>,
  behind: "session" | "agent" | "global",
): AsyncGenerator<TurnEventBody, Disposable> {
  let moved = Promise.withResolvers<void>();
  let position = -1;
  let shown = -1;
  const entered = enter((next) => {
    position = next;
    moved.resolve();
  });
  entered.catch(() => {}); // heard below, or nobody waits for it any more
  while (true) {
    // Ends when the place is granted or the wait is aborted.
    const place = await Promise.race([entered, moved.promise]);
    if (place !== undefined) return place;
    moved = Promise.withResolvers<void>();
    if (position !== shown) yield { kind: "queued", position, behind };
    shown = position;
  }
}

/** What places are given by. */
export interface PlaceRooms {
  lanes: Lanes;
  slots: Slots;
  holders: Holders;
}

/** One turn's place; disposing gives everything back. */
export class Place implements Seat, Disposable {
  readonly #rooms: PlaceRooms;
  readonly #of: { sessionKey: string; agentId: string };
  readonly #signal: AbortSignal;
  #lane: Disposable | undefined;
  #holder: (Holder & Disposable) | undefined;
  #agent: Disposable | undefined;
  #house: Disposable | undefined;

  constructor(
    rooms: PlaceRooms,
    of: { sessionKey: string; agentId: string },
    signal: AbortSignal,
  ) {
    this.#rooms = rooms;
    this.#of = of;
    this.#signal = signal;
  }

  get hasLane(): boolean {
    return this.#lane !== undefined;
  }

  /** The turn's hold on its session; only with the lane. */
  get holder(): Holder | undefined {
    return this.#holder;
  }

  /** Everything at once; what could be had is kept. */
  tryTake(): boolean {
    const { lanes, slots } = this.#rooms;
    this.#take(lanes.tryEnter(this.#of.sessionKey));
    if (this.#lane === undefined) return false;
    const places = slots.tryEnter(this.#of.agentId);
    this.#agent = places?.agent;
    this.#house = places?.house;
    return places !== undefined;
  }

  #take(lane: Disposable | undefined): void {
    if (lane === undefined) return;
    this.#lane = lane;
    this.#holder = this.#rooms.holders.hold(this.#of.sessionKey);
  }

  /** Waits for the session's lane. */
  async *takeLane(signal: AbortSignal): AsyncGenerator<TurnEventBody, void> {
    if (this.#lane !== undefined) return;
    const { lanes } = this.#rooms;
    this.#take(
      yield* waitIn(
        (onMove) => lanes.enter(this.#of.sessionKey, signal, onMove),
        "session",
      ),
    );
  }

  /** Waits for the running slots. */
  async *takeSlots(): AsyncGenerator<TurnEventBody, void> {
    const { slots } = this.#rooms;
    const line = slots.agent(this.#of.agentId);
    this.#agent ??= yield* waitIn(
      (onMove) => line.enter(this.#signal, { onMove }),
      "agent",
    );
    this.#house ??= yield* waitIn(
      (onMove) => slots.house.enter(this.#signal, { onMove }),
      "global",
    );
  }

  async away<T>(wait: () => Promise<T>): Promise<T> {
    this.#leaveSlots();
    const answer = await wait();
    const { slots } = this.#rooms;
    const front = { front: true };
    this.#agent = await slots.agent(this.#of.agentId).enter(
      this.#signal,
      front,
    );
    this.#house = await slots.house.enter(this.#signal, front);
    return answer;
  }

  #leaveSlots(): void {
    this.#house?.[Symbol.dispose]();
    this.#agent?.[Symbol.dispose]();
    this.#house = this.#agent = undefined;
  }

  [Symbol.dispose](): void {
    this.#leaveSlots();
    this.#holder?.[Symbol.dispose]();
    this.#lane?.[Symbol.dispose]();
  }
}
