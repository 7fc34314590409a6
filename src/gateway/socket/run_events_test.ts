import assert from "node:assert/strict";
import fc from "fast-check";
import { Rings } from "../../agent/ring.ts";
import { NO_USAGE } from "../../core/message.ts";
import type { TurnEvent, TurnEventBody } from "../../core/turn.ts";
import {
  Feeds,
  replayRun,
  toDeltaEvents,
  type WireEvent,
} from "./run_events.ts";

const RUN = {
  runId: "run_a",
  sessionKey: "agent:main:main",
  agentId: "main",
  principal: "owner",
  credential: "tok",
};

/** What a client makes of `chat` events, by each of its two ways. */
class Reader {
  /** By the deltas of protocol 4. */
  text = "";
  /** By the whole message of protocol 3. */
  message = "";
  last = "";
  seq = 0;

  // deno-lint-ignore no-explicit-any
  take({ event, payload }: { event: string; payload: any }): void {
    if (event === "agent") assert.ok(payload.seq >= this.seq, "in order");
    this.seq = Math.max(this.seq, payload.seq ?? 0);
    if (event !== "chat") return;
    if (payload.message !== undefined) {
      this.message = payload.message.content[0].text;
    }
    if (payload.state !== "delta") {
      assert.equal(this.last, "", "one last chat event");
      this.last = payload.state;
    } else if (payload.replace === true) this.text = payload.deltaText;
    else this.text += payload.deltaText;
  }
}

function numbered(bodies: readonly TurnEventBody[]): TurnEvent[] {
  return bodies.map((body, n) =>
    ({ ...body, runId: RUN.runId, seq: n + 1, at: n }) as TurnEvent
  );
}

/** The live events of a run, told as they are when nobody is slow. */
function live(events: readonly TurnEvent[]): (readonly WireEvent[])[] {
  const feeds = new Feeds(10);
  return events.map((event) =>
    feeds.read(event, RUN).flatMap((item) =>
      item.kind === "text" ? toDeltaEvents(item) : [item]
    )
  );
}

const Bodies = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.string({ minLength: 1, maxLength: 4 }) },
    { weight: 1, arbitrary: fc.constant(1) },
    { weight: 1, arbitrary: fc.constant(2) },
  ),
  { maxLength: 40 },
).map((parts): TurnEventBody[] => [
  {
    kind: "accepted",
    sessionKey: RUN.sessionKey,
    sessionId: "s",
    agentId: "main",
  },
  ...parts.map((part): TurnEventBody =>
    part === 1
      ? { kind: "step", step: 1, model: "m" }
      : part === 2
      ? { kind: "thinking", text: "hm" }
      : { kind: "text", text: String(part) }
  ),
]);

Deno.test("who was away has the same words as who was not, whatever was kept", () => {
  const Story = fc.record({
    bodies: Bodies,
    left: fc.nat(40),
    back: fc.nat(40),
    dropped: fc.nat(40),
    isOver: fc.boolean(),
  });
  fc.assert(
    fc.property(
      Story,
      ({ bodies, left, back, dropped, isOver }) => {
        const events = numbered([
          ...bodies,
          ...isOver
            ? [
              { kind: "reply", text: "all of it", model: "m" },
              { kind: "end", reason: "done", usage: NO_USAGE },
            ] as const
            : [],
        ]);
        const wire = live(events);
        const always = new Reader();
        for (const one of wire.flat()) always.take(one);
        // Away from after `left` events until `until`; `kept` are kept then.
        const until = Math.min(left + back, events.length);
        const feeds = new Feeds(10);
        for (const event of events.slice(0, until)) feeds.read(event, RUN);
        const kept = events.slice(Math.min(dropped, until), until);
        const away = new Reader();
        for (const one of wire.slice(0, left).flat()) away.take(one);
        const seq = Math.min(left, events.length);
        const text = feeds.textOf(RUN.runId);
        for (const one of replayRun(kept, RUN, { seq, text })) away.take(one);
        for (const one of wire.slice(Math.max(until, left)).flat()) {
          away.take(one);
        }
        const isAllLost = kept.length === 0 && until > left;
        if (isAllLost) return;
        assert.equal(away.last, always.last);
        const isReplyLost = isOver && until === events.length &&
          until > left && !kept.some(({ kind }) => kind === "reply");
        if (!isReplyLost) assert.equal(away.message, always.message);
        if (!isOver) assert.equal(away.text, always.text);
      },
    ),
    { numRuns: 2_000 },
  );
});

Deno.test("a run is told again from the border of what is kept of its session", () => {
  for (const more of [0, 1, 400]) {
    const rings = new Rings();
    const feeds = new Feeds(10);
    const words = 999 + more;
    const events = numbered([
      {
        kind: "accepted",
        sessionKey: RUN.sessionKey,
        sessionId: "s",
        agentId: "main",
      },
      ...Array.from(
        { length: words },
        (_, n): TurnEventBody => ({ kind: "text", text: `${n} ` }),
      ),
    ]);
    for (const event of events) {
      rings.add(RUN.sessionKey, event);
      feeds.read(event, RUN);
    }
    const { runId } = RUN;
    const of = (seq: number) =>
      replayRun(
        rings.replay(RUN.sessionKey, { runId, seq: 0, now: words }),
        RUN,
        { seq, text: feeds.textOf(runId) },
        // deno-lint-ignore no-explicit-any
      ).filter(({ event }) => event === "chat").map(({ payload }: any) => ({
        seq: payload.seq,
        delta: payload.deltaText,
        replace: payload.replace ?? false,
        isWhole: payload.message.content[0].text === feeds.textOf(runId),
      }));
    const text = feeds.textOf(runId) ?? "";
    const first = 1 + more;
    const seq = events.length;
    // The last that has all, the first that has not.
    assert.deepEqual(of(first - 1), [{
      seq,
      delta: more === 0 ? text : text.slice(wordsBefore(first - 1)),
      // With nothing before them, they begin anew, which changes nothing.
      replace: more === 1,
      isWhole: true,
    }]);
    if (more > 0) {
      assert.deepEqual(of(first - 2), [{
        seq,
        delta: text,
        replace: true,
        isWhole: true,
      }]);
    }
    assert.deepEqual(of(seq), []);
    assert.equal(of(seq - 1)[0]?.delta, `${words - 1} `);
  }
});

/** Characters of the words up to an event's number. */
function wordsBefore(seq: number): number {
  let chars = 0;
  for (let n = 0; n < seq - 1; n++) chars += `${n} `.length;
  return chars;
}

Deno.test("what is said after a restart replaces what was said before it", () => {
  const accepted = {
    kind: "accepted",
    sessionKey: RUN.sessionKey,
    sessionId: "s",
    agentId: "main",
  } as const;
  const again = ([accepted, { kind: "text", text: "anew" }] as const).map(
    (body, n) =>
      ({ ...body, runId: RUN.runId, seq: 1_000_001 + n, at: n }) as TurnEvent,
  );
  const reader = new Reader();
  const before = numbered([accepted, { kind: "text", text: "half a" }]);
  for (const one of live(before).flat()) reader.take(one);
  const { seq } = reader;
  for (const one of replayRun(again, RUN, { seq, text: "anew" })) {
    reader.take(one);
  }
  assert.deepEqual([reader.text, reader.message], ["anew", "anew"]);
});
