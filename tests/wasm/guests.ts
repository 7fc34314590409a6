/** Guests in AssemblyScript, compiled as a plugin's author would. */

/** Compiles one file that imports nothing but the host's functions. */
export async function compileGuest(
  source: string,
  options: { pages?: number } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  // Imported late: it brings a large module with it.
  const { default: asc } = await import("assemblyscript/asc");
  let binary: Uint8Array | undefined;
  const complaints: string[] = [];
  const { error } = await asc.main(
    [
      "guest.ts",
      "-O3",
      "--runtime",
      "minimal",
      "--exportRuntime",
      "-o",
      "guest.wasm",
      "--use",
      "abort=",
      "--initialMemory",
      String(options.pages ?? 1),
    ],
    {
      readFile: (name: string) => name === "guest.ts" ? source : null,
      writeFile: (name: string, content: string | Uint8Array) => {
        if (name === "guest.wasm" && typeof content !== "string") {
          binary = content;
        }
      },
      listFiles: () => [],
      stderr: {
        write: (chunk: string | Uint8Array) => {
          complaints.push(String(chunk));
        },
      },
    },
  );
  if (error !== null || binary === undefined) {
    throw new SyntaxError(`Cannot compile the guest: ${complaints.join("")}`);
  }
  return new Uint8Array(binary);
}

/**
 * The modules that a script brings with it, as it hands them to the engine.
 * The script may be given other bytes in their place.
 */
export async function modulesOf(
  load: () => Promise<unknown>,
  replace: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> = (b) =>
    b,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const found: Uint8Array<ArrayBuffer>[] = [];
  const { instantiate } = WebAssembly;
  const spy = (source: BufferSource | WebAssembly.Module, imports: object) => {
    if (source instanceof WebAssembly.Module) {
      return instantiate(source, imports as WebAssembly.Imports);
    }
    const bytes = ArrayBuffer.isView(source)
      ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
      : new Uint8Array(source);
    const copy = new Uint8Array(bytes);
    found.push(copy);
    return instantiate(replace(copy), imports as WebAssembly.Imports);
  };
  WebAssembly.instantiate = spy as typeof WebAssembly.instantiate;
  try {
    await load();
  } finally {
    WebAssembly.instantiate = instantiate;
  }
  return found;
}
