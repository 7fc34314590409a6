/**
 * The keys of other gateways this one's owner has accepted: `<state>/pins.json`,
 * for the owner's eyes only.
 *
 * Never: a pin is taken from a file that others can write.
 *
 * @module
 */
import { z } from "zod";
import { parseJson } from "../core/bounded.ts";
import { AppError } from "../core/errors.ts";
import { alone, writeWhole } from "./files.ts";
import { readPrivateText } from "./private_file.ts";

const PINS_FILE = "pins.json";
const BYTES_MAX = 262_144;

/** By `host:port`: the key's fingerprint. */
const Pins = z.record(
  z.string().max(300),
  z.string().regex(/^sha256:[0-9a-f]{64}$/),
);
type Pins = z.infer<typeof Pins>;

async function readPins(dir: string): Promise<Pins> {
  const path = `${dir}/${PINS_FILE}`;
  const text = await readPrivateText(path, {
    what: "the pinned keys",
    bytesMax: BYTES_MAX,
    hint: `Look at it: others may have changed it. Then run: chmod 600 ${path}`,
    hintNoFile: "Remove it; keys are asked about again",
  });
  if (text === undefined) return {};
  const parsed = Pins.safeParse(
    parseJson(text, { depthMax: 4, nodesMax: 10_000 }),
  );
  if (parsed.success) return parsed.data;
  throw new AppError("bad_input", `Cannot read the pinned keys in "${path}"`, {
    hint: "Remove it; keys are asked about again",
  });
}

/** The pinned key of a host, if there is one. */
export async function findPin(
  dir: string,
  host: string,
): Promise<string | undefined> {
  const pins = await readPins(dir);
  return Object.hasOwn(pins, host) ? pins[host] : undefined;
}

/** Keeps a host's key from now on, in place of what was kept. */
export async function putPin(
  dir: string,
  { host, pin }: { host: string; pin: string },
): Promise<void> {
  await alone(`${dir}/.${PINS_FILE}.lock`, async () => {
    const pins = { ...await readPins(dir), [host]: pin };
    await writeWhole(`${dir}/${PINS_FILE}`, `${JSON.stringify(pins)}\n`);
  });
}
