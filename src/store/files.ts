/**
 * The state directory: who may read it, who holds it, the files the engine and
 * the cipher need. Every file access of the store is here.
 *
 * Never: a file of the store is born readable by others; what others may read or
 * write is used, but read in a container whose configuration says so.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { CIPHER_KEY_BYTES } from "./cipher.ts";

const OTHERS_WRITE = 0o022;
const OTHERS_READ = 0o055;
const HOLDER_BYTES_MAX = 512;
const LOCK_LOOKS = 10;
const LOCK_LOOK_MS = 20;

/** A held state directory. Disposing frees it; so does any death. */
export interface StateLock extends Disposable {
  /** Changes what others are told of the holder. */
  describe(text: string): void;
}

/** Directories this process holds: the kernel would count us as a stranger. */
const held = new Map<string, { isOpen: boolean }>();

function lockPath(dir: string): string {
  return `${dir}/lock`;
}

function makeDir(dir: string): string {
  Deno.mkdirSync(dir, { recursive: true, mode: 0o700 });
  return Deno.realPathSync(dir);
}

/**
 * A program that is being started shares our open files until it is loaded, the
 * lock of one just closed too: a lock that is taken is looked at again.
 */
function takeLock(file: Deno.FsFile): boolean {
  const wait = new Int32Array(new SharedArrayBuffer(4));
  for (let n = 0; n < LOCK_LOOKS; n++) {
    if (file.tryLockSync(true)) return true;
    Atomics.wait(wait, 0, 0, LOCK_LOOK_MS);
  }
  return false;
}

/**
 * Holds a state directory for this process.
 *
 * @param text what others are told of the holder: pid and address
 * @throws {AppError} `locked` naming the holder
 */
export function lockState(dir: string, text: string): StateLock {
  const real = makeDir(dir);
  const file = Deno.openSync(lockPath(real), {
    read: true,
    write: true,
    create: true,
    mode: 0o600,
  });
  if (held.has(real) || !takeLock(file)) {
    file.close();
    const holder = readHolder(real);
    throw new AppError(
      "locked",
      `Cannot use "${dir}": it is held by ${holder ?? "another process"}`,
      {
        hint:
          "Stop that process, or set CARAPACE_STATE_DIR to another directory",
        details: { dir, ...(holder === undefined ? {} : { holder }) },
      },
    );
  }
  held.set(real, { isOpen: false });
  const describe = (next: string) => {
    const bytes = new TextEncoder().encode(
      next.replaceAll(/\s+/g, " ").slice(0, HOLDER_BYTES_MAX / 4),
    );
    file.truncateSync(0);
    file.seekSync(0, Deno.SeekMode.Start);
    file.writeSync(bytes);
  };
  describe(text);
  return {
    describe,
    [Symbol.dispose]: () => {
      if (!held.delete(real)) return;
      file.truncateSync(0);
      file.close();
    },
  };
}

/** What the holder of a state directory says of itself, if anybody holds it. */
export function readHolder(dir: string): string | undefined {
  try {
    using file = Deno.openSync(lockPath(dir), { read: true });
    const bytes = new Uint8Array(HOLDER_BYTES_MAX);
    const count = file.readSync(bytes) ?? 0;
    const text = new TextDecoder().decode(bytes.subarray(0, count)).trim();
    return text === "" ? undefined : text;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/**
 * The lock a store opens under: the one this process took with
 * {@linkcode lockState}, or its own. One store a directory.
 */
export function claimState(dir: string): Disposable {
  const real = makeDir(dir);
  const own = held.has(real) ? undefined : lockState(dir, `pid ${Deno.pid}`);
  const entry = held.get(real);
  if (entry === undefined || entry.isOpen) {
    throw new AppError(
      "locked",
      `Cannot open the store in "${dir}": this process has it open already`,
    );
  }
  entry.isOpen = true;
  return {
    [Symbol.dispose]: () => {
      entry.isOpen = false;
      own?.[Symbol.dispose]();
    },
  };
}

/**
 * Makes the state directory and an empty `kv.db` nobody else can read, or
 * checks those that are there. The engine's other files take over its mode.
 *
 * @returns the path for `openKv`
 * @throws {AppError} `forbidden` when others may write there, or read unless
 * that is `mayBeRead`
 */
export async function prepareState(
  dir: string,
  { log, mayBeRead }: { log: Log; mayBeRead: boolean },
): Promise<string> {
  await Deno.mkdir(dir, { recursive: true, mode: 0o700 });
  const path = `${dir}/kv.db`;
  try {
    using _file = await Deno.open(path, {
      write: true,
      createNew: true,
      mode: 0o600,
    });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  await checkMode(dir, { want: "700", log, mayBeRead });
  for (const file of [path, `${path}-wal`, `${path}-shm`]) {
    await checkMode(file, { want: "600", log, mayBeRead });
  }
  return path;
}

async function checkMode(
  path: string,
  options: { want: "600" | "700"; log: Log; mayBeRead: boolean },
): Promise<void> {
  const hint = `Run: chmod ${options.want} "${path}"`;
  const info = await lstat(path);
  if (info === undefined) return;
  if (info.isSymlink && options.want === "600") {
    throw new AppError(
      "forbidden",
      `Cannot use "${path}": it is a symbolic link`,
      { hint: "Remove the link, and put the file itself there" },
    );
  }
  const mode = (info.isSymlink ? await Deno.stat(path) : info).mode;
  if (mode === null) return; // a system without modes
  if ((mode & OTHERS_WRITE) !== 0) {
    throw new AppError(
      "forbidden",
      `Cannot use "${path}": others may write it (mode ${showMode(mode)})`,
      { hint },
    );
  }
  if ((mode & OTHERS_READ) !== 0 && !options.mayBeRead) {
    throw new AppError(
      "forbidden",
      `Cannot use "${path}": others may read it (mode ${showMode(mode)})`,
      { hint },
    );
  }
  if ((mode & OTHERS_READ) !== 0) {
    options.log("warn", "store.mode.open", {
      path,
      mode: showMode(mode),
      hint,
    });
  }
}

function showMode(mode: number): string {
  return (mode & 0o777).toString(8).padStart(4, "0");
}

async function lstat(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/**
 * The key for what is always sealed: random, made once, in a file of mode 0600.
 *
 * @throws {AppError} `forbidden` when others may read it or it is damaged
 */
export async function openKeyFile(dir: string): Promise<Uint8Array> {
  const path = `${dir}/store.key`;
  const info = await lstat(path);
  if (info === undefined) return await makeKeyFile(path);
  if (!info.isFile || (info.mode !== null && (info.mode & 0o077) !== 0)) {
    throw new AppError(
      "forbidden",
      `Cannot use "${path}": it must be a file that only its owner can read`,
      { hint: `Run: chmod 600 "${path}"` },
    );
  }
  const key = await Deno.readFile(path);
  if (key.length !== CIPHER_KEY_BYTES) {
    throw new AppError(
      "forbidden",
      `Cannot use "${path}": it holds ${key.length} bytes, not ${CIPHER_KEY_BYTES}`,
      {
        hint: "Restore it from a backup; without it tokens must be made again",
      },
    );
  }
  return key;
}

async function makeKeyFile(path: string): Promise<Uint8Array> {
  const key = crypto.getRandomValues(new Uint8Array(CIPHER_KEY_BYTES));
  const temporary = `${path}.${crypto.randomUUID()}`;
  {
    using file = await Deno.open(temporary, {
      write: true,
      createNew: true,
      mode: 0o600,
    });
    await file.write(key);
    await file.sync();
  }
  await Deno.rename(temporary, path);
  return key;
}
