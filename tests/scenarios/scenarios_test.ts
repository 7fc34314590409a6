import assert from "node:assert/strict";
import { readScenarios, runScenario } from "./scenarios.ts";

Deno.test("scenarios of injected text, compromised models and honest tasks", async (t) => {
  const all = await readScenarios();
  assert.ok(all.size >= 40);
  for (const [name, scenario] of all) {
    await t.step(name, async () => {
      const { decisions, acts, prompts, reply, isAsWanted } = await runScenario(
        name,
        scenario,
      );
      const { want } = scenario;
      assert.deepEqual({ decisions, acts, prompts }, {
        decisions: want.decisions,
        acts: want.acts,
        prompts: want.prompts,
      });
      assert.ok(isAsWanted, `the reply was: ${reply}`);
    });
  }
});
