/**
 * What a decision costs: `deno run -A tests/bench/decide_bench.ts` prints the
 * percentiles in microseconds as JSON. A conversation of 50 messages, a policy
 * of 20 lines; each decision draws its facts anew, as a turn does.
 */
import { Authority } from "../../src/core/authority.ts";
import { label } from "../../src/core/label.ts";
import type { Message } from "../../src/core/message.ts";
import { PolicyLine } from "../../src/guard/config.ts";
import { decide, type DecisionInput } from "../../src/guard/decide.ts";
import { contextFacts } from "../../src/guard/facts.ts";

const ROUNDS = 20_000;
const WARM = 2_000;

const authority = new Authority({
  principal: "owner",
  kind: "owner",
  credential: "c",
  revision: 1,
  scopes: ["admin"],
  agents: "any",
  models: "any",
  tools: "any",
  integrity: "owner",
});

const PAGE = label("untrusted", [], {
  kind: "web",
  ref: "https://news.test/",
  at: 1,
});
const OWN = label("owner", ["owner"], { kind: "owner", ref: "cli", at: 1 });

const MESSAGES: Message[] = Array.from({ length: 50 }, (_, n): Message => {
  const text = `Message ${n}: ${"some words of a talk, ".repeat(20)}`;
  if (n % 3 === 0) {
    return { role: "user", parts: [{ kind: "text", text, label: OWN }] };
  }
  return n % 3 === 1
    ? { role: "assistant", parts: [{ kind: "text", text, label: PAGE }] }
    : {
      role: "tool",
      parts: [{
        kind: "tool_result",
        callId: `c${n}`,
        name: "t",
        text: `${text} https://news.test/${n}`,
        isError: false,
        label: n % 2 === 0 ? PAGE : OWN,
        adds: n % 2 === 0 ? [] : ["owner"],
      }],
    };
});

const policy = Array.from({ length: 20 }, (_, n) =>
  PolicyLine.parse({
    verdict: n % 2 === 0 ? "allow" : "ask",
    tool: `other_${n}_*`,
    args: [{ path: "url", hostIn: ["*.work.test"] }],
  }));

function input(
  kind: "named" | "stranger" | "plain" | "clean",
  n = 0,
): DecisionInput {
  const isFetch = kind === "plain";
  return {
    call: {
      tool: {
        name: isFetch ? "web_fetch" : "mail",
        scope: "chat",
        effect: isFetch ? "fetch" : "message",
        destinations: isFetch
          ? [{ path: "url", kind: "url" }]
          : [{ path: "to", kind: "address" }],
      },
      args: isFetch
        ? { url: `https://docs.test/guide/start?lang=en&page=${n}` }
        : { to: kind === "named" ? "words" : "eve@evil.test", body: "hi" },
    },
    context: contextFacts(MESSAGES, {
      joined: kind === "clean" ? OWN : PAGE,
      agent: "main",
      channel: "ws",
      sessionKey: "agent:main:main",
      sessionId: "ses_1",
      blesses: "owner",
      fetches: 0,
    }),
    authority,
    attended: true,
    replyTo: undefined,
    trusted: new Set(),
    audienceOf: () => "world",
    grants: [],
    policy,
    remembered: [],
  };
}

const result: Record<string, Record<string, number>> = {};
for (const kind of ["clean", "named", "stranger", "plain"] as const) {
  const took = new Float64Array(ROUNDS);
  const shared = input(kind);
  for (let n = -WARM; n < ROUNDS; n++) {
    // Another address each time: nothing is remembered of it.
    const one = { ...shared, call: input(kind, n).call };
    const begun = performance.now();
    decide(one);
    if (n >= 0) took[n] = (performance.now() - begun) * 1000;
  }
  took.sort();
  const at = (share: number) =>
    Math.round((took[Math.floor(ROUNDS * share)] ?? 0) * 10) / 10;
  // A turn's first decision has its facts to draw as well.
  const first = new Float64Array(1_000);
  for (let n = 0; n < first.length; n++) {
    const fresh = input(kind);
    const begun = performance.now();
    decide(fresh);
    first[n] = (performance.now() - begun) * 1000;
  }
  first.sort();
  result[kind] = {
    p50: at(0.5),
    p99: at(0.99),
    withFactsP50: Math.round((first[500] ?? 0) * 10) / 10,
    withFactsP99: Math.round((first[990] ?? 0) * 10) / 10,
  };
}
console.log(
  JSON.stringify({ unit: "us", messages: MESSAGES.length, ...result }),
);
