/**
 * Runs the programs that the configuration names, in the launcher, when the
 * service asks over its pipe. Every request is checked here again, against the
 * launcher's own templates: the service's word is a request, not an order.
 *
 * Never: a shell; a program, argument, folder or variable that the configuration
 * does not name; an environment that was not built from empty.
 *
 * @module
 */
import {
  buildArgs,
  type CommandTemplate,
  pathsOf,
  type ProgramEvent,
  type ProgramRequest,
  type Programs,
  templateHash,
} from "./core/command.ts";
import { AppError, errorText, ignore } from "./core/errors.ts";

/** Bounds of what runs at once. */
const RUNNING_MAX = 16;
/** After this long a program that was asked to end is killed. */
const GRACE_MS = 2_000;
const REQUEST_CHARS_MAX = 8_388_608;
const SECRETS_MAX = 64;

/** A program's identity: another file under the same name is another program. */
interface Seen {
  path: string;
  dev: number;
  ino: number | null;
  size: number;
  mtime: number;
}

async function look(path: string): Promise<Seen> {
  const real = await Deno.realPath(path);
  const info = await Deno.stat(real);
  if (!info.isFile) throw new AppError("forbidden", `"${path}" is no file`);
  return {
    path: real,
    dev: info.dev,
    ino: info.ino,
    size: info.size,
    mtime: info.mtime?.getTime() ?? 0,
  };
}

/** Looks at a folder and every part below it: links are refused. */
async function checkPath(below: string, path: string): Promise<void> {
  if (await Deno.realPath(below) !== below.replace(/(?<=.)\/+$/, "")) {
    throw new AppError("forbidden", `"${below}" is behind a link`);
  }
  let at = below.replace(/\/+$/, "");
  for (const part of path.slice(at.length).split("/").filter(Boolean)) {
    at = `${at}/${part}`;
    let info: Deno.FileInfo;
    try {
      info = await Deno.lstat(at);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return; // to be made, then
      throw error;
    }
    if (info.isSymlink) throw new AppError("forbidden", `"${at}" is a link`);
    if (info.isFile && info.nlink !== null && info.nlink > 1) {
      throw new AppError("forbidden", `"${at}" has a second name`);
    }
  }
}

type Why = (ProgramEvent & { op: "ended" })["why"];

/** A program that runs, and how it is ended. */
class Running {
  readonly child: Deno.ChildProcess;
  readonly stdin: WritableStreamDefaultWriter<Uint8Array> | undefined;
  why: Why = "exit";
  #grace: ReturnType<typeof setTimeout> | undefined;

  constructor(child: Deno.ChildProcess, hasInput: boolean) {
    this.child = child;
    this.stdin = hasInput ? child.stdin.getWriter() : undefined;
  }

  end(why: Why): void {
    if (this.#grace !== undefined) return;
    this.why = why;
    this.#signal("SIGTERM");
    this.#grace = setTimeout(() => this.#signal("SIGKILL"), GRACE_MS);
  }

  settle(): void {
    if (this.#grace !== undefined) clearTimeout(this.#grace);
    // What it left behind in its group goes with it.
    this.#signal("SIGKILL", true);
  }

  #signal(name: Deno.Signal, isAfter = false): void {
    try {
      if (Deno.build.os !== "windows") Deno.kill(-this.child.pid, name);
      else if (!isAfter) this.child.kill(name);
    } catch (error) {
      ignore("a program had ended when it was to be ended")(error);
    }
  }
}

/** The programs of one service process. */
export class ProgramHost implements Disposable {
  readonly #programs: Programs;
  readonly #send: (event: ProgramEvent) => void;
  readonly #running = new Map<number, Running>();
  readonly #seen: Promise<Map<string, Seen | string>>;

  /** @param send Says something to the service; must not throw */
  constructor(programs: Programs, send: (event: ProgramEvent) => void) {
    this.#programs = programs;
    this.#send = send;
    this.#seen = this.#lookAtAll();
  }

  /** Takes one message of the service, whatever it is. */
  async take(message: unknown): Promise<void> {
    const request = message as ProgramRequest;
    const id = (message as { id?: unknown } | null)?.id;
    if (typeof id !== "number" || !Number.isSafeInteger(id)) return;
    try {
      switch (request.op) {
        case "run":
          return await this.#run(request);
        case "open":
          return await this.#open(request);
        case "write":
          return await this.#write(request);
        case "kill":
          return this.#running.get(id)?.end("killed");
        default:
          throw new AppError("bad_input", "There is no such request");
      }
    } catch (error) {
      this.#send({ op: "refused", id, why: errorText(error) });
    }
  }

  /** Ends everything at once: the service is gone. */
  [Symbol.dispose](): void {
    for (const running of this.#running.values()) {
      running.end("killed");
      running.settle();
    }
  }

  async #lookAtAll(): Promise<Map<string, Seen | string>> {
    const { commands, mcp } = this.#programs;
    const paths = new Set([
      ...Object.values(commands).map(({ run }) => run),
      ...Object.values(mcp).map(({ command }) => command),
    ]);
    const seen = new Map<string, Seen | string>();
    for (const path of paths) {
      seen.set(path, await look(path).catch(errorText));
    }
    return seen;
  }

