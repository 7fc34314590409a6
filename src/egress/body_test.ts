import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { type BodyEnd, capBody } from "./body.ts";

type Bytes = Uint8Array<ArrayBuffer>;

const first = new TextEncoder().encode("one");

for (const encoding of [undefined, "gzip"]) {
  Deno.test(`capBody() ends by its signal, although its source does not (${encoding})`, async () => {
    const controller = new AbortController();
    const why = new DOMException("stopped", "AbortError");
    let cancelled: unknown;
    const source = new ReadableStream<Bytes>({
      // One chunk, then silence: as a fetch whose own signal was collected.
      start: (to) =>
        to.enqueue(
          encoding === undefined ? first : new Uint8Array(gzipSync(first)),
        ),
      cancel: (reason) => void (cancelled = reason),
    });
    const ends: BodyEnd[] = [];
    const body = capBody(source, {
      encoding,
      signal: controller.signal,
      responseBytesMax: 1_000,
      inflateRatioMax: 100,
      onEnd: (end) => void ends.push(end),
      toFailure: () => "cancelled",
      toError: () => controller.signal.reason,
    });
    const reader = body.getReader();
    assert.deepEqual((await reader.read()).value?.length, first.length);
    const waiting = reader.read();
    controller.abort(why);
    await assert.rejects(waiting, why);
    assert.equal(cancelled, why);
    assert.deepEqual(ends, [{ failure: "cancelled", whole: false, bytes: 3 }]);
  });
}
