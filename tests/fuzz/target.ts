/**
 * A real gateway process that is sent inputs, and what it must not do: end, log
 * an error that nobody expected, answer 5xx (but 503), or not answer.
 *
 * @module
 */
import assert from "node:assert/strict";
import {
  freePort,
  listening,
  Proc,
  root,
  scratch,
} from "../process/processes.ts";
import { LAUNCHER_FLAGS } from "../process/processes.ts";
import { CLIENT, FakeClient } from "../fakes/gateway_house.ts";
import { Inspector } from "./inspector.ts";
import type { Input } from "./inputs.ts";

/** An answer that takes longer is a failure. */
const ANSWER_MS = 15_000;
const UPGRADE_MS = 3_000;
const READ_MAX = 262_144;
/** What the log says of what nobody expected. */
export const UNEXPECTED =
  /request_failed|method_failed|serve_failed|event_failed|Uncaught|unhandled|panicked|TypeError|RangeError|ReferenceError/;

/** What was wrong with an input. */
export interface Finding {
  why: string;
  input: Input;
}

/** The flags the launcher would give the service. */
async function computedFlags(env: Record<string, string>): Promise<string[]> {
  await using proc = new Proc(
    [
      "run",
      ...LAUNCHER_FLAGS,
      `${root}/src/launch.ts`,
      "permissions",
      "--flags",
    ],
    { env },
  );
  assert.equal(await proc.code(), 0, proc.err.join("\n"));
  return proc.out.filter((line) => line.startsWith("--"));
}

