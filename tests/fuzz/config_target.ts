/**
 * A real gateway over its launcher whose configuration is written, by whatever
 * is sent. However it is written: it answers, what it wrote is valid, its file
 * is its owner's alone, and what it was can be had again.
 *
 * @module
 */
import { CLIENT, FakeClient } from "../fakes/gateway_house.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  listening,
  Proc,
  root,
  scratch,
  until,
} from "../process/processes.ts";
import { BASE } from "./config_inputs.ts";
import type { Input } from "./inputs.ts";
import { type Finding, UNEXPECTED } from "./target.ts";

/** What is written is taken over in this time, as a rule. */
const FORCE_MS = 1_200;

type ConfigInput = Input & { kind: "config" };

/** What was answered, or why it could not be asked. */
interface Answer {
  ok: boolean;
  // deno-lint-ignore no-explicit-any
  payload?: any;
  error?: { code?: string; message?: string };
}

/** The process, and a way to write its configuration. */
export class ConfigTarget implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #proc: Proc;
  readonly #port: number;
  readonly #token: string;
  readonly #file: string;
  #client: FakeClient | undefined;
  #linesSeen = 0;
  #hasEnded = false;
  /** Writes that were accepted. */
  written = 0;

  private constructor(
    stack: AsyncDisposableStack,
    on: { proc: Proc; port: number; token: string; file: string },
  ) {
    this.#stack = stack;
    this.#proc = on.proc;
    this.#port = on.port;
    this.#token = on.token;
    this.#file = on.file;
    void on.proc.status.then(() => this.#hasEnded = true);
  }

  static async open(): Promise<ConfigTarget> {
    await using opening = new AsyncDisposableStack();
    const dir = opening.use(await scratch());
    const file = `${dir.path}/carapace.jsonc`;
    await Deno.writeTextFile(file, BASE, { mode: 0o600 });
    const port = freePort();
    const token = `fuzz_${crypto.randomUUID()}`;
    const proc = opening.use(
      new Proc(["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, "start"], {
        env: {
          CARAPACE_STATE_DIR: dir.path,
          CARAPACE_PORT: String(port),
          CARAPACE_TOKEN: token,
        },
      }),
    );
    await listening(port);
    return new ConfigTarget(opening.move(), { proc, port, token, file });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.socket.close();
    await this.#stack.disposeAsync();
  }

  /** A socket that is open; after a restart a new one. */
  async #connected(): Promise<FakeClient> {
    if (this.#client?.socket.readyState === WebSocket.OPEN) return this.#client;
    let found: FakeClient | undefined;
    await until("it takes its owner", async () => {
      if (this.#hasEnded) throw new TypeError("the launcher ended");
      const client = new FakeClient(`ws://127.0.0.1:${this.#port}/ws`);
      client.closed.catch(() => {});
      try {
        await client.opened;
        await client.event("connect.challenge");
        const { ok } = await client.call("connect", {
          minProtocol: 3,
          maxProtocol: 4,
          client: CLIENT,
          auth: { token: this.#token },
        });
        if (ok) found = client;
        return ok;
      } catch {
        return false; // it starts again
      }
    });
    return this.#client = found as FakeClient;
  }

  /** Asks; again when the socket went with a restart. */
  async #ask(method: string, params: object): Promise<Answer> {
    for (let tries = 0; tries < 3; tries++) {
      const client = await this.#connected();
      try {
        return await client.call(method, params);
      } catch {
        if (method !== "config.get") {
          return { ok: false, error: { code: "the socket closed" } };
        }
      }
    }
    throw new TypeError(`${method} is not answered`);
  }

  async #get(): Promise<Answer["payload"]> {
    const { ok, payload, error } = await this.#ask("config.get", {});
    if (!ok) {
      throw new TypeError(`config.get: ${error?.code} ${error?.message}`);
    }
    return payload;
  }

  /** Sends one; what is wrong with how it was taken, or nothing. */
  async send(input: ConfigInput): Promise<Finding | undefined> {
    try {
      const why = await this.#write(input);
      return why === undefined ? undefined : { why, input };
    } catch (error) {
      const said = this.#proc.err.slice(-14).join(" | ");
      return { why: `${error}; ${said}`.slice(0, 2_500), input };
    }
  }

  async #write(input: ConfigInput): Promise<string | undefined> {
    const before = await this.#get();
    const text = JSON.stringify(input.params)
      .replaceAll("{HASH}", before.hash);
    const answer = await this.#ask(input.method, JSON.parse(text));
    if (!answer.ok && answer.error?.code === undefined) {
      return `an answer without a code: ${JSON.stringify(answer)}`;
    }
    const { mode } = await Deno.stat(this.#file);
    if (((mode ?? 0) & 0o077) !== 0) return `the file has mode ${mode}`;
    const after = await this.#get();
    if (!after.valid) {
      return `it is not valid: ${JSON.stringify(after.issues).slice(0, 500)}`;
    }
    const isWritten = answer.ok && input.method !== "config.validate";
    if (!isWritten && after.hash !== before.hash) {
      return "what was refused was written";
    }
    if (isWritten) {
      // Now and then it comes into force before it is taken back.
      if (++this.written % 3 === 0) {
        await new Promise((resolve) => setTimeout(resolve, FORCE_MS));
        await this.#get();
      }
      await this.#undo();
    }
    return this.#trouble();
  }

  /** Writes the base again, as its owner's editor would. */
  async #undo(): Promise<void> {
    const next = `${this.#file}.next`;
    await Deno.writeTextFile(next, BASE, { mode: 0o600 });
    await Deno.rename(next, this.#file);
    await until("the base is in force", async () => {
      const { raw, valid } = await this.#get();
      if (raw !== BASE || !valid) return false;
      const answer = await fetch(`http://127.0.0.1:${this.#port}/health/live`)
        .catch(() => undefined);
      await answer?.body?.cancel();
      return answer?.status === 200;
    });
  }

  #trouble(): string | undefined {
    const lines = this.#proc.err.slice(this.#linesSeen);
    this.#linesSeen = this.#proc.err.length;
    const line = lines.find((one) => UNEXPECTED.test(one));
    if (line !== undefined) return `the log says: ${line.slice(0, 500)}`;
    return this.#hasEnded ? "the launcher ended" : undefined;
  }
}
