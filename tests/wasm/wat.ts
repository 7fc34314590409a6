/** Text to WebAssembly and back to an opinion, for tests. */
import wabtInit from "wabt";

const FEATURES = {
  bulk_memory: true,
  multi_value: true,
  mutable_globals: true,
  reference_types: true,
  sat_float_to_int: true,
  sign_extension: true,
  simd: true,
  tail_call: true,
};

/** A second opinion on modules, and their assembler. */
export interface Wat {
  assemble(text: string): Uint8Array<ArrayBuffer>;
  /** Throws with wabt's words when it does not accept the module. */
  check(bytes: Uint8Array): void;
}

/** Loads wabt. */
export async function openWat(): Promise<Wat> {
  const wabt = await wabtInit();
  return {
    assemble(text) {
      const module = wabt.parseWat("test.wat", text, FEATURES);
      try {
        module.resolveNames();
        return new Uint8Array(module.toBinary({}).buffer);
      } finally {
        module.destroy();
      }
    },
    check(bytes) {
      const module = wabt.readWasm(
        bytes,
        {
          ...FEATURES,
          readDebugNames: false,
          check: true,
        } as Parameters<typeof wabt.readWasm>[1],
      );
      try {
        module.validate();
      } finally {
        module.destroy();
      }
    },
  };
}
