/**
 * How a process of ours ends, in numbers: for scripts, and for the launcher.
 *
 * @module
 */

/**
 * The variable by which a launcher tells the doctor how many files a process it
 * starts may have open: the sandbox of its own would have to be off to look.
 */
export const OPEN_FILES = "CARAPACE_OPEN_FILES";

/**
 * A service asks for a restart when it has lived this long, whatever its owner
 * writes: one that ends sooner, again and again, does nothing but ask, and its
 * launcher gives it up.
 */
export const SETTLED_MS = 2_000;

/** Exit codes of every verb; `docs/cli.md` lists them. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  /** Another process holds the state directory. */
  locked: 3,
  badConfig: 4,
  unreachable: 5,
  unauthorized: 6,
  /** The service asks its launcher for wider permissions. */
  restart: 75,
  interrupted: 130,
} as const;
