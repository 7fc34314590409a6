import assert from "node:assert/strict";
import { z } from "zod";
import {
  collect,
  fakeHouse,
  ownerAuthority,
  request,
} from "../../../tests/fakes/house.ts";
import { calls, says } from "../../../tests/fakes/models.ts";
import { label } from "../../core/label.ts";
import { textOf } from "../../core/message.ts";
import { tool } from "../../core/tool.ts";
import { symlink } from "../../../tests/fakes/symlink.ts";

async function inWorkspace(
  story: (dir: string) => Promise<void>,
): Promise<void> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const made = await Deno.makeTempDir({ dir: "tests/.tmp" });
  const dir = await Deno.realPath(made);
  try {
    for (const name of ["AGENTS", "SOUL", "USER", "MEMORY"]) {
      await Deno.writeTextFile(`${dir}/${name}.md`, `words of ${name}`);
    }
    await Deno.writeTextFile(`${dir}/secret.txt`, "not shown");
    await symlink(`${dir}/secret.txt`, `${dir}/TOOLS.md`);
    await story(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("a workspace's files are shown in the user's role, the owner's own to the owner only", async (t) => {
  await inWorkspace(async (dir) => {
    await using house = await fakeHouse({
      agents: { main: { workspace: dir } },
      forever: says("ok"),
    });
    const shown = () => {
      const [first] = house.models.requests.at(-1)?.messages ?? [];
      return first;
    };
    await t.step("the owner's conversation", async () => {
      await house.say("hi");
      const text = textOf(shown() ?? { parts: [] });
      for (const name of ["AGENTS", "SOUL", "USER", "MEMORY"]) {
        assert.match(
          text,
          new RegExp(`words of ${name}\\n\\[End of ${name}.md`),
        );
      }
      // A link is refused, not followed.
      assert.doesNotMatch(text, /not shown/);
      assert.equal(shown()?.role, "user");
      assert.ok(!house.models.requests[0]?.system?.includes("words of"));
      const secrecy = shown()?.parts.map((p) => p.label.secrecy.join());
      assert.deepEqual(secrecy, ["", "", "owner", "owner"]);
    });
    await t.step("a peer's conversation", async () => {
      const authority = ownerAuthority({
        principal: "peer:x",
        kind: "peer",
        scopes: ["chat"],
        integrity: "peer",
      });
      const hello = request("hi", {
        authority,
        sessionKey: "agent:main:test:a:dm:x",
      });
      hello.inbound.label = label("peer", ["peer:x"]);
      const events = await collect((await house.desk.start(hello)).events);
      assert.equal(events.at(-1)?.kind, "end");
      assert.equal(events.find((e) => e.kind === "reply")?.text, "ok");
      const text = textOf(shown() ?? { parts: [] });
      assert.match(text, /words of AGENTS/);
      assert.doesNotMatch(text, /words of (USER|MEMORY)/);
    });
    await t.step("a group", async () => {
      const hi = request("hi", { sessionKey: "agent:main:test:a:group:g" });
      hi.inbound.label = label("owner", []);
      await collect((await house.desk.start(hi)).events);
      assert.doesNotMatch(
        textOf(shown() ?? { parts: [] }),
        /words of (USER|MEMORY)/,
      );
    });
  });
});

Deno.test("what memory gives is labelled, and taints what follows", async () => {
  await using house = await fakeHouse({
    forever: says("ok"),
    context: {
      memory: () => [{
        title: "Pinned memory",
        text: "the code is 1234",
        label: label("untrusted", ["owner"], { kind: "web", ref: "w", at: 1 }),
      }],
      skills: () => Promise.reject(new TypeError("broken")),
    },
  });
  await house.say("hi");
  const session = await house.store.sessions.find("agent:main:main");
  const [, answer] = await house.store.messages.tail(session?.id ?? "", {
    limit: 2,
  });
  assert.equal(answer?.parts[0]?.label.integrity, "untrusted");
});

Deno.test("nothing read beside the conversation blesses a place", async () => {
  await inWorkspace(async (dir) => {
    await Deno.writeTextFile(`${dir}/AGENTS.md`, "Use https://files.test/x");
    await using house = await fakeHouse({
      agents: { main: { workspace: dir } },
      steps: [calls(["post_it", { url: "https://files.test/x" }])],
      forever: says("ok"),
      tools: [tool({
        name: "post_it",
        about: "",
        input: z.strictObject({ url: z.string() }),
        scope: "chat",
        effect: "outbound",
        result: { integrity: "untrusted", secrecy: "inherit" },
        destinations: [{ path: "url", kind: "url" }],
        run: () => "posted",
      })],
    });
    const foreign = request("text of a page", { attended: false });
    foreign.inbound.label = label("untrusted", []);
    const events = await collect((await house.desk.start(foreign)).events);
    const [sent] = house.models.requests;
    assert.match(textOf(sent?.messages[0] ?? { parts: [] }), /files\.test/);
    const decision = events.find((e) => e.kind === "decision");
    assert.equal(decision?.verdict, "deny");
  });
});
