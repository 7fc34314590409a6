/**
 * Does at start what the service needs, so that a missing permission or a taken
 * port is one clear message instead of a failure an hour later. It acts where
 * asking would lie: the runtime says `granted` for an address that a denied
 * range covers.
 *
 * Never: a permission is asked for; something is left behind.
 *
 * @module
 */
import { AppError, errorText, ignore } from "../core/errors.ts";
import type { Need } from "../core/needs.ts";

/** What the service is about to do. */
export interface PreflightOptions {
  /** Where it will listen. */
  host: string;
  port: number;
  /** Where its state lives; made when it is not there. */
  stateDir: string;
  /** Every entry the configuration leads to. */
  needs: readonly Need[];
}

/** Something that would fail later. */
export interface PreflightProblem {
  /** What could not be done. */
  what: string;
  why: string;
  hint?: string;
}

/** What {@linkcode runPreflight} found; both empty is good. */
export interface Preflight {
  /** Flags that must be added, exactly. */
  missing: readonly string[];
  problems: readonly PreflightProblem[];
}

/** An act, and the entry that allows it. */
type Probe = {
  kind: "net" | "read" | "write";
  value: string;
  what: string;
  run(): Promise<void>;
};

/** Binds, writes, and holds every other need against what was granted. */
export async function runPreflight(
  options: PreflightOptions,
): Promise<Preflight> {
  const missing = new Map<Need["kind"], Set<string | true>>();
  const miss = (kind: Need["kind"], value: string | true) => {
    missing.set(kind, (missing.get(kind) ?? new Set()).add(value));
  };
  const problems: PreflightProblem[] = [];
  for (const { kind, value, what, run } of probes(options)) {
    try {
      await run();
    } catch (error) {
      const isRefused = error instanceof Deno.errors.NotCapable;
      if (isRefused && !await isGranted(kind, value)) miss(kind, value);
      else problems.push(toProblem(what, error));
    }
  }
  for (const { kind, value } of options.needs) {
    if (!await isGranted(kind, value)) miss(kind, value);
  }
  const flags = [...missing].map(([kind, values]) =>
    values.has(true)
      ? `--allow-${kind}`
      : `--allow-${kind}=${[...values].join(",")}`
  );
  return { missing: flags, problems };
}

/**
 * Stops a start that cannot work.
 *
 * @throws {AppError} `forbidden` with one line naming the missing flags,
 * `unavailable` for anything else that stands in the way
 */
export function assertPreflight({ missing, problems }: Preflight): void {
  if (missing.length > 0) {
    throw new AppError(
      "forbidden",
      `Cannot start with these permissions, missing: ${missing.join(" ")}`,
      {
        hint: 'Start with "deno task start", which computes the permissions; ' +
          '"carapace permissions --flags" prints them',
        details: { missing },
      },
    );
  }
  const [first] = problems;
  if (first === undefined) return;
  throw new AppError(
    "unavailable",
    problems.map(({ what, why }) => `Cannot ${what}: ${why}`).join("; "),
    first.hint === undefined ? {} : { hint: first.hint },
  );
}

function probes({ host, port, stateDir }: PreflightOptions): Probe[] {
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  const name = bare.includes(":") ? `[${bare}]` : bare;
  const probe = `${stateDir}/.preflight-${crypto.randomUUID()}`;
  return [
    {
      kind: "net",
      value: `${name}:${port}`,
      what: `listen on ${name}:${port}`,
      run: () => {
        Deno.listen({ hostname: bare, port }).close();
        return Promise.resolve();
      },
    },
    {
      kind: "read",
      value: stateDir,
      what: `read ${JSON.stringify(stateDir)}`,
      run: async () => {
        await Deno.lstat(stateDir).catch((error) => {
          if (!(error instanceof Deno.errors.NotFound)) throw error;
        });
      },
    },
    {
      kind: "write",
      value: stateDir,
      what: `write to ${JSON.stringify(stateDir)}`,
      run: async () => {
        await Deno.mkdir(stateDir, { recursive: true, mode: 0o700 });
        await Deno.writeFile(probe, new Uint8Array(), {
          createNew: true,
          mode: 0o600,
        });
        await Deno.remove(probe).catch(ignore("preflight's file was gone"));
      },
    },
  ];
}

function toProblem(what: string, error: unknown): PreflightProblem {
  if (error instanceof Deno.errors.AddrInUse) {
    const port = Number(/:(\d+)$/.exec(what)?.[1]);
    return {
      what,
      why: "another program listens there",
      hint: `It may be another carapace ("carapace status" tells). Stop it, ` +
        `or choose another port: CARAPACE_PORT=${
          port < 65_535 ? port + 1 : 18_789
        }`,
    };
  }
  if (error instanceof Deno.errors.NotCapable) {
    return {
      what,
      why: "a denied range covers it, though it is in the allow list",
      hint: "Cut the exact address out of --deny-net",
    };
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return {
      what,
      why: "the operating system does not allow it",
      hint: "Look at the owner and the mode of the folder, or choose another",
    };
  }
  return { what, why: errorText(error) };
}

async function isGranted(
  kind: Need["kind"],
  value: string | true,
): Promise<boolean> {
  const { state } = await Deno.permissions.query(toDescriptor(kind, value));
  return state === "granted";
}

function toDescriptor(
  kind: Need["kind"],
  value: string | true,
): Deno.PermissionDescriptor {
  if (value === true) return { name: kind };
  switch (kind) {
    case "net":
      // A pattern cannot be asked about, a name that it covers can.
      return { name: kind, host: value.replace(/^\*\./, "any.") };
    case "read":
    case "write":
    case "ffi":
      return { name: kind, path: value };
    case "env":
      return { name: kind, variable: value };
    case "sys":
      return { name: kind, kind: value } as Deno.SysPermissionDescriptor;
    case "run":
      return { name: kind, command: value };
    default:
      return kind satisfies never;
  }
}
