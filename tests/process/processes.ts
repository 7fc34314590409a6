/** Real processes for tests: started, read line by line, ended for certain. */
import { fileURLToPath } from "node:url";

/** The folder of the program's source, without a slash at its end. */
export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(
  /[/\\]$/,
  "",
);

/** The flags of the launcher, as `deno task start` gives them. */
export const LAUNCHER_FLAGS: readonly string[] = (() => {
  const { tasks } = JSON.parse(Deno.readTextFileSync(`${root}/deno.json`));
  const task: string = tasks.start.command ?? tasks.start;
  const [, flags = ""] = /deno run (.*?) src\/launch\.ts/.exec(task) ?? [];
  return flags.split(" ");
})();

/** Longest wait for anything in these tests. */
const WAIT_MS = 20_000;

/** A folder of its own for one test. */
export async function scratch(): Promise<{ path: string } & AsyncDisposable> {
  await Deno.mkdir(`${root}/tests/.tmp`, { recursive: true });
  const path = await Deno.makeTempDir({ dir: `${root}/tests/.tmp` });
  await Deno.chmod(path, 0o700);
  return {
    path,
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

/** A port that was free a moment ago. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Waits until a question is answered with yes. */
export async function until(
  what: string,
  isSo: () => Promise<boolean> | boolean,
  limitMs = WAIT_MS,
): Promise<void> {
  const end = performance.now() + limitMs;
  while (performance.now() < end) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new DOMException(`${what} did not happen`, "TimeoutError");
}

/** Waits until a gateway answers on a port. */
export async function listening(port: number): Promise<void> {
  await until("a listening gateway", async () => {
    try {
      const response = await fetch(`http://127.0.0.1:${port}/health/live`);
      await response.body?.cancel();
      return response.ok;
    } catch {
      return false;
    }
  });
}

/** Whether a process is there and not a zombie. */
export async function isAlive(pid: number): Promise<boolean> {
  const { stdout } = await new Deno.Command("ps", {
    args: ["-o", "stat=", "-p", String(pid)],
    stderr: "null",
  }).output();
  const state = new TextDecoder().decode(stdout).trim();
  return state !== "" && !state.startsWith("Z");
}

/** A process whose output is kept as lines. */
export class Proc implements AsyncDisposable {
  readonly child: Deno.ChildProcess;
  readonly out: string[] = [];
  readonly err: string[] = [];
  readonly #reading: Promise<unknown>;
  #ended = false;
  readonly status: Promise<Deno.CommandStatus>;

  constructor(
    args: readonly string[],
    options: {
      env?: Record<string, string>;
      stdin?: "piped" | "null";
      cwd?: string;
      command?: string;
    } = {},
  ) {
    const { env = {}, stdin = "null", cwd = root, command } = options;
    this.child = new Deno.Command(command ?? Deno.execPath(), {
      args: [...args],
      cwd,
      // As the tasks set it: the runtime would ask for a newer version.
      env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", ...env },
      stdin,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#reading = Promise.all([
      keep(this.child.stdout, this.out),
      keep(this.child.stderr, this.err),
    ]);
    this.status = this.child.status.then((status) => {
      this.#ended = true;
      return status;
    });
  }

  get pid(): number {
    return this.child.pid;
  }

  /** The first line of output that fits, or the reason why there is none. */
  async line(
    fits: (line: string) => boolean,
    from = this.out,
  ): Promise<string> {
    let found: string | undefined;
    await until("a line", () => {
      found = from.find(fits);
      return found !== undefined || this.#ended;
    });
    await Promise.race([this.#reading, Promise.resolve()]);
    found ??= from.find(fits);
    if (found !== undefined) return found;
    throw new DOMException(
      `no such line in:\n${[...this.out, ...this.err].join("\n")}`,
      "NotFoundError",
    );
  }

  /** Ends with its exit code, everything read. */
  async code(): Promise<number> {
    const { code } = await this.status;
    await this.#reading;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) this.child.kill("SIGKILL");
    await this.status;
    await this.#reading;
  }
}

async function keep(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  lines: string[],
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts);
  }
  if (rest !== "") lines.push(rest);
}

/** A file below `/proc`: reading one takes every permission, `cat` does not. */
export async function readProc(path: string): Promise<string> {
  const { stdout } = await new Deno.Command("cat", {
    args: [path],
    stderr: "null",
  }).output();
  return new TextDecoder().decode(stdout);
}
