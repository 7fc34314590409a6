/**
 * Modules on their way into the store: the command line puts them beside the
 * store, the gateway takes them. Whoever can write there owns this installation,
 * so a token alone installs nothing.
 *
 * @module
 */
import { join } from "node:path";
import { AppError, ignore } from "../core/errors.ts";

const NAME = /^[0-9a-f]{64}$/;

function pathOf(stateDir: string, sha256: string): string {
  if (!NAME.test(sha256)) {
    throw new AppError("bad_input", "Cannot use that as a module's hash");
  }
  return join(stateDir, "incoming", `${sha256}.wasm`);
}

/** Puts a module where the gateway finds it; undone by disposing. */
export async function putIncoming(
  stateDir: string,
  sha256: string,
  bytes: Uint8Array,
): Promise<AsyncDisposable> {
  const path = pathOf(stateDir, sha256);
  await Deno.mkdir(join(stateDir, "incoming"), {
    recursive: true,
    mode: 0o700,
  });
  await Deno.writeFile(path, bytes, { mode: 0o600 });
  return {
    [Symbol.asyncDispose]: () =>
      Deno.remove(path).catch(ignore("the gateway took the module")),
  };
}

/** Reads a module that was put there. @throws {AppError} `not_found` */
export async function takeIncoming(
  stateDir: string,
  sha256: string,
  bytesMax: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const path = pathOf(stateDir, sha256);
  try {
    const { size, isFile, isSymlink } = await Deno.lstat(path);
    if (!isFile || isSymlink) throw new Deno.errors.NotFound();
    if (size > bytesMax) {
      throw new AppError(
        "too_large",
        `Cannot take the module: it is larger than ${bytesMax} bytes`,
      );
    }
    return await Deno.readFile(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new AppError(
      "not_found",
      "Cannot install the plugin: its module is not in the state directory",
      {
        hint:
          'Run "carapace plugin install" on the machine the gateway runs on',
      },
    );
  }
}
