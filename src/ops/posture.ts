/**
 * Proof that the outer sandbox holds: at start the service does what it must not
 * be able to do. An act passes only when the runtime refused it; that it failed
 * for another reason proves nothing.
 *
 * Never: an act does harm when it succeeds: what it makes is removed, what it
 * reaches does not exist.
 *
 * @module
 */
import { AppError, ignore } from "../core/errors.ts";
import { type Clock, systemClock } from "../core/time.ts";

/** One thing that must be refused. */
export interface Act {
  /** What it does, for people: `read a file outside`. */
  name: string;
  /** Settles either way; `undo` runs when it succeeded. */
  run(): Promise<unknown> | unknown;
  undo?(made: unknown): Promise<unknown> | unknown;
}

/** An act that was not refused. */
export interface PostureFailure {
  act: string;
  /** `it succeeded`, or how it failed instead of being refused. */
  why: string;
}

/** What {@linkcode runPosture} found. */
export interface Posture {
  tried: number;
  refused: number;
  failures: readonly PostureFailure[];
}

/** What the acts must avoid, because the configuration granted it. */
export interface PostureFacts {
  /** The folder of the program's own source. */
  sourceDir: string;
  /** Whether the bare net flag was granted (`egress.open`). */
  isOpen: boolean;
  /** Exact IPv4 addresses that are granted. */
  holes: readonly string[];
  /** Folders and files that may be read. */
  read: readonly string[];
  /** System information that is granted. */
  sys: readonly string[];
  /** The environment as the program sees it. */
  env: { get(name: string): string | undefined };
  os: typeof Deno.build.os;
}

/** One act, without an answer: longer says that it was not refused. */
const ACT_MS = 300;

/** Private addresses that nothing listens at; the first that is no hole is used. */
const PRIVATE = ["10.255.255.254", "172.31.255.254", "192.168.255.254"];

/** Files that are there; the first that no root covers is used. */
const OUTSIDE = {
  unix: ["/etc/passwd", "/bin/sh"],
  windows: [
    "C:\\Windows\\System32\\drivers\\etc\\hosts",
    "C:\\Windows\\explorer.exe",
  ],
};

/** Import is not a permission: these words are the loader's own refusal. */
const IMPORT_REFUSED =
  /--(cached-only|no-remote) is specified|^Requires read access to/;

function isRefusal(error: unknown): boolean {
  return error instanceof Deno.errors.NotCapable ||
    error instanceof TypeError && IMPORT_REFUSED.test(error.message);
}

async function attempt(act: Act, clock: Clock): Promise<string | undefined> {
  const over = new AbortController();
  const limit = clock.sleep(ACT_MS, over.signal).then(() => {
    throw new AppError("timeout", `it was still going after ${ACT_MS} ms`);
  });
  // The act goes on when the limit comes first: what it made is still undone.
  const undone = Promise.try(() => act.run())
    .then(async (made) => await act.undo?.(made));
  try {
    await Promise.race([undone, limit]);
    return "it succeeded";
  } catch (error) {
    if (isRefusal(error)) return undefined;
    if (error instanceof AppError) return error.message;
    return `it was not refused, it failed: ${(error as Error).name}`;
  } finally {
    over.abort();
    limit.catch(ignore("a posture act was faster than its limit"));
    undone.catch(ignore("a posture act failed after its limit"));
  }
}

/** Does all acts at once. */
export async function runPosture(
  acts: readonly Act[],
  clock: Clock = systemClock,
): Promise<Posture> {
  const outcomes = await Promise.all(
    acts.map(async ({ name, ...act }) => ({
      act: name,
      why: await attempt({ name, ...act }, clock),
    })),
  );
  const failures = outcomes.flatMap(({ act, why }) =>
    why === undefined ? [] : [{ act, why }]
  );
  return {
    tried: acts.length,
    refused: acts.length - failures.length,
    failures,
  };
}

/**
 * Refuses to go on under an open sandbox.
 *
 * @throws {AppError} `forbidden`, naming what was not refused
 */
export function assertPosture(posture: Posture): void {
  if (posture.failures.length === 0) return;
  const list = posture.failures.map(({ act, why }) => `${act} (${why})`);
  throw new AppError(
    "forbidden",
    `Cannot serve: the sandbox did not refuse to ${list.join("; ")}`,
    {
      hint: 'Start with "deno task start", which computes the permissions; ' +
        "--unsafe-sandbox-off serves without a sandbox",
      details: { failures: posture.failures },
    },
  );
}

