/**
 * The last events of each session, for a client that lost its connection.
 * Bounded by number and age; a restart empties it.
 *
 * @module
 */
import type { TurnEvent } from "../core/turn.ts";

/** How much is kept of a session, and for how long after its last event. */
export const RING_LIMITS = {
  /** Events of a session that can be sent again to who lost its socket; older ones go. */
  eventsMax: 1_000,
  /** How long they can be sent again. */
  ageMs: 300_000,
  /** Sessions whose events are kept; the one unused longest goes. */
  sessionsMax: 2_000,
} as const;

interface Ring {
  events: TurnEvent[];
  lastAt: number;
}

/** Rings by session key, in the order they were last written. */
export class Rings {
  readonly #rings = new Map<string, Ring>();

  add(sessionKey: string, event: TurnEvent): void {
    let ring = this.#rings.get(sessionKey);
    if (ring === undefined) {
      this.#sweep(event.at);
      this.#rings.set(sessionKey, ring = { events: [], lastAt: event.at });
    }
    ring.lastAt = event.at;
    ring.events.push(event);
    if (ring.events.length > RING_LIMITS.eventsMax * 1.25) {
      ring.events.splice(0, ring.events.length - RING_LIMITS.eventsMax);
    }
  }

  /** What is kept of a run after `seq`: not too many, not too old. */
  replay(
    sessionKey: string,
    { runId, seq, now }: { runId: string; seq: number; now: number },
  ): TurnEvent[] {
    const { eventsMax, ageMs } = RING_LIMITS;
    const ring = this.#rings.get(sessionKey);
    if (ring === undefined || now - ring.lastAt > ageMs) return [];
    return ring.events.slice(-eventsMax).filter((event) =>
      event.runId === runId && event.seq > seq
    );
  }

  /** A session that is over and will not be asked for again. */
  forget(sessionKey: string): void {
    this.#rings.delete(sessionKey);
  }

  #sweep(now: number): void {
    for (const [key, ring] of this.#rings) {
      const isOld = now - ring.lastAt > RING_LIMITS.ageMs;
      if (!isOld && this.#rings.size < RING_LIMITS.sessionsMax) break;
      this.#rings.delete(key);
    }
  }
}
