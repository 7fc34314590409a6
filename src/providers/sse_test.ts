import assert from "node:assert/strict";
import fc from "fast-check";
import { COMMENT, readLines, readSse } from "./sse.ts";

async function* chunks(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    yield await Promise.resolve(new TextEncoder().encode(part));
  }
}

async function* bytes(
  whole: Uint8Array,
  sizes: readonly number[],
): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (let n = 0; at < whole.length; n++) {
    const size = sizes[n % sizes.length] ?? 1;
    yield await Promise.resolve(whole.subarray(at, at + size));
    at += size;
  }
}

Deno.test("readSse() reads what servers send", async (t) => {
  const rows: [why: string, wire: string[], want: [string, string][]][] = [
    ["a data line", ["data: a\n\n"], [["message", "a"]]],
    ["a named event", ["event: x\ndata: a\n\n"], [["x", "a"]]],
    ["no space", ["data:a\n\n"], [["message", "a"]]],
    ["two data lines", ["data: a\ndata: b\n\n"], [["message", "a\nb"]]],
    ["CRLF", ["event: x\r\ndata: a\r\n\r\n"], [["x", "a"]]],
    ["CRLF cut in two", ["data: a\r", "\n\r", "\ndata: b\r\n\r\n"], [
      ["message", "a"],
      ["message", "b"],
    ]],
    ["CR alone", ["data: a\r\rdata: b\r\r"], [["message", "a"], [
      "message",
      "b",
    ]]],
    ["a byte order mark", ["\uFEFFdata: a\n\n"], [["message", "a"]]],
    ["id and retry are not ours", ["id: 1\nretry: 5\ndata: a\n\n"], [[
      "message",
      "a",
    ]]],
    ["an event without data is none", ["event: x\n\ndata: a\n\n"], [[
      "message",
      "a",
    ]]],
    ["no blank line at the end", ["data: [DONE]"], [["message", "[DONE]"]]],
    ["nothing", [], []],
  ];
  for (const [why, wire, want] of rows) {
    await t.step(why, async () => {
      const frames = await Array.fromAsync(readSse(chunks(...wire)));
      assert.deepEqual(frames.map(({ event, data }) => [event, data]), want);
    });
  }
  await t.step("a comment is a sign of life", async () => {
    const frames = await Array.fromAsync(readSse(chunks(": PROCESSING\n\n")));
    assert.deepEqual(frames, [COMMENT]);
  });
});

Deno.test("readLines() gives the same lines however the bytes are cut", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.string({ unit: "grapheme", maxLength: 12 }), { maxLength: 12 }),
    fc.constantFrom("\n", "\r\n", "\r"),
    fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 }),
    async (lines, end, sizes) => {
      const clean = lines.map((line) =>
        line.replaceAll(/[\r\n\uFEFF]/g, " ").toWellFormed()
      );
      const whole = new TextEncoder().encode(
        clean.map((line) => line + end).join(""),
      );
      const read = await Array.fromAsync(readLines(bytes(whole, sizes)));
      assert.deepEqual(read.flat(), clean);
    },
  ));
});

Deno.test("readLines() refuses a line without end", async () => {
  const endless = async function* () {
    const chunk = new Uint8Array(1 << 20).fill(97);
    for (let n = 0; n < 100; n++) yield await Promise.resolve(chunk);
  };
  await assert.rejects(Array.fromAsync(readLines(endless())), {
    code: "too_large",
  });
});
