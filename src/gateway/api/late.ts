/**
 * Answers that take long get their headers before they are known.
 *
 * The runtime notices that a client left only once headers were sent (unless
 * the whole request came in one packet), and proxies give up on a silent one. So
 * an answer has a while to fail with its own status; after that it is a 200
 * whose body says how it went.
 *
 * @module
 */
import { AppError, ignore } from "../../core/errors.ts";
import type { Call } from "../call.ts";
import {
  type Dialect,
  errorFrame,
  toAppError,
  toErrorBody,
} from "../http_errors.ts";
import type { GatewayLimits } from "../limits.ts";
import { SSE_HEADERS } from "./chat_completions/answer.ts";

const encoder = new TextEncoder();

/** What a late answer needs to know of the request. */
export interface LateOptions {
  call: Call;
  isStream: boolean;
  limits: GatewayLimits;
  dialect: Dialect;
}

/** The answer itself when it comes soon, else one that goes on to become it. */
export async function answerSoon(
  answer: Promise<Response>,
  options: LateOptions,
): Promise<Response> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), options.limits.headMs);
  try {
    const soon = await Promise.race([answer, promise]);
    return soon ?? goOn(answer, options);
  } finally {
    clearTimeout(timer);
  }
}

function goOn(answer: Promise<Response>, options: LateOptions): Response {
  const { call, isStream, limits, dialect } = options;
  // Neither means anything to a reader of the format.
  const blank = encoder.encode(isStream ? ": keep-alive\n\n" : " ");
  const toBytes = (error: unknown) =>
    encoder.encode(
      isStream
        ? errorFrame(error, dialect)
        : JSON.stringify(toErrorBody(toAppError(error), dialect)),
    );
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  let timer: ReturnType<typeof setInterval> | undefined;
  let isOver = false;
  const finish = () => {
    isOver = true;
    clearInterval(timer);
    call.end();
  };
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      call.openStream((reason) => {
        if (isOver) return;
        controller.enqueue(toBytes(reason));
        finish();
        controller.close();
        reader?.cancel().catch(ignore("nobody reads the answer"));
      });
      controller.enqueue(blank);
      timer = setInterval(() => {
        if (reader === undefined) controller.enqueue(blank);
      }, limits.keepAliveMs);
    },
    pull: async (controller) => {
      try {
        reader ??= await readerOf(await answer, isStream);
        clearInterval(timer);
        const { done, value } = await reader.read();
        if (isOver) return;
        if (!done) {
          controller.enqueue(value);
          return;
        }
      } catch (error) {
        if (isOver) return;
        controller.enqueue(toBytes(error));
      }
      finish();
      controller.close();
    },
    cancel: () => {
      call.abort(new AppError("cancelled", "The client left"));
      finish();
      answer.then((late) => reader?.cancel() ?? late.body?.cancel())
        .catch(ignore("the client left before the answer"));
    },
  }, { highWaterMark: 0 });
  return new Response(body, {
    headers: isStream ? SSE_HEADERS : { "content-type": "application/json" },
  });
}

/** The bytes of a late answer; one that failed fits the stream it comes into. */
async function readerOf(
  late: Response,
  isStream: boolean,
): Promise<ReadableStreamDefaultReader<Uint8Array>> {
  if (!isStream || late.ok) {
    return (late.body ?? ReadableStream.from<Uint8Array>([])).getReader();
  }
  // Errors are small: `toErrorResponse` and the vendor's are bounded.
  const text = (await late.text()).replaceAll(/\s*\n\s*/g, " ");
  return ReadableStream.from([encoder.encode(`data: ${text}\n\n`)]).getReader();
}
