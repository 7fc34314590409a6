/**
 * Notices when the configuration's files have other contents than before.
 *
 * Never: a file that was only touched, or replaced by its equal, is a change.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { dirname, resolve } from "node:path";
import { AppError, errorText, ignore } from "../core/errors.ts";
import { type Clock, systemClock } from "../core/time.ts";
import { FILE_BYTES_MAX } from "./source.ts";

export interface WatchOptions {
  clock?: Clock;
  /** How long a file must keep still before it counts. @default 150 */
  quietMs?: number;
}

/** A file that never keeps still counts after so many looks. */
const LOOKS_MAX = 20;

/**
 * Yields the paths whose contents changed, each time some did, until the signal
 * aborts. Watching begins with the call, not with the first `next()`. Folders
 * are watched, so editors that write another file and rename it are seen, and
 * so is a file that appears or goes.
 *
 * @throws {AppError} `not_found` when no path is in a folder that exists
 */
export function watchConfig(
  paths: readonly string[],
  signal: AbortSignal,
  options: WatchOptions = {},
): AsyncGenerator<string[], void, undefined> {
  const { clock = systemClock, quietMs = 150 } = options;
  const watcher = open(paths);
  let isOpen = true;
  const close = () => {
    if (isOpen) watcher.close();
    isOpen = false;
  };
  let known = look(paths);
  signal.addEventListener("abort", close, { once: true });
  if (signal.aborted) close();
  return (async function* () {
    try {
      for await (const event of watcher) {
        // Not a change: some platforms report our own reading.
        if (event.kind === "access") continue;
        const now = await settle(paths, {
          pause: () => clock.sleep(quietMs, signal),
        });
        const changed = paths.filter((path) =>
          known.get(path) !== now.get(path)
        );
        known = now;
        if (changed.length > 0) yield changed;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", close);
      close();
    }
  })();
}

function open(paths: readonly string[]): Deno.FsWatcher {
  const folders = new Set<string>();
  for (const path of paths) {
    for (const place of [resolve(path), realPath(path)]) {
      if (place !== undefined && isFolder(dirname(place))) {
        folders.add(dirname(place));
      }
    }
  }
  if (folders.size === 0) {
    throw new AppError(
      "not_found",
      `Cannot watch "${paths[0] ?? ""}": its folder does not exist`,
    );
  }
  return Deno.watchFs([...folders], { recursive: false });
}

function realPath(path: string): string | undefined {
  try {
    return Deno.realPathSync(path);
  } catch (error) {
    ignore("the watched file does not exist yet")(error);
    return undefined;
  }
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    ignore("the watched folder does not exist")(error);
    return false;
  }
}

/**
 * What each file holds now, as a hash, or why it cannot be read. At once, so
 * that nothing can happen between the call to watch and the first look.
 */
function look(paths: readonly string[]): Map<string, string> {
  return new Map(paths.map((path) => [path, lookAt(path)]));
}

function lookAt(path: string): string {
  try {
    const { isFile, size, mode } = Deno.statSync(path);
    if (!isFile || size > FILE_BYTES_MAX) return `unusable ${size}`;
    const hash = createHash("sha256").update(Deno.readFileSync(path));
    return `${mode} ${hash.digest("hex")}`;
  } catch (error) {
    return errorText(error);
  }
}

/** Looks until two looks in a row agree. */
async function settle(
  paths: readonly string[],
  { pause }: { pause(): Promise<void> },
): Promise<Map<string, string>> {
  let last = look(paths);
  for (let looks = 1; looks < LOOKS_MAX; looks++) {
    await pause();
    const now = look(paths);
    if (paths.every((path) => now.get(path) === last.get(path))) return now;
    last = now;
  }
  return last;
}
