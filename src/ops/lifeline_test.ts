import assert from "node:assert/strict";
import { watchLifeline } from "./lifeline.ts";

function pipe() {
  const { readable, writable } = new TransformStream<
    Uint8Array<ArrayBuffer>,
    Uint8Array<ArrayBuffer>
  >();
  return { readable, writer: writable.getWriter() };
}

Deno.test("watchLifeline() calls once when the pipe ends, whatever came before", async () => {
  const { readable, writer } = pipe();
  const { promise, resolve } = Promise.withResolvers<void>();
  let calls = 0;
  using _watch = watchLifeline(readable, () => {
    calls++;
    resolve();
  });
  await writer.write(new Uint8Array(70_000));
  assert.equal(calls, 0);
  await writer.close();
  await promise;
  assert.equal(calls, 1);
});

Deno.test("watchLifeline() calls when the pipe breaks", async () => {
  const { readable, writer } = pipe();
  const { promise, resolve } = Promise.withResolvers<void>();
  using _watch = watchLifeline(readable, resolve);
  await writer.abort(new TypeError("broken"));
  await promise;
});

Deno.test("watchLifeline() is silent once disposed", async () => {
  const { readable, writer } = pipe();
  let calls = 0;
  watchLifeline(readable, () => calls++)[Symbol.dispose]();
  await writer.closed.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(calls, 0);
});
