import assert from "node:assert/strict";
import fc from "fast-check";
import { label } from "../../core/label.ts";
import {
  type Message,
  NO_USAGE,
  type StoredMessage,
} from "../../core/message.ts";
import type { Session } from "../../store/sessions.ts";
import { AgentConfig, AgentLimits } from "../config.ts";
import { assemble, type ContextInput, historyWindow } from "./context.ts";
import { planCut } from "./compact.ts";
import { NO_SECTIONS } from "./sections.ts";
import { calibration, estimateAll, estimateText } from "./tokens.ts";
import { squeeze, trimOld } from "./trim.ts";

const own = label("owner", ["owner"]);

function session(change: Partial<Session> = {}): Session {
  return {
    key: "agent:main:main",
    id: "ses_0123456789ab",
    agentId: "main",
    kind: "main",
    createdAt: 1,
    updatedAt: 1,
    seq: 0,
    queueMode: "queue",
    usage: NO_USAGE,
    joined: own,
    owner: "owner",
    ...change,
  };
}

let seq = 0;
function user(text: string): StoredMessage {
  const parts = [{ kind: "text" as const, text, label: own }];
  return { role: "user", parts, seq: ++seq, at: 1 };
}
function said(text: string): StoredMessage {
  const parts = [{ kind: "text" as const, text, label: own }];
  return { role: "assistant", parts, seq: ++seq, at: 1 };
}
function exchange(result: string): StoredMessage[] {
  const id = `call_${++seq}`;
  return [{
    role: "assistant",
    parts: [{ kind: "tool_call", id, name: "t", args: {}, label: own }],
    seq: ++seq,
    at: 1,
  }, {
    role: "tool",
    parts: [{
      kind: "tool_result",
      callId: id,
      name: "t",
      text: result,
      isError: false,
      label: own,
    }],
    seq: ++seq,
    at: 1,
  }];
}

function input(
  history: StoredMessage[],
  change: Partial<ContextInput> = {},
): ContextInput {
  return {
    agentId: "main",
    agent: AgentConfig.parse({}),
    limits: AgentLimits.parse({}),
    session: session({ seq: history.length }),
    history,
    summary: undefined,
    sections: NO_SECTIONS,
    tools: [],
    model: "fake:1",
    window: { tokens: 32_000, because: "a test" },
    outputTokensMax: 1_000,
    thinkingTokens: 0,
    ...change,
  };
}

Deno.test("assemble() counts every section, and the sum is the whole", () => {
  const built = assemble(input([user("hello"), said("hi")], {
    sections: {
      list: [{
        name: "workspace",
        parts: [{ kind: "text", text: "Be kind", label: own }],
        titles: ["SOUL.md"],
        tokens: 40,
      }],
      label: own,
    },
  }));
  const { account, request } = built;
  assert.deepEqual(account.sections.map((s) => s.name), [
    "system",
    "tools",
    "workspace",
    "history",
  ]);
  const sum = account.sections.reduce((all, s) => all + s.tokens, 0);
  assert.equal(sum, account.usedTokens);
  assert.equal(account.counted, "estimate");
  // In the user's role, before the conversation, never in the system's.
  assert.equal(request.messages[0]?.role, "user");
  assert.doesNotMatch(request.system ?? "", /Be kind/);
});

Deno.test("a vendor's own count corrects the next guess", () => {
  const context = {
    tokens: 2_000,
    estimate: 1_000,
    windowTokens: 32_000,
    model: "fake:1",
  };
  const history = [user("a ".repeat(400))];
  const plain = assemble(input(history)).account;
  const told = assemble(input(history, { session: session({ context }) }))
    .account;
  assert.equal(told.counted, "vendor");
  assert.equal(told.lastTokens, 2_000);
  assert.ok(Math.abs(told.usedTokens - plain.usedTokens * 2) <= 4);
  assert.equal(calibration(context, "other:1"), 1);
  assert.equal(calibration({ ...context, tokens: 90_000 }, "fake:1"), 2.5);
});

Deno.test("old large results are shown shorter before anything else goes", () => {
  const big = "x".repeat(40_000);
  const history = [
    user("first"),
    ...exchange(big),
    said("done"),
    user("second"),
    said("yes"),
    user("third"),
    ...exchange("y".repeat(4_000)),
  ];
  const { account, request, pressure } = assemble(
    input(history, { window: { tokens: 14_000, because: "" } }),
  );
  assert.equal(account.messages.trimmed, 1);
  assert.equal(request.messages.length, history.length);
  assert.ok(pressure < 0.8);
  const result = request.messages[2]?.parts[0];
  assert.ok(result?.kind === "tool_result" && result.text.length < 2_000);
  // What is stored stays whole, and so do the present turn's results.
  const stored = history[2]?.parts[0];
  assert.ok(stored?.kind === "tool_result" && stored.text === big);
  assert.equal(request.messages.at(-1), history.at(-1));
});

Deno.test("a turn whose own results are too large still fits", () => {
  const history = [user("go"), ...exchange("z".repeat(400_000))];
  const { account } = assemble(
    input(history, { window: { tokens: 8_192, because: "" } }),
  );
  assert.ok(account.usedTokens < 8_192, String(account.usedTokens));
});

Deno.test("estimateText() counts wide scripts higher", () => {
  assert.equal(estimateText("abcd".repeat(10)), 10);
  assert.ok(estimateText("漢字".repeat(10)) >= 12);
});

/** Conversations as the loop makes them: users, answers, whole exchanges. */
const turns = fc.array(
  fc.oneof(
    fc.string({ maxLength: 200 }).map((text) => [user(text)]),
    fc.string({ maxLength: 200 }).map((text) => [said(text)]),
    fc.string({ maxLength: 5_000 }).map((text) => exchange(text)),
  ),
  { minLength: 1, maxLength: 40 },
).map((parts) => parts.flat());

function hasLooseResult(messages: readonly Message[]): boolean {
  const open = new Set<string>();
  for (const part of messages.flatMap((m) => m.parts)) {
    if (part.kind === "tool_call") open.add(part.id);
    if (part.kind === "tool_result" && !open.delete(part.callId)) return true;
  }
  return false;
}

Deno.test("property: no cut separates a result from its call, none loses the end", () => {
  fc.assert(fc.property(
    turns,
    fc.integer({ min: 1, max: 3_000 }),
    fc.integer({ min: 1, max: 30 }),
    (history, tokensMax, messagesMax) => {
      const cut = planCut(history, { tokensMax, messagesMax });
      const tail = history.slice(cut);
      assert.ok(tail.length > 0);
      if (!hasLooseResult(history)) assert.ok(!hasLooseResult(tail));
      const shown = historyWindow(history, tokensMax);
      if (history.some((m) => m.role === "user")) {
        assert.ok(shown.length > 0);
      }
    },
  ));
});

Deno.test("property: trimming keeps roles, ids and labels, and never grows", () => {
  fc.assert(
    fc.property(
      turns,
      fc.integer({ min: 50, max: 5_000 }),
      (history, chars) => {
        for (const shown of [trimOld(history), squeeze(history, chars)]) {
          assert.equal(shown.length, history.length);
          assert.ok(
            estimateAll(shown) <= estimateAll(history) + 25 * history.length,
          );
          for (const [n, message] of shown.entries()) {
            assert.equal(message.role, history[n]?.role);
            assert.deepEqual(
              message.parts.map((p) => p.label),
              history[n]?.parts.map((p) => p.label),
            );
          }
        }
      },
    ),
  );
});
