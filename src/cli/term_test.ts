import assert from "node:assert/strict";
import {
  agoText,
  columnsOf,
  durationText,
  makePaint,
  sizeText,
  table,
} from "./term.ts";

const plain = makePaint({ color: false });

Deno.test("table() aligns its columns by what the terminal shows", () => {
  assert.equal(
    table(["A", "LONG"], [["one", "x"], ["世界", "y"], ["\x1b", "z"]], plain),
    "A     LONG\none   x\n世界  y\n␛     z\n",
  );
  assert.equal(columnsOf("é👍"), 3);
});

Deno.test("makePaint() paints only where there are colours", () => {
  assert.equal(plain("red", "x"), "x");
  assert.equal(makePaint({ color: true })("red", "x"), "\x1b[31mx\x1b[39m");
  assert.equal(makePaint({ color: true })("red", ""), "");
});

Deno.test("times and sizes are short", () => {
  assert.equal(durationText(0), "0 s");
  assert.equal(durationText(65_000), "1 min 5 s");
  assert.equal(durationText(273_600_000), "3 d 4 h");
  assert.equal(agoText(0, 59_999), "now");
  assert.equal(agoText(0, 3_600_000), "1 h ago");
  assert.equal(agoText(86_400_000, 0), "in 1 d");
  assert.equal(agoText(30 * 86_400_000, 5000), "in 30 d");
  assert.equal(sizeText(999), "999 B");
  assert.equal(sizeText(41_300_000), "41.3 MB");
});
