import assert from "node:assert/strict";
import { FakeClock } from "../../../tests/fakes/clock.ts";
import { NODES } from "../../core/methods/node.ts";
import { NodeCalls, type NodeLink } from "./node_calls.ts";

/** A node that answers everything with so many characters. */
function answering(chars: number) {
  const asked: string[] = [];
  const link: NodeLink = {
    id: "conn",
    node: { id: "n", commands: ["c"] },
    sendEvent: (_, { id, idempotencyKey }) => {
      asked.push(idempotencyKey);
      calls.take({
        id,
        nodeId: "n",
        ok: true,
        payloadJSON: JSON.stringify("x".repeat(chars - 2)),
      }, { connId: "conn", nodeId: "n" });
    },
  };
  const clock = new FakeClock();
  const calls = new NodeCalls({
    find: () => link,
    audit: () => Promise.resolve(),
    clock,
  });
  const ask = (idempotencyKey: string) =>
    calls.invoke({
      nodeId: "n",
      command: "c",
      idempotencyKey,
      by: "owner",
      signal: new AbortController().signal,
    });
  return { ask, asked, clock };
}

Deno.test("kept answers are bounded by their length together", async () => {
  const chars = NODES.resultCharsMax;
  const { ask, asked } = answering(chars);
  const fitting = Math.floor(NODES.answersCharsMax / (chars + 64));
  for (let n = 0; n < fitting; n++) await ask(`k${n}`);
  await ask("k0");
  assert.equal(asked.length, fitting, "the first is still known");
  await ask("one more");
  await ask("k1");
  assert.equal(asked.length, fitting + 1, "the second is still known");
  await ask("k0");
  assert.equal(asked.length, fitting + 2, "the first was forgotten");
});

Deno.test("kept answers are bounded by number and age", async () => {
  const { ask, asked, clock } = answering(10);
  await ask("first");
  for (let n = 1; n < NODES.answersMax; n++) await ask(`k${n}`);
  await ask("first");
  assert.equal(asked.length, NODES.answersMax);
  await ask("one more");
  await ask("first");
  assert.equal(asked.length, NODES.answersMax + 2);
  await clock.tick(NODES.answerMs);
  await ask("one more");
  assert.equal(asked.length, NODES.answersMax + 2, "at its last moment");
  await clock.tick(1);
  await ask("one more");
  assert.equal(asked.length, NODES.answersMax + 3);
});
