import assert from "node:assert/strict";
import { recordEnv } from "../config/env.ts";
import { Prompt } from "./prompt.ts";
import type { Io } from "./verb.ts";

/** A terminal whose keys are typed by the test. */
function fakeTerminal() {
  const keys = new TransformStream<
    Uint8Array<ArrayBuffer>,
    Uint8Array<ArrayBuffer>
  >();
  const writer = keys.writable.getWriter();
  const state = { shown: "", now: 0, isRaw: false };
  const io: Io = {
    args: [],
    env: recordEnv({}),
    clock: {
      now: () => state.now,
      sleep: () => Promise.reject(new TypeError("nobody sleeps here")),
    },
    out: (text) => void (state.shown += text),
    err: () => {},
    isTerminal: true,
    color: false,
    stdin: keys.readable,
    stdinIsTerminal: true,
    setRaw: (on) => void (state.isRaw = on),
    columns: () => 80,
    onInterrupt: () => ({ [Symbol.dispose]: () => {} }),
  };
  const type = (text: string) => writer.write(new TextEncoder().encode(text));
  return { io, type, state, hangUp: () => writer.close() };
}

const CTRL_C = "\x03";
const CTRL_D = "\x04";
const UP = "\x1b[A";

Deno.test("Prompt.ask() reads a line, edited and from history", async (t) => {
  const { io, type, state } = fakeTerminal();
  const prompt = new Prompt(io);
  await t.step("a line", async () => {
    const asked = prompt.ask("> ");
    assert.ok(state.isRaw);
    await type("hellp\x7fo\r");
    assert.deepEqual(await asked, { kind: "line", text: "hello" });
    assert.ok(!state.isRaw);
    assert.match(state.shown, /> /);
  });
  await t.step("the line before the last", async () => {
    const asked = prompt.ask("> ", { history: ["newest", "older"] });
    await type(`${UP}${UP}\r`);
    assert.deepEqual(await asked, { kind: "line", text: "older" });
  });
  await t.step("Ctrl-C, on something and on nothing", async () => {
    const first = prompt.ask("> ");
    await type(`half${CTRL_C}`);
    assert.deepEqual(await first, { kind: "interrupt", wasEmpty: false });
    const second = prompt.ask("> ");
    await type(CTRL_C);
    assert.deepEqual(await second, { kind: "interrupt", wasEmpty: true });
  });
  await t.step("Ctrl-D", async () => {
    const asked = prompt.ask("> ");
    await type(CTRL_D);
    assert.deepEqual(await asked, { kind: "end" });
  });
  prompt.close();
});

Deno.test("Prompt.ask() loses nothing of a paste", async () => {
  const { io, type } = fakeTerminal();
  const prompt = new Prompt(io);
  const first = prompt.ask("> ");
  await type("one\rtwo\rthree");
  assert.deepEqual(await first, { kind: "line", text: "one" });
  assert.deepEqual(await prompt.ask("> "), { kind: "line", text: "two" });
  const third = prompt.ask("> ");
  await type("!\r");
  assert.deepEqual(await third, { kind: "line", text: "three!" });
  prompt.close();
});

Deno.test("Prompt.ask() does not take what was typed before as a fresh answer", async () => {
  const { io, type, state } = fakeTerminal();
  const prompt = new Prompt(io);
  const message = prompt.ask("> ");
  await type("go\ry\r");
  assert.deepEqual(await message, { kind: "line", text: "go" });
  const fresh = prompt.ask("allow? ", { isFresh: true });
  await type("y\r"); // still at the moment the question was shown
  state.now = 1000;
  await type("n\r");
  assert.deepEqual(await fresh, { kind: "line", text: "n" });
  assert.deepEqual(await prompt.ask("> "), { kind: "line", text: "y" });
  prompt.close();
});

Deno.test("Prompt.ask() ends when it is taken back, or the input ends", async () => {
  const { io, hangUp } = fakeTerminal();
  const prompt = new Prompt(io);
  const back = new AbortController();
  const asked = prompt.ask("> ", { signal: back.signal });
  back.abort();
  assert.deepEqual(await asked, { kind: "end" });
  const last = prompt.ask("> ");
  await hangUp();
  assert.deepEqual(await last, { kind: "end" });
  prompt.close();
});
