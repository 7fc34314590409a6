import assert from "node:assert/strict";
import { openGatewayHouse } from "../../../tests/fakes/gateway_house.ts";
import type { ModelEvent, Provider } from "../../core/model.ts";
import { SecretSet } from "../../guard/screen/leaks.ts";

const SECRET = "nest-egg-0123456789";

/** A vendor that asks for a tool with such arguments. */
function calling(args: unknown): Provider {
  return {
    id: "vendor",
    kind: "anthropic",
    async *stream(): AsyncGenerator<ModelEvent, void, undefined> {
      await Promise.resolve();
      yield { kind: "tool_call", id: "c1", name: "note", args };
      yield { kind: "end", reason: "tool_calls" };
    },
    models: () => Promise.resolve([]),
  };
}

Deno.test("A1: a tool's arguments come without this program's own secrets, and come to an end", async (t) => {
  const rows: [what: string, args: unknown, want: unknown][] = [
    ["nothing of it", { a: 'x "\n' }, { a: 'x "\n' }],
    ["it alone", { a: SECRET }, { a: "[secret]" }],
    ["in a name", { [SECRET]: 1 }, { "[secret]": 1 }],
    // As JSON the line break ends with the letter that the secret begins with.
    ["after a line break", { a: `\n${SECRET.slice(1)}` }, {}],
  ];
  for (const [what, args, want] of rows) {
    await t.step(what, async () => {
      await using house = await openGatewayHouse({
        providers: [calling(args)],
        deps: { secrets: () => new SecretSet([SECRET]) },
      });
      const answer = await house.post("/v1/chat/completions", {
        model: "vendor:m",
        messages: [{ role: "user", content: "hi" }],
      });
      const { choices } = await answer.json();
      const [call] = choices[0].message.tool_calls;
      assert.deepEqual(JSON.parse(call.function.arguments), want);
    });
  }
});
