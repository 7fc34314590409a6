import assert from "node:assert/strict";
import { z } from "zod";
import { contracts } from "./contract.ts";

Deno.test("contracts() makes a schema when it is first read, and once", () => {
  const made: string[] = [];
  const make = (name: string) => () => {
    made.push(name);
    return z.strictObject({ name: z.literal(name) });
  };
  const table = contracts({
    one: {
      scope: "read",
      about: "one",
      input: make("one"),
      output: make("answer"),
    },
    two: {
      scope: "admin",
      owner: true,
      about: "two",
      input: make("two"),
      output: make("answer"),
    },
  });
  assert.deepEqual(Object.keys({ ...table }), ["one", "two"]);
  assert.deepEqual([table.two.scope, table.two.owner], ["admin", true]);
  assert.deepEqual(made, []);
  const { input } = table.one;
  assert.equal(input, table.one.input);
  assert.deepEqual(made, ["one"]);
  assert.equal(input.parse({ name: "one" }).name, "one");
  assert.ok(!input.safeParse({ name: "two" }).success);
});