  /** The real path of a program that is still the one seen at the start. */
  async #program(path: string): Promise<string> {
    const first = (await this.#seen).get(path);
    if (first === undefined || typeof first === "string") {
      throw new AppError(
        "not_found",
        `Cannot run "${path}": ${first ?? "it is not configured"}`,
      );
    }
    const now = await look(path);
    if (JSON.stringify(now) === JSON.stringify(first)) return now.path;
    throw new AppError(
      "conflict",
      `Cannot run "${path}": it is not the program it was when the gateway started`,
      { hint: "Restart the gateway if you changed it" },
    );
  }

  #admit(id: number): void {
    if (this.#running.has(id)) {
      throw new AppError("conflict", "There is such a program already");
    }
    if (this.#running.size >= RUNNING_MAX) {
      throw new AppError("rate_limited", `${RUNNING_MAX} programs run already`);
    }
  }

  async #run(request: ProgramRequest & { op: "run" }): Promise<void> {
    const { id, command, hash, values } = request;
    const { commands } = this.#programs;
    const template =
      typeof command === "string" && Object.hasOwn(commands, command)
        ? commands[command]
        : undefined;
    if (
      template === undefined || typeof values !== "object" || values === null
    ) {
      throw new AppError("not_found", "There is no such command");
    }
    if (await templateHash(template) !== hash) {
      throw new AppError(
        "conflict",
        `The command "${command}" was changed since`,
      );
    }
    const args = buildArgs(template, values);
    await checkPath(template.cwd, template.cwd);
    for (const { below, path } of pathsOf(template, values)) {
      await checkPath(below, path);
    }
    const path = await this.#program(template.run);
    this.#admit(id);
    const running = this.#spawn(id, {
      path,
      args,
      cwd: template.cwd,
      env: template.env,
      hasInput: false,
    });
    const timer = setTimeout(() => running.end("timeout"), template.timeoutMs);
    await this.#follow(id, running, template);
    clearTimeout(timer);
  }

  async #open(request: ProgramRequest & { op: "open" }): Promise<void> {
    const { id, server, secrets } = request;
    const { mcp } = this.#programs;
    const program = typeof server === "string" && Object.hasOwn(mcp, server)
      ? mcp[server]
      : undefined;
    if (program === undefined) {
      throw new AppError("not_found", "There is no such server");
    }
    const env: Record<string, string> = { ...program.env };
    const given = Object.entries(secrets ?? {});
    for (const [name, value] of given.slice(0, SECRETS_MAX)) {
      if (!program.secretEnv.includes(name) || typeof value !== "string") {
        throw new AppError(
          "forbidden",
          "The configuration names no such secret",
        );
      }
      env[name] = value;
    }
    const path = await this.#program(program.command);
    this.#admit(id);
    const running = this.#spawn(id, {
      path,
      args: program.args,
      cwd: program.cwd,
      env,
      hasInput: true,
    });
    await this.#follow(id, running);
  }

  async #write({ id, text }: ProgramRequest & { op: "write" }): Promise<void> {
    const { stdin } = this.#running.get(id) ?? {};
    if (stdin === undefined || typeof text !== "string") return;
    if (text.length > REQUEST_CHARS_MAX) {
      throw new AppError("too_large", "That is too much at once");
    }
    await stdin.write(new TextEncoder().encode(text))
      .catch(ignore("a program ended before it read all"));
  }

  #spawn(
    id: number,
    program: {
      path: string;
      args: readonly string[];
      cwd: string;
      env: Readonly<Record<string, string>>;
      hasInput: boolean;
    },
  ): Running {
    // No await between the admission and this.
    const child = new Deno.Command(program.path, {
      args: [...program.args],
      cwd: program.cwd,
      clearEnv: true,
      env: { ...program.env },
      stdin: program.hasInput ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
      // A group of its own, so that what it starts ends with it.
      detached: Deno.build.os !== "windows",
    }).spawn();
    const running = new Running(child, program.hasInput);
    this.#running.set(id, running);
    this.#send({ op: "started", id });
    return running;
  }

  /** Passes output on to its end, cut where a command's output is cut. */
  async #follow(
    id: number,
    running: Running,
    template?: Pick<CommandTemplate, "outputBytesMax">,
  ): Promise<void> {
    let bytes = 0;
    const pass = async (
      op: "out" | "err",
      stream: ReadableStream<Uint8Array<ArrayBuffer>>,
    ) => {
      const decoder = new TextDecoder();
      try {
        for await (const chunk of stream) {
          bytes += chunk.length;
          if (template !== undefined && bytes > template.outputBytesMax) {
            running.end("output");
            return;
          }
          const text = decoder.decode(chunk, { stream: true });
          if (text !== "") this.#send({ op, id, text });
        }
      } catch (error) {
        ignore("a program's output broke off")(error);
      }
    };
    const { child } = running;
    const reading = Promise.all([
      pass("out", child.stdout),
      pass("err", child.stderr),
    ]);
    const { code } = await child.status;
    // Its own children may hold the streams open: they end with it.
    running.settle();
    await reading;
    await running.stdin?.close().catch(ignore("its input was closed"));
    this.#running.delete(id);
    this.#send({ op: "ended", id, code, why: running.why });
  }
}