/** About a dozen acts that the computed flags refuse. */
export function postureActs(facts: PostureFacts): Act[] {
  const id = crypto.randomUUID();
  return [
    ...fileActs(facts, id),
    ...codeActs(id),
    ...netActs(facts),
    ...systemActs(facts, id),
  ];
}

function fileActs({ sourceDir, read, os }: PostureFacts, id: string): Act[] {
  const outside = OUTSIDE[os === "windows" ? "windows" : "unix"]
    .find((path) => !read.some((granted) => path.startsWith(granted)));
  const root = os === "windows" ? "C:\\" : "/";
  const create = (name: string, path: string): Act => ({
    name,
    run: () => Deno.writeTextFile(path, "", { createNew: true }),
    undo: () => Deno.remove(path),
  });
  const acts: Act[] = [
    create("create a file outside", `${root}carapace-posture-${id}`),
    create("write to its own source", `${sourceDir}/src/.posture-${id}`),
    {
      name: "open a database elsewhere",
      run: () => Deno.openKv(`${root}carapace-posture-${id}.db`),
      undo: async (kv) => {
        (kv as Deno.Kv).close();
        for (const tail of ["", "-wal", "-shm"]) {
          await Deno.remove(`${root}carapace-posture-${id}.db${tail}`)
            .catch(ignore("posture's database had no such file"));
        }
      },
    },
  ];
  if (outside !== undefined) {
    acts.push({
      name: "read a file outside",
      run: () => Deno.open(outside),
      undo: (file) => (file as Deno.FsFile).close(),
    });
  }
  return acts;
}

function codeActs(id: string): Act[] {
  // Not literals: those would be part of the program's own module graph.
  const load = (specifier: string) => import(specifier);
  return [
    {
      name: "start a program",
      run: () => new Deno.Command(`/carapace-posture-${id}`).output(),
    },
    {
      name: "load a native library",
      run: () => Deno.dlopen(`/carapace-posture-${id}.so`, {}),
      undo: (library) => (library as { close(): void }).close(),
    },
    {
      name: "import an npm package",
      run: () => load(`npm:@carapace-posture/x-${id}`),
    },
    {
      name: "import code by URL",
      run: () => load(`https://carapace-posture.invalid/${id}.ts`),
    },
    {
      name: "import a file outside",
      run: () => load(`file:///carapace-posture-${id}.ts`),
    },
  ];
}

function netActs({ isOpen, holes }: PostureFacts): Act[] {
  const close = (socket: unknown) => (socket as Deno.Conn).close();
  const hostname = PRIVATE.find((address) => !holes.includes(address));
  const acts: Act[] = [];
  if (hostname !== undefined) {
    acts.push({
      name: "connect to a private address",
      run: () => Deno.connect({ hostname, port: 9 }),
      undo: close,
    });
  }
  // With egress.open every public name and every port is granted on purpose.
  if (isOpen) return acts;
  return [
    ...acts,
    {
      name: "connect to an unlisted host",
      run: () =>
        Deno.connect({ hostname: "carapace-posture.invalid", port: 443 }),
      undo: close,
    },
    {
      name: "listen on another port",
      run: () => Deno.listen({ hostname: "127.0.0.1", port: 0 }),
      undo: close,
    },
  ];
}

function systemActs({ env, sys }: PostureFacts, id: string): Act[] {
  const acts: Act[] = [
    {
      // An unlisted variable is not refused, it looks unset.
      name: "see the environment",
      run: () => {
        if (env.get("PATH") !== undefined) return;
        throw new Deno.errors.NotCapable("PATH is not visible");
      },
    },
    {
      name: "reach a unix socket outside",
      run: () =>
        Deno.connect({
          transport: "unix",
          path: `/carapace-posture-${id}.sock`,
        }),
    },
  ];
  if (!sys.includes("networkInterfaces")) {
    acts.push({
      name: "list the network's interfaces",
      run: () => Deno.networkInterfaces(),
    });
  }
  return acts;
}

/** A grant that can be given back. */
export type Droppable = "env" | "sys" | "run" | "ffi" | "import";

/**
 * Gives back whole grants that only start-up needed; says which are really gone.
 * (Giving back a part drops the whole, so this takes names only.)
 */
export async function dropGrants(
  names: readonly Droppable[],
): Promise<Droppable[]> {
  const states = await Promise.all(
    names.map(async (name) => {
      const { state } = await Deno.permissions.revoke({ name });
      return { name, state };
    }),
  );
  return states.flatMap(({ name, state }) => state === "granted" ? [] : [name]);
}
