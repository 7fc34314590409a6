/**
 * The heap of another process, over V8's inspector protocol: what is in use
 * after a full collection, and which functions made what is still held.
 *
 * @see https://chromedevtools.github.io/devtools-protocol/v8/HeapProfiler/
 * @module
 */
import { until } from "../process/processes.ts";

/** What is alive after a collection, in bytes. */
export interface HeapUse {
  /** Of JavaScript. */
  used: number;
  /** Of buffers outside it. */
  buffers: number;
}

interface ProfileNode {
  callFrame: { functionName: string; url: string; lineNumber: number };
  selfSize: number;
  children: ProfileNode[];
}

/** A place in the source, and the bytes of live things that were made there. */
export type LiveBytes = ReadonlyMap<string, number>;

/** Mean distance of two samples, in allocated bytes. */
const SAMPLE_BYTES = 16_384;

/** A session with a process that was started with `--inspect=127.0.0.1:PORT`. */
export class Inspector implements Disposable {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      const { id, result, error } = JSON.parse(data);
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new TypeError(JSON.stringify(error)));
    };
    socket.onclose = () => {
      for (const { reject } of this.#waiting.values()) {
        reject(new TypeError("the inspected process went away"));
      }
      this.#waiting.clear();
    };
  }

  /** Waits until the process listens. */
  static async open(port: number): Promise<Inspector> {
    let url = "";
    await until("the inspector", async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/json/list`)
        .catch(() => undefined);
      if (answer?.ok !== true) return false;
      const [main] = await answer.json();
      url = main?.webSocketDebuggerUrl ?? "";
      return url !== "";
    });
    const socket = new WebSocket(url);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = reject;
    });
    return new Inspector(socket);
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }

  async #call<T>(method: string, params: object = {}): Promise<T> {
    const id = ++this.#nextId;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    this.#socket.send(JSON.stringify({ id, method, params }));
    return await waiting.promise as T;
  }

  /** What is alive, after everything that is not was collected. */
  async live(): Promise<HeapUse> {
    // What a finalizer lets go of is collected by the second.
    for (let n = 0; n < 2; n++) await this.#call("HeapProfiler.collectGarbage");
    const found = await this.#call<
      { usedSize: number; backingStorageSize?: number }
    >("Runtime.getHeapUsage");
    return { used: found.usedSize, buffers: found.backingStorageSize ?? 0 };
  }

  /** From here on what is made is sampled; once, right at the beginning. */
  async watch(): Promise<void> {
    await this.#call("HeapProfiler.enable");
    await this.#call("HeapProfiler.startSampling", {
      samplingInterval: SAMPLE_BYTES,
    });
  }

  /** Of what was sampled, what is still alive, by where it was made. */
  async liveBytes(): Promise<LiveBytes> {
    const { profile } = await this.#call<{ profile: { head: ProfileNode } }>(
      "HeapProfiler.getSamplingProfile",
    );
    const found = new Map<string, number>();
    const walk = (
      { callFrame, selfSize, children }: ProfileNode,
      at: string,
    ) => {
      const { functionName, url, lineNumber } = callFrame;
      // The runtime's own functions say nothing: their caller in the source does.
      const isOurs = /\/(src|plugins)\//.test(url) || /npm\//.test(url);
      const here = isOurs
        ? `${functionName || "(top)"} ${
          url.replace(/^.*\/((src|npm)\/)/, "$1")
        }:${lineNumber + 1}`
        : at;
      found.set(here, (found.get(here) ?? 0) + selfSize);
      for (const child of children) walk(child, here);
    };
    walk(profile.head, "(runtime)");
    return found;
  }
}

/** The places whose live bytes grew most between two looks. */
export function grownMost(
  before: LiveBytes,
  after: LiveBytes,
  count = 8,
): string[] {
  return [...after]
    .map(([at, bytes]) => ({ at, grown: bytes - (before.get(at) ?? 0) }))
    .filter(({ grown }) => grown > 4 * SAMPLE_BYTES)
    .sort((a, b) => b.grown - a.grown)
    .slice(0, count)
    .map(({ at, grown }) => `${at} +${Math.round(grown / 1024)} KiB`);
}
