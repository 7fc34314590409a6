import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "./errors.ts";
import {
  chunkReader,
  parseJson,
  Pipe,
  readBytes,
  scanJson,
} from "./bounded.ts";

type Bytes = Uint8Array<ArrayBuffer>;

function plain(chunks: readonly Bytes[]): ReadableStream<Bytes> {
  return ReadableStream.from(chunks);
}

function lending(chunks: readonly Bytes[]): ReadableStream<Bytes> {
  const left = [...chunks];
  const source: UnderlyingByteSource = {
    type: "bytes",
    pull: (controller) => {
      const chunk = left.shift();
      if (chunk === undefined) {
        controller.close();
        (controller.byobRequest as ReadableStreamBYOBRequest).respond(0);
      } else controller.enqueue(chunk.slice());
    },
  };
  return new ReadableStream(source);
}

Deno.test("chunkReader() hands on every byte in order, whatever the stream", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 40_000 }), {
        maxLength: 6,
      }),
      fc.boolean(),
      async (pieces, isLending) => {
        const chunks = pieces.map((piece) => new Uint8Array(piece));
        const reader = chunkReader(isLending ? lending(chunks) : plain(chunks));
        const got: number[] = [];
        const kept: Bytes[] = [];
        for (let one = await reader.read(); one; one = await reader.read()) {
          kept.push(one);
        }
        for (const one of kept) got.push(...one);
        assert.deepEqual(got, chunks.flatMap((chunk) => [...chunk]));
      },
    ),
    { numRuns: 40 },
  );
});

Deno.test("readBytes() stops at the limit, and cancels its source", async (t) => {
  const bytes = (count: number) => new Uint8Array(count).fill(1);
  await t.step("at the limit", async () => {
    assert.equal((await readBytes(plain([bytes(3), bytes(2)]), 5)).length, 5);
  });
  await t.step("above it", async () => {
    let isCancelled = false;
    const stream = new ReadableStream<Bytes>({
      pull: (controller) => controller.enqueue(bytes(3)),
      cancel: () => void (isCancelled = true),
    });
    await assert.rejects(
      readBytes(stream, 5),
      (error: AppError) => error.code === "too_large",
    );
    assert.ok(isCancelled);
  });
  await t.step("nothing", async () => {
    assert.equal((await readBytes(null, 5)).length, 0);
  });
});

Deno.test("scanJson() counts before anything is built", async (t) => {
  const limits = { depthMax: 3, nodesMax: 6 };
  const rows: [text: string, isFine: boolean][] = [
    ["[[[]]]", true],
    ["[[[[]]]]", false],
    ['{"a":"[[[[[[","b":1}', true],
    ['["\\"[[[["]', true],
    ["[1,2,3,4]", true],
    ["[1,2,3,4,5,6,7]", false],
  ];
  for (const [text, isFine] of rows) {
    await t.step(text, () => {
      const scan = () => scanJson(text, limits);
      if (isFine) scan();
      else assert.throws(scan, AppError);
    });
  }
});

Deno.test("parseJson() agrees with JSON.parse within its limits", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    const text = JSON.stringify(value);
    const limits = { depthMax: 1000, nodesMax: 100_000 };
    assert.deepEqual(parseJson(text, limits), JSON.parse(text));
  }));
});

Deno.test("Pipe delivers in order, refuses when full, ends when closed", async () => {
  const pipe = new Pipe<number>(2);
  assert.deepEqual([pipe.push(1), pipe.push(2), pipe.push(3)], [
    true,
    true,
    false,
  ]);
  const reading = Array.fromAsync(pipe);
  await Promise.resolve();
  pipe.close();
  assert.deepEqual(await reading, [1, 2]);
  assert.equal(pipe.push(4), false);
});
