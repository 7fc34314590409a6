/**
 * Promise 4: every act is decided in one place, whoever asks for it: the owner's
 * rules hold for the model's calls, and each decision has its row.
 */
import assert from "node:assert/strict";
import { fakeOpenai } from "../fakes/openai.ts";
import { say } from "../fakes/vendor.ts";
import { ask, client, openai, providedBy, start } from "../process/gateways.ts";
import { scratch } from "../process/processes.ts";

const RULES = {
  guard: {
    policy: [
      { verdict: "deny", tool: "memory_write" },
      {
        verdict: "deny",
        tool: "math_eval",
        args: [{ path: "expression", equals: "6*7" }],
      },
    ],
  },
};

Deno.test("every act is decided in one place", async (t) => {
  await using dir = await scratch();
  await using fake = await fakeOpenai({ script: () => say("ok") });
  await using gateway = await start({
    dir: dir.path,
    env: {
      ...providedBy(fake),
      CARAPACE_CONFIG_JSON: JSON.stringify(RULES),
    },
  });
  using one = await client(gateway);
  const decisions: Record<string, unknown>[] = [];
  using _listening = one.listen((notice) => {
    if (notice.kind !== "event" || notice.event !== "agent") return;
    const { stream, data } = notice.payload as {
      stream: string;
      data: Record<string, unknown>;
    };
    if (stream === "decision") decisions.push(data);
  });
  const names = () =>
    (fake.requests.at(-1)?.body.tools ?? []).map(
      (tool: { function: { name: string } }) => tool.function.name,
    );
  const calls = (name: string, args: unknown) => (): void => {
    let asked = 0;
    fake.script = () =>
      ++asked === 1 ? { calls: [{ name, args }] } : say("so be it");
  };
  const lastResult = () =>
    fake.requests.at(-1)?.body.messages.findLast(
      (message: { role: string }) => message.role === "tool",
    )?.content;

  await t.step(
    "what a rule denies is not offered, and gives nothing when called",
    async () => {
      calls("memory_write", { text: "a secret of the test" })();
      await ask(one, "remember");
      assert.ok(names().includes("math_eval"));
      assert.ok(!names().includes("memory_write"));
      assert.equal(decisions.at(-1)?.["verdict"], "deny");
      assert.doesNotMatch(lastResult(), /a secret of the test/);
    },
  );
  await t.step(
    "a call that a rule denies for its arguments does not run",
    async () => {
      calls("math_eval", { expression: "6*7" })();
      const { status } = await ask(one, "what is 6*7?");
      assert.equal(status, "ok");
      assert.doesNotMatch(lastResult(), /42/);
      const last = decisions.at(-1);
      assert.deepEqual([last?.["name"], last?.["verdict"]], [
        "math_eval",
        "deny",
      ]);
      calls("math_eval", { expression: "6*8" })();
      await ask(one, "what is 6*8?");
      assert.match(lastResult(), /48/, "only that one");
    },
  );
  await t.step("through the other door too", async () => {
    calls("math_eval", { expression: "6*7" })();
    const api = await openai(gateway);
    await api.chat.completions.create({
      model: "carapace",
      messages: [{ role: "user", content: "what is 6*7?" }],
    });
    assert.doesNotMatch(lastResult(), /42/);
  });
  await t.step("what is allowed was decided as well", async () => {
    const before = decisions.length;
    calls("current_time", {})();
    await ask(one, "what time is it?");
    const [{ name, verdict, reason } = {}] = decisions.slice(before);
    assert.deepEqual([name, verdict], ["current_time", "allow"]);
    assert.match(String(reason), /^[a-z]/, "in words, for who reads it");
  });
});
