/**
 * What `doctor` can see of this machine without a gateway: the state directory,
 * the disk, the clock, the limit of open files.
 *
 * Never: it changes anything, or reads what a file holds.
 *
 * @module
 */
import { statfs } from "node:fs/promises";
import { dirname, join } from "node:path";

/** How one check came out, and what repairs it. */
export interface Check {
  name: string;
  /** `skip`: it could not be looked at; nothing is known. */
  state: "ok" | "warn" | "fail" | "skip";
  detail: string;
  fix?: string;
}

const LIMITS = {
  /** Files of the state directory whose modes the doctor looks at. */
  entriesMax: 200,
  /** Room on the disk below which the doctor warns. */
  freeBytesWarn: 1_000_000_000,
  /** Room on the disk below which the doctor says it failed. */
  freeBytesFail: 100_000_000,
  /** Open files below which the doctor warns. */
  openFilesMin: 1024,
  /** No clock that is right says a time before this program was written. */
  clockMin: Date.UTC(2026, 0, 1),
  /** Difference to the gateway's clock at which the doctor says it failed. */
  skewMs: 120_000,
  /** A file may be a little newer than now: clocks are adjusted. */
  aheadMs: 60_000,
} as const;

function modeText(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, "0");
}

async function findInfo(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** The state directory is there and its owner's alone, and so is what it holds. */
export async function checkStateDir(dir: string): Promise<Check> {
  const name = "state";
  const info = await findInfo(dir);
  if (info === undefined) {
    return {
      name,
      state: "warn",
      detail: `${dir} does not exist yet`,
      fix: 'The first start makes it: run "deno task start"',
    };
  }
  if (!info.isDirectory && !info.isSymlink) {
    const fix = "Set CARAPACE_STATE_DIR to a folder";
    return { name, state: "fail", detail: `${dir} is not a folder`, fix };
  }
  if (info.mode === null) {
    return { name, state: "ok", detail: `${dir} (no modes on this system)` };
  }
  const { mode } = await Deno.stat(dir);
  if (mode !== null && (mode & 0o077) !== 0) {
    return {
      name,
      state: (mode & 0o022) !== 0 ? "fail" : "warn",
      detail: `${dir} has mode ${modeText(mode)}: other users can enter it`,
      fix: `chmod 700 '${dir}'`,
    };
  }
  const open = await openEntries(dir);
  if (open.length > 0) {
    return {
      name,
      state: "fail",
      detail: `other users could read ${open.join(", ")} in ${dir}`,
      fix: `chmod go= ${
        open.map((entry) => `'${join(dir, entry)}'`).join(" ")
      }`,
    };
  }
  return { name, state: "ok", detail: `${dir}, its owner's alone` };
}

async function openEntries(dir: string): Promise<string[]> {
  const open: string[] = [];
  let count = 0;
  for await (const { name, isFile } of Deno.readDir(dir)) {
    if (++count > LIMITS.entriesMax) break;
    if (!isFile) continue;
    const { mode } = await findInfo(join(dir, name)) ?? { mode: null };
    if (mode !== null && (mode & 0o077) !== 0) open.push(name);
  }
  return open;
}

async function freeBytes(dir: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(dir);
    return Number(bavail) * Number(bsize);
  } catch {
    return undefined; // not there, or not permitted
  }
}

/** There is room for what is written every day. */
export async function checkDisk(dir: string): Promise<Check> {
  const name = "disk";
  const free = await freeBytes(dir) ?? await freeBytes(dirname(dir));
  if (free === undefined) {
    return { name, state: "skip", detail: "this process may not ask" };
  }
  const detail = `${(free / 1e9).toFixed(1)} GB free`;
  if (free >= LIMITS.freeBytesWarn) return { name, state: "ok", detail };
  const state = free < LIMITS.freeBytesFail ? "fail" : "warn";
  return { name, state, detail, fix: `Make room on the disk of ${dir}` };
}

/** A soft limit in the words of `/proc/self/limits`. */
export function parseOpenFiles(text: string): number | undefined {
  const soft = /^Max open files\s+(\d+|unlimited)\s/m.exec(text)?.[1];
  if (soft === undefined) return undefined;
  return soft === "unlimited" ? Infinity : Number(soft);
}

/** `getconf OPEN_MAX`: a number, or a word for a system without such a limit. */
function toldOpenFiles(told: string): number | undefined {
  if (/^\d{1,12}$/.test(told)) return Number(told);
  return /^(undefined|unlimited|-1)$/.test(told) ? Infinity : undefined;
}

/**
 * Every connection is an open file.
 *
 * @param told What the launcher found, where one started this process
 */
export async function checkOpenFiles(told = ""): Promise<Check> {
  const name = "open files";
  const fix = "ulimit -n 4096 (before the start), or LimitNOFILE= in a unit";
  let soft = toldOpenFiles(told);
  try {
    soft ??= parseOpenFiles(await Deno.readTextFile("/proc/self/limits"));
  } catch {
    // another system, or a sandbox: /proc needs all permissions
  }
  if (soft === undefined) {
    const detail =
      `this process may not ask; "ulimit -n" says it, ${LIMITS.openFilesMin} or more is right`;
    return { name, state: "skip", detail };
  }
  return soft >= LIMITS.openFilesMin
    ? { name, state: "ok", detail: soft === Infinity ? "unlimited" : `${soft}` }
    : { name, state: "warn", detail: `only ${soft}`, fix };
}

/** The clock is not far off: tokens and schedules go by it. */
export async function checkClock(
  now: number,
  options: { stateDir: string; gatewayNow?: number },
): Promise<Check> {
  const name = "clock";
  const fix = "Set the machine's clock (timedatectl set-ntp true)";
  if (now < LIMITS.clockMin) {
    const detail = `it says ${new Date(now).toISOString()}`;
    return { name, state: "fail", detail, fix };
  }
  const skew = Math.abs(now - (options.gatewayNow ?? now));
  if (skew > LIMITS.skewMs) {
    const detail = `${Math.round(skew / 1000)} s from the gateway's`;
    return { name, state: "fail", detail, fix };
  }
  const store = await findInfo(join(options.stateDir, "kv.db"))
    .catch(() => undefined);
  const writtenAt = store?.mtime?.getTime() ?? 0;
  if (writtenAt > now + LIMITS.aheadMs) {
    const detail = `it is before the last write, ${
      new Date(writtenAt).toISOString()
    }`;
    return { name, state: "warn", detail, fix };
  }
  return { name, state: "ok", detail: new Date(now).toISOString() };
}
