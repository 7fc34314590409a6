import assert from "node:assert/strict";
import fc from "fast-check";
import { jsonLine, printable, printableLine } from "./printable.ts";

const STEERS =
  // deno-lint-ignore no-control-regex
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const NOT_ONE_LINE =
  // deno-lint-ignore no-control-regex
  /[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/;

const nasty = fc.string({
  unit: fc.oneof(
    fc.integer({ min: 0, max: 0xff }).map((c) => String.fromCharCode(c)),
    fc.constantFrom("\u202e", "\u2066", "\u200b", "\ufeff", "\r\n", "é", "🦀"),
    fc.constantFrom("\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x1bP+q\x1b\\"),
  ),
  maxLength: 200,
});

Deno.test("printable() lets no character through that steers a terminal", () => {
  fc.assert(fc.property(nasty, (text) => {
    assert.ok(!STEERS.test(printable(text)));
  }));
});

Deno.test("printable() holds for a text cut anywhere", () => {
  fc.assert(fc.property(nasty, fc.nat(200), (text, at) => {
    const both = printable(text.slice(0, at)) + printable(text.slice(at));
    assert.ok(!STEERS.test(both));
  }));
});

Deno.test("printable() changes nothing the second time, and no plain text", () => {
  fc.assert(fc.property(nasty, (text) => {
    assert.equal(printable(printable(text)), printable(text));
  }));
  const plain = "Grüße, 世界 👩‍💻\n\tok";
  assert.equal(printable(plain), plain);
});

Deno.test("printable() shows what it disarms", () => {
  const rows: [text: string, want: string][] = [
    ["\x1b[31mred", "␛[31mred"],
    ["a\r\nb", "a\nb"],
    ["a\rb", "a␍b"],
    ["\x7f\x9b", "␡<U+009B>"],
    ["abc\u202Edef", "abc<U+202E>def"],
    ["", ""],
  ];
  for (const [text, want] of rows) assert.equal(printable(text), want);
});

Deno.test("printableLine() is one line that hides nothing", () => {
  fc.assert(fc.property(nasty, (text) => {
    assert.ok(!NOT_ONE_LINE.test(printableLine(text)));
  }));
  assert.equal(printableLine("a\nb\u200bc\td"), "a⏎b<U+200B>c⇥d");
  assert.equal(printableLine("abcdef", { charsMax: 3 }), "abc… (+3)");
  assert.equal(printableLine("abc", { charsMax: 3 }), "abc");
});

Deno.test("jsonLine() is the same value, and steers nothing", () => {
  fc.assert(fc.property(nasty, (text) => {
    const line = jsonLine({ text });
    assert.deepEqual(JSON.parse(line), { text });
    assert.ok(!STEERS.test(line));
    assert.equal(line.indexOf("\n"), line.length - 1);
  }));
});
