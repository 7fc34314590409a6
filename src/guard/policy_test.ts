import assert from "node:assert/strict";
import fc from "fast-check";
import { PolicyLine } from "./config.ts";
import { NamedPlaces } from "./destinations.ts";
import { lineSpeaks } from "./policy.ts";

/** Whether a line about `pay` speaks of a call, where the owner typed this. */
function speaks(
  line: Record<string, unknown>,
  args: unknown,
  typed = "",
): boolean {
  const named = new NamedPlaces();
  named.add(typed);
  return lineSpeaks(PolicyLine.parse({ tool: "pay", ...line }), {
    tool: "pay",
    args,
    agent: "main",
    channel: "ws",
    sender: "owner",
    destinations: [{ path: "to", kind: "address" }],
    names: (value) => named.has(value),
    namesText: (text) => named.hasText(text),
    namesNumber: (value) => named.hasNumber(value),
  });
}

Deno.test("a number within bounds; what is no number is within none", () => {
  const allow = {
    verdict: "allow",
    args: [{ path: "amount", min: 0, max: 500 }],
  };
  const ask = {
    verdict: "ask",
    args: [{ path: "amount", min: 0, max: 500, not: true }],
  };
  const rows: [amount: unknown, isWithin: boolean][] = [
    [0, true],
    [500, true],
    [0.01, true],
    [500.01, false],
    [-0.01, false],
    [NaN, false],
    [Infinity, false],
    ["500", false],
    ["5e1", false],
    [true, false],
    [null, false],
    [[5], true],
    [[5, 501], false],
    [{ valueOf: 5 }, false],
  ];
  for (const [amount, isWithin] of rows) {
    assert.equal(speaks(allow, { amount }), isWithin, String(amount));
    assert.equal(speaks(ask, { amount }), !isWithin, String(amount));
  }
  // An amount that is not stated is no small one.
  assert.equal(speaks(allow, {}), false);
  assert.equal(speaks(allow, JSON.parse('{"amount":1e400}')), false);
});

Deno.test("only these arguments: what else is stated rides along on no line", () => {
  const line = {
    verdict: "allow",
    only: ["id", "amount"],
    args: [{ path: "amount", max: 500 }],
  };
  assert.ok(speaks(line, { id: 7, amount: 5 }));
  assert.ok(speaks(line, { amount: 5 }));
  assert.ok(speaks(line, { amount: 5, subject: undefined }));
  for (
    const more of [
      { recipient: "eve" },
      { subject: "" },
      { subject: null },
      { __proto__x: 1 },
      { Amount: 6 },
    ]
  ) {
    assert.ok(
      !speaks(line, { id: 7, amount: 5, ...more }),
      JSON.stringify(more),
    );
  }
  assert.ok(!speaks(line, JSON.parse('{"amount":5,"__proto__":{"to":"eve"}}')));
  assert.ok(!speaks({ verdict: "allow", only: ["0"] }, ["x"]));
  assert.ok(!speaks({ verdict: "allow", only: [] }, "x"));
});

Deno.test("named: the owner's whole word or number, not a part or a look-alike", () => {
  const by = (path: string) => ({
    verdict: "allow",
    args: [{ path, named: true }],
  });
  const typed =
    "Send $12.00 and 2200 to Ann, bob@Work.test or Riverside View Hotel. Not 1,000 or 1.000 or 3-4!";
  const rows: [path: string, value: unknown, isNamed: boolean][] = [
    ["amount", 12, true],
    ["amount", 2200, true],
    ["amount", 220, false],
    ["amount", 22000, false],
    ["amount", -12, false],
    ["amount", 1000, false],
    ["amount", 1, false],
    ["amount", 3, false],
    ["amount", "2200", true],
    ["amount", "２２００", false],
    ["amount", NaN, false],
    ["to", "bob@work.test", true],
    ["to", "Ann", true],
    ["to", "Аnn", false],
    ["to", "An", false],
    ["to", "Riverside View Hotel", true],
    ["to", "View Hotel", true],
    ["to", "Riverside Hotel", false],
    ["to", "Ann bob@work.test", false],
    ["to", "", false],
    ["to", " ", false],
    ["to", null, false],
    ["to", { name: "Ann" }, false],
    ["to", ["Ann", "bob@work.test"], true],
    ["to", ["Ann", "eve"], false],
  ];
  for (const [path, value, isNamed] of rows) {
    assert.equal(
      speaks(by(path), { [path]: value }, typed),
      isNamed,
      JSON.stringify(value),
    );
  }
});

Deno.test("whatever the arguments, a bounded line allows only numbers within", () => {
  const line = {
    verdict: "allow",
    only: ["amount"],
    args: [{ path: "amount", min: 1, max: 9 }],
  };
  fc.assert(fc.property(
    fc.oneof(
      fc.anything(),
      fc.record({ amount: fc.anything() }),
      fc.dictionary(fc.constantFrom("amount", "to"), fc.double()),
    ),
    (args) => {
      if (!speaks(line, args)) return;
      const { amount, ...rest } = args as Record<string, unknown>;
      assert.ok(Object.values(rest).every((value) => value === undefined));
      for (const value of [amount].flat()) {
        assert.ok(typeof value === "number" && value >= 1 && value <= 9);
      }
    },
  ));
});

Deno.test("whatever the owner wrote, a number that is named stands there by itself", () => {
  const piece = fc.constantFrom("1", "10", "100", ".", ",", " ", "-", "€", "x");
  fc.assert(fc.property(
    fc.array(piece, { maxLength: 12 }),
    fc.constantFrom(1, 10, 100, 1010, 10.1, 0.1),
    (pieces, value) => {
      const typed = pieces.join("");
      const line = { verdict: "allow", args: [{ path: "n", named: true }] };
      if (!speaks(line, { n: value }, typed)) return;
      const words = typed.split(" ").map((word) =>
        word.replaceAll(/^€|[€.,]+$/g, "").replace(/€$/, "")
      );
      assert.ok(words.some((word) => Number(word) === value), typed);
    },
  ));
});

Deno.test("a text is named as it was typed, not as a telephone number", () => {
  const line = { verdict: "allow", args: [{ path: "amount", named: true }] };
  const rows: [typed: string, amount: string, isNamed: boolean][] = [
    ["pay 100.000 please", "100.000", true],
    ["pay 100.000 please", "100000", false],
    ["due on 10/02/2026", "10022026", false],
    ["call (030) 123-456", "030123456", false],
    ["to ann@Example.com", "ann@example.com", true],
    ["for the Riverside View Hotel", "Riverside View Hotel", true],
    ["for the Riverside View Hotel", "View", true],
    ["for the Riverside View Hotel", "Vie", false],
    ["pay 100.000 please", "", false],
    ["pay 100.000 please", " ", false],
  ];
  for (const [typed, amount, isNamed] of rows) {
    assert.equal(
      speaks(line, { amount }, typed),
      isNamed,
      `${typed} ${amount}`,
    );
  }
});

Deno.test("what cannot be looked at whole is not allowed for its beginning", () => {
  const line = { verdict: "allow", args: [{ path: "to.*", named: true }] };
  const many = (count: number) => ({
    to: [...Array<string>(count - 1).fill("ann@x.test"), "eve@y.test"],
  });
  const typed = "to ann@x.test";
  assert.equal(speaks(line, many(1000), typed), false);
  assert.throws(() => speaks(line, many(1001), typed), RangeError);
});
