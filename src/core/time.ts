/**
 * Time as an argument. `systemClock` is the only reader of the wall clock;
 * tests pass their own.
 *
 * @module
 */

/** What a room may know of time. All numbers are milliseconds. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** Waits; rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) => {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
    return promise;
  },
};

/**
 * One signal out of a caller's and a limit; aborts with `timeout` after the
 * limit. Dispose it when the wait is over, so that no timer outlives it.
 */
export function limitSignal(
  signal: AbortSignal,
  limitMs: number,
): { signal: AbortSignal } & Disposable {
  const controller = new AbortController();
  const onAbort = () => controller.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(
    () =>
      controller.abort(
        new DOMException(`No answer within ${limitMs} ms`, "TimeoutError"),
      ),
    limitMs,
  );
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    },
  };
}

/** What a promise comes to, or the signal's reason when it aborts first. */
export async function unlessAborted<T>(
  wait: Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const gone = Promise.withResolvers<never>();
  const onAbort = () => gone.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([wait, gone.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/**
 * Does something again and again until the signal aborts. One failure is told
 * and does not end it: what is done now and then must be done the next time.
 */
export async function repeat(
  work: () => Promise<void>,
  options: {
    everyMs: number;
    clock: Clock;
    signal: AbortSignal;
    onError(error: unknown): void;
  },
): Promise<void> {
  const { everyMs, clock, signal, onError } = options;
  while (!signal.aborted) { // ends with the signal
    try {
      await clock.sleep(everyMs, signal);
      await work();
    } catch (error) {
      if (!signal.aborted) onError(error);
    }
  }
}
