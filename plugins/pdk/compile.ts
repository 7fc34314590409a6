/**
 * Compiles a plugin's AssemblyScript to WebAssembly: the same source gives the
 * same bytes on every machine.
 */
import asc from "assemblyscript/asc";
// deno-lint-ignore no-import-prefix
import pdkEnv from "npm:@extism/as-pdk@1.0.0/lib/env.ts" with { type: "text" };
// deno-lint-ignore no-import-prefix
import pdk from "npm:@extism/as-pdk@1.0.0/lib/pdk.ts" with { type: "text" };
import { join } from "node:path";

/** The development kit comes as source. */
const PDK: Readonly<Record<string, string>> = {
  "node_modules/@extism/as-pdk/index.ts": `export * from "./lib/pdk";`,
  "node_modules/@extism/as-pdk/lib/pdk.ts": pdk,
  "node_modules/@extism/as-pdk/lib/env.ts": pdkEnv,
};

/**
 * Compiles `assembly/index.ts` of a folder. `shared` are folders whose files
 * stand beside it, as if they were its own.
 *
 * @throws {SyntaxError} with the compiler's own words
 */
export async function compile(
  folder: string,
  shared: readonly string[] = [],
): Promise<Uint8Array<ArrayBuffer>> {
  const places = (name: string): string[] => {
    const own = /^assembly\/([\w/]+\.ts)$/.exec(name)?.[1];
    if (own === undefined) return [];
    return [join(folder, "assembly", own), ...shared.map((s) => join(s, own))];
  };
  let binary: Uint8Array | undefined;
  const complaints: string[] = [];
  const { error } = await asc.main([
    "assembly/index.ts",
    "--outFile",
    "out.wasm",
    "-O3",
    "--noAssert",
    "--runtime",
    "incremental",
    "--use",
    // A failed check traps, and imports nothing for it.
    "abort=",
  ], {
    readFile: async (name: string) => {
      if (Object.hasOwn(PDK, name)) return PDK[name] ?? null;
      for (const path of places(name.replaceAll("\\", "/"))) {
        const text = await Deno.readTextFile(path).catch(() => undefined);
        if (text !== undefined) return text;
      }
      return null;
    },
    writeFile: (name: string, content: string | Uint8Array) => {
      if (name === "out.wasm" && typeof content !== "string") binary = content;
    },
    listFiles: () => [],
    stderr: {
      write: (chunk: string | Uint8Array) =>
        void complaints.push(String(chunk)),
    },
  });
  if (error !== null || binary === undefined) {
    throw new SyntaxError(`Cannot compile ${folder}: ${complaints.join("")}`);
  }
  return new Uint8Array(binary);
}
