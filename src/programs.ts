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
  planDifference,
  type ProgramEvent,
  type ProgramPlan,
  type ProgramRequest,
  type Programs,
  type SeenFile,
  templateHash,
} from "./core/command.ts";
import { AppError, errorText, ignore } from "./core/errors.ts";
import { checkPath, seeFile, seeFiles } from "./program_files.ts";

/** Bounds of what runs at once. */
const RUNNING_MAX = 16;
/** After this long a program that was asked to end is killed. */
const GRACE_MS = 2_000;
const REQUEST_CHARS_MAX = 8_388_608;
const SECRETS_MAX = 64;

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

/**
 * Tells a process of its own which programs run, so that they end with this one
 * even when it is killed. It is started with the first program.
 */
class Keeper implements Disposable {
  #child: Deno.ChildProcess | undefined;
  #pipe: WritableStreamDefaultWriter<Uint8Array> | undefined;

  /** Starts it: before the program, whose end would wait for that otherwise. */
  ready(): void {
    if (Deno.build.os === "windows") return; // there are no groups
    if (this.#pipe !== undefined) return;
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--no-prompt", "--no-config", "--cached-only"],
        ...["--no-remote", "--allow-run", `${import.meta.dirname}/keeper.ts`],
      ],
      clearEnv: true,
      env: { DENO_NO_UPDATE_CHECK: "1" },
      stdin: "piped",
      stdout: "null",
      stderr: "null",
      // What the terminal sends to the launcher's group is not for it.
      detached: true,
    }).spawn();
    this.#child.unref();
    this.#pipe = this.#child.stdin.getWriter();
  }

  started(pid: number): void {
    this.#tell(`+${pid}\n`);
  }

  ended(pid: number): void {
    this.#tell(`-${pid}\n`);
  }

  #tell(line: string): void {
    this.#pipe?.write(new TextEncoder().encode(line))
      .catch(ignore("the keeper was ended by somebody"));
  }

  [Symbol.dispose](): void {
    this.#pipe?.close().catch(ignore("the keeper was ended by somebody"));
  }
}

/** The programs of one service process. */
export class ProgramHost implements Disposable {
  readonly #programs: Programs;
  readonly #send: (event: ProgramEvent) => void;
  readonly #running = new Map<number, Running>();
  readonly #keeper = new Keeper();
  readonly #seen: Promise<Map<string, SeenFile | string>>;

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
        case "plan": {
          const { plan } = await this.#plan(request, { hasFiles: true });
          return this.#send({ op: "planned", id, plan });
        }
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
    this.#keeper[Symbol.dispose]();
  }

  async #lookAtAll(): Promise<Map<string, SeenFile | string>> {
    const { commands, mcp } = this.#programs;
    const paths = new Set([
      ...Object.values(commands).map(({ run }) => run),
      ...Object.values(mcp).map(({ command }) => command),
    ]);
    const seen = new Map<string, SeenFile | string>();
    for (const path of paths) {
      seen.set(path, await seeFile(path).catch(errorText));
    }
    return seen;
  }

  /** A program that is still the one seen at the start. */
  async #program(path: string): Promise<SeenFile> {
    const first = (await this.#seen).get(path);
    if (first === undefined || typeof first === "string") {
      throw new AppError(
        "not_found",
        `Cannot run "${path}": ${first ?? "it is not configured"}`,
      );
    }
    const now = await seeFile(path);
    if (now.path === first.path && now.digest === first.digest) return now;
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

  /** All that a run would be, by the launcher's own template. */
  async #plan(
    request: ProgramRequest & { op: "run" | "plan" },
    options: { hasFiles: boolean },
  ): Promise<{ template: CommandTemplate; plan: ProgramPlan }> {
    const { command, hash, values } = request;
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
    const { cwd, env } = template;
    await checkPath(cwd, cwd);
    const paths = pathsOf(template, values);
    for (const { below, path } of paths) await checkPath(below, path);
    const files = options.hasFiles
      ? await seeFiles([
        ...paths.map(({ path }) => path),
        // Also those the template itself names: a script is a program.
        ...args.map((arg) => arg.startsWith("/") ? arg : `${cwd}/${arg}`),
      ])
      : [];
    const { dev, ino } = await Deno.stat(cwd);
    const program = await this.#program(template.run);
    const plan = { program, args, cwd: { path: cwd, dev, ino }, env, files };
    return { template, plan };
  }

  async #run(request: ProgramRequest & { op: "run" }): Promise<void> {
    const { id, plan: asked } = request;
    const { template, plan } = await this.#plan(request, {
      hasFiles: asked !== undefined,
    });
    if (asked !== undefined) {
      const why = planDifference(asked, plan);
      if (why !== undefined) {
        throw new AppError(
          "conflict",
          `Cannot run "${request.command}": ${why} than what was approved`,
        );
      }
    }
    this.#admit(id);
    const running = this.#spawn(id, {
      path: plan.program.path,
      args: plan.args,
      cwd: plan.cwd.path,
      env: plan.env,
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
    const { path } = await this.#program(program.command);
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
    this.#keeper.ready();
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
    this.#keeper.started(child.pid);
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
    this.#keeper.ended(child.pid);
    await reading;
    await running.stdin?.close().catch(ignore("its input was closed"));
    this.#running.delete(id);
    this.#send({ op: "ended", id, code, why: running.why });
  }
}
