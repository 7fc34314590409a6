/**
 * A guest of the system interface, as C and Go programs are: it tries each door
 * and says what came of it. Every answer is the interface's own error number.
 */
import { fail, output } from "./carapace";

@external("wasi_snapshot_preview1", "args_sizes_get")
declare function args_sizes_get(count: usize, bytes: usize): i32;
@external("wasi_snapshot_preview1", "environ_sizes_get")
declare function environ_sizes_get(count: usize, bytes: usize): i32;
@external("wasi_snapshot_preview1", "clock_time_get")
declare function clock_time_get(id: i32, precision: i64, time: usize): i32;
@external("wasi_snapshot_preview1", "random_get")
declare function random_get(at: usize, length: usize): i32;
@external("wasi_snapshot_preview1", "fd_prestat_get")
declare function fd_prestat_get(fd: i32, at: usize): i32;
@external("wasi_snapshot_preview1", "fd_prestat_dir_name")
declare function fd_prestat_dir_name(fd: i32, at: usize, size: usize): i32;
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: i32, iovs: usize, count: usize, read: usize): i32;
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: i32, iovs: usize, count: usize, written: usize): i32;
@external("wasi_snapshot_preview1", "fd_readdir")
declare function fd_readdir(fd: i32, at: usize, size: usize, cookie: i64, used: usize): i32;
@external("wasi_snapshot_preview1", "path_open")
declare function path_open(
  fd: i32,
  dirflags: i32,
  path: usize,
  length: usize,
  oflags: i32,
  rights: i64,
  inheriting: i64,
  fdflags: i32,
  opened: usize,
): i32;
@external("wasi_snapshot_preview1", "path_filestat_get")
declare function path_filestat_get(
  fd: i32,
  flags: i32,
  path: usize,
  length: usize,
  at: usize,
): i32;
@external("wasi_snapshot_preview1", "path_create_directory")
declare function path_create_directory(fd: i32, path: usize, length: usize): i32;
@external("wasi_snapshot_preview1", "path_unlink_file")
declare function path_unlink_file(fd: i32, path: usize, length: usize): i32;
@external("wasi_snapshot_preview1", "poll_oneoff")
declare function poll_oneoff(ins: usize, outs: usize, count: i32, n: usize): i32;
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(code: i32): void;

const block = memory.data(4096);
const iov = memory.data(16);
const result = memory.data(64);

const PATHS = [
  "etc/passwd",
  "/etc/passwd",
  "../../../etc/passwd",
  "/proc/self/environ",
  ".",
];
/** Every descriptor a program could have been given. */
const FDS = 64;

function row(name: string, value: string): string {
  return "\"" + name + "\":" + value;
}

function list(values: Set<i32>): string {
  return "[" + values.values().join(",") + "]";
}

/** What it was started with. */
export function given(): i32 {
  const none = "[" + args_sizes_get(result, result + 4).toString() + "," +
    load<i32>(result).toString() + "]";
  const env = "[" + environ_sizes_get(result, result + 4).toString() + "," +
    load<i32>(result).toString() + "]";
  const dirs = new Set<i32>();
  for (let fd = 0; fd < FDS; fd++) {
    dirs.add(fd_prestat_get(fd, result));
    dirs.add(fd_prestat_dir_name(fd, block, 4096));
    dirs.add(fd_readdir(fd, block, 4096, 0, result));
  }
  return output("{" + row("args", none) + "," + row("env", env) + "," +
    row("folders", list(dirs)) + "}");
}

/** Opens, looks at, makes and removes files, below every descriptor. */
export function files(): i32 {
  const came = new Set<i32>();
  for (let n = 0; n < PATHS.length; n++) {
    const path = Uint8Array.wrap(String.UTF8.encode(PATHS[n]));
    const at = path.dataStart;
    for (let fd = -1; fd < FDS; fd++) {
      came.add(path_open(fd, 1, at, path.length, 0, -1, -1, 0, result));
      came.add(path_open(fd, 1, at, path.length, 9, -1, -1, 0, result));
      came.add(path_filestat_get(fd, 1, at, path.length, block));
      came.add(path_create_directory(fd, at, path.length));
      came.add(path_unlink_file(fd, at, path.length));
    }
  }
  return output(list(came));
}

/** Reads and writes the three streams, and what else may be open. */
export function streams(): i32 {
  store<usize>(iov, block);
  store<usize>(iov, 4096, 4);
  let read = 0;
  const reads = new Set<i32>();
  for (let fd = 0; fd < FDS; fd++) {
    store<i32>(result, 0);
    reads.add(fd_read(fd, iov, 1, result));
    read += load<i32>(result);
  }
  memory.fill(block, 65, 4096);
  const writes = new Set<i32>();
  for (let fd = 1; fd < FDS; fd++) writes.add(fd_write(fd, iov, 1, result));
  return output("{" + row("bytes", read.toString()) + "," +
    row("reads", list(reads)) + "," + row("writes", list(writes)) + "}");
}

/** The time, in milliseconds. */
export function clock(): i32 {
  const came = clock_time_get(0, 0, result);
  const ms = load<u64>(result) / 1000000;
  return came != 0 ? fail(came.toString()) : output(ms.toString());
}

/** Sixteen bytes that nobody can guess, twice. */
export function random(): i32 {
  if (random_get(block, 32) != 0) return fail("none");
  let text = "";
  for (let n = 0; n < 4; n++) text += load<u64>(block + 8 * n).toString(16) + " ";
  return output(text);
}

/** More random bytes than any call pays for. */
export function random_flood(): i32 {
  const at = heap.alloc(16 << 20);
  while (true) random_get(at, 16 << 20);
  return 0;
}

/** Sleeps for an hour, which would hold the thread and burn nothing. */
export function sleep(): i32 {
  memory.fill(block, 0, 48);
  store<u64>(block, 3600000000000, 24);
  return output(poll_oneoff(block, block + 96, 1, result).toString());
}

export function exit(): i32 {
  proc_exit(3);
  return output("it went on");
}
