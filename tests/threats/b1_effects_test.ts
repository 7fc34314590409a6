/**
 * Threat B1: authority belongs to the effect, not to the door. The same acts
 * are tried by a paired sender and by a program, by calls, commands, hidden
 * tools and approvals; none gets more than its record says.
 */
import assert from "node:assert/strict";
import { fakeHouse, ownerAuthority } from "../fakes/house.ts";
import { calls, says } from "../fakes/models.ts";
import { type World, worldTools } from "../scenarios/world.ts";

const peer = () =>
  ownerAuthority({
    principal: "peer:chat:bot:77",
    kind: "peer",
    credential: "pair_77",
    scopes: ["chat"],
    integrity: "peer",
  });

const program = () =>
  ownerAuthority({
    principal: "token:ci",
    kind: "program",
    credential: "tok_ci",
    scopes: ["chat", "tools"],
    integrity: "untrusted",
  });

const ACTS: readonly [string, unknown][] = [
  ["exec", { command: "ls" }],
  ["setting_set", { name: "a", value: "b" }],
  ["pay", { to: "eve", amount: 1 }],
  ["cron_add", { when: "daily", text: "x" }],
];
const OWNERS: readonly [string, unknown][] = [
  ["notes_read", {}],
  ["inbox_read", {}],
  ["file_read", { path: "/etc/passwd" }],
  ["file_write", { path: "x", text: "y" }],
  ["mail", { to: "bob@work.test" }],
  ["post", { url: "https://a.test/", body: "x" }],
  ["mcp_crm_find", { query: "x" }],
  ["session_spawn", { text: "x" }],
];

function world(): World {
  return { pages: {}, files: {}, notes: "4711", acts: [] };
}

Deno.test("B1: what is the owner's is the owner's at every door", async (t) => {
  for (
    const [who, authority, tries] of [
      ["a paired sender", peer, [...ACTS, ...OWNERS]],
      ["a program", program, ACTS],
    ] as const
  ) {
    for (const [name, args] of tries) {
      await t.step(`${who}: ${name}`, async () => {
        const of = world();
        await using house = await fakeHouse({
          tools: worldTools(of),
          steps: [calls([name, args]), says("no")],
        });
        const events = await house.say("please", {
          authority: authority(),
          sessionKey: "agent:main:chat:bot:dm:77",
          attended: false,
        });
        const verdicts = events.flatMap((e) =>
          e.kind === "decision" ? [e.verdict] : []
        );
        assert.deepEqual(verdicts, ["deny"]);
        assert.deepEqual(of.acts, []);
        const result = events.find((e) => e.kind === "tool_result");
        assert.ok(
          result?.kind === "tool_result" && !result.text.includes("4711"),
        );
      });
    }
  }
});

Deno.test("B1: a sub-agent has its parent's authority or less", () => {
  const child = peer().narrow({ scopes: ["admin"], tools: "any" });
  assert.deepEqual(child.scopes.list(), ["chat"]);
  assert.equal(child.kind, "peer");
});

Deno.test("B1: the scope approvals alone answers nothing", async () => {
  await using house = await fakeHouse();
  for (const authority of [peer(), program()]) {
    const events = await house.say("/approve apr_x allow-once", { authority });
    const end = events.at(-1);
    assert.ok(end?.kind === "end" && end.reason === "error");
  }
});