/** The process, and a way to send it things. */
export class Target implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #proc: Proc;
  readonly #port: number;
  readonly #token: string;
  /** Its heap, when it was opened for that. */
  readonly inspector: Inspector | undefined;
  #linesSeen = 0;

  private constructor(
    stack: AsyncDisposableStack,
    on: {
      proc: Proc;
      port: number;
      token: string;
      inspector: Inspector | undefined;
    },
  ) {
    this.#stack = stack;
    this.#proc = on.proc;
    this.#port = on.port;
    this.#token = on.token;
    this.inspector = on.inspector;
  }

  /**
   * Starts it.
   *
   * @param options.inspect The service without its launcher, under the flags
   * that would give it, with a way to look at its heap
   */
  static async open({ inspect = false } = {}): Promise<Target> {
    await using opening = new AsyncDisposableStack();
    const dir = opening.use(await scratch());
    const port = freePort();
    const token = `fuzz_${crypto.randomUUID()}`;
    const env = {
      CARAPACE_STATE_DIR: dir.path,
      CARAPACE_PORT: String(port),
      CARAPACE_TOKEN: token,
      CARAPACE_CONFIG_JSON: JSON.stringify({
        providers: { demo: {} },
        agents: { main: { model: "demo:echo" } },
        log: { level: "warn", format: "json" },
      }),
    };
    const inspected = freePort();
    const args = inspect
      ? [
        `--inspect=127.0.0.1:${inspected}`,
        ...await computedFlags(env),
        `${root}/main.ts`,
      ]
      : [...LAUNCHER_FLAGS, `${root}/src/launch.ts`];
    const proc = opening.use(new Proc(["run", ...args, "start"], { env }));
    await listening(port);
    let inspector: Inspector | undefined;
    if (inspect) {
      inspector = opening.use(await Inspector.open(inspected));
      await inspector.watch();
    }
    return new Target(opening.move(), { proc, port, token, inspector });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  #fill(text: string): string {
    return text.replaceAll("{TOKEN}", this.#token)
      .replaceAll("{PORT}", String(this.#port));
  }

  /** Sends one input; what is wrong with how it was taken, or nothing. */
  async send(input: Input): Promise<Finding | undefined> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const timer = setTimeout(
      () => resolve(`no answer in ${ANSWER_MS} ms`),
      ANSWER_MS,
    );
    try {
      const why = await Promise.race([
        input.kind === "http"
          ? this.#http(input)
          : input.kind === "ws"
          ? this.#socket(input)
          : Promise.resolve("the configuration has a target of its own"),
        promise,
      ]);
      return why === undefined ? undefined : { why, input };
    } finally {
      clearTimeout(timer);
    }
  }

  async #http(
    { bytes }: Input & { kind: "http" },
  ): Promise<string | undefined> {
    const text = this.#fill(bytes);
    const data = Uint8Array.from(text, (one) => one.charCodeAt(0) & 0xff);
    const connection = await Deno.connect({
      hostname: "127.0.0.1",
      port: this.#port,
    });
    // A peer that half-closes while it is being upgraded is now and then (once in
    // some ten thousand) held by the runtime until it is gone. It is not answered.
    const isUpgrade = /^upgrade:/im.test(bytes);
    const leaving = setTimeout(
      () => isUpgrade && connection.close(),
      UPGRADE_MS,
    );
    const decoder = new TextDecoder();
    let answered = "";
    try {
      for (let at = 0; at < data.length;) {
        at += await connection.write(data.subarray(at));
      }
      // What it waits for does not come: it must not wait for ever.
      await connection.closeWrite();
      const buffer = new Uint8Array(16_384);
      for (let read = 0; read < READ_MAX;) {
        const count = await connection.read(buffer);
        if (count === null) break;
        answered += decoder.decode(buffer.subarray(0, count), { stream: true });
        read += count;
      }
    } catch (error) {
      // It may hang up on what is no request.
      if (
        !(error instanceof Deno.errors.ConnectionReset) &&
        !(error instanceof Deno.errors.BrokenPipe) &&
        !(error instanceof Deno.errors.NotConnected) &&
        !(error instanceof Deno.errors.Interrupted) &&
        !(error instanceof Deno.errors.BadResource)
      ) throw error;
    } finally {
      clearTimeout(leaving);
      try {
        connection.close();
      } catch {
        // it left already
      }
    }
    // Several requests in one write have several answers.
    for (
      const [, status] of answered.matchAll(/HTTP\/1\.[01] (5\d\d) [A-Z]/g)
    ) {
      if (status !== "503") return `it answered ${status}`;
    }
    return undefined;
  }

  async #socket(
    { frames, isKnown }: Input & { kind: "ws" },
  ): Promise<string | undefined> {
    let client: FakeClient;
    try {
      client = new FakeClient(`ws://127.0.0.1:${this.#port}/ws`);
      client.closed.catch(() => {});
      await client.opened;
    } catch {
      return undefined; // the pool of strangers is full: refused is right
    }
    using _client = client;
    await client.event("connect.challenge").catch(() => {});
    if (isKnown) {
      const hello = await client.call("connect", {
        minProtocol: 3,
        maxProtocol: 4,
        client: CLIENT,
        auth: { token: this.#token },
      }).catch(() => undefined);
      if (hello === undefined) return undefined;
    }
    for (const frame of frames) {
      if (client.socket.readyState === WebSocket.OPEN) client.send(frame);
    }
    if (client.socket.readyState !== WebSocket.OPEN) return undefined;
    // Answered after what came before it, or closed: both are an end.
    const probe = client.call("health", {}).catch(() => undefined);
    await Promise.race([probe, client.closed]);
    const bad = client.frames.find((f) =>
      f.type === "res" && f.ok === false && f.error?.code === undefined
    );
    return bad === undefined
      ? undefined
      : `an answer without a code: ${JSON.stringify(bad).slice(0, 300)}`;
  }

  /** What the process itself did that it must not, since the last look. */
  async trouble(): Promise<string | undefined> {
    const lines = this.#proc.err.slice(this.#linesSeen);
    this.#linesSeen = this.#proc.err.length;
    const line = lines.find((one) => UNEXPECTED.test(one));
    if (line !== undefined) return `the log says: ${line.slice(0, 500)}`;
    try {
      const answer = await fetch(
        `http://127.0.0.1:${this.#port}/health/live`,
        { signal: AbortSignal.timeout(ANSWER_MS) },
      );
      await answer.body?.cancel();
      return answer.status === 200
        ? undefined
        : `/health/live answers ${answer.status}`;
    } catch (error) {
      return `it does not answer any more: ${error}`;
    }
  }

  /** Memory of the service, in bytes. */
  async residentBytes(): Promise<number> {
    const answer = await fetch(`http://127.0.0.1:${this.#port}/metrics`, {
      headers: { authorization: `Bearer ${this.#token}` },
    });
    const text = await answer.text();
    const found = /^carapace_resident_bytes (\S+)$/m.exec(text)?.[1];
    assert.ok(found !== undefined, text.slice(0, 500));
    return Number(found);
  }
}
