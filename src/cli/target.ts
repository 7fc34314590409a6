/**
 * The options every verb takes that talks to a gateway: which one, with what
 * token, and whose certificate is believed.
 *
 * @module
 */
import { toPin } from "../remote/trust.ts";
import { usageError } from "./args.ts";

/** What a command line says of the gateway it means. */
export interface Target {
  url?: string;
  /** A file that holds the token, or `-` for standard input. */
  tokenFile?: string;
  /** The fingerprint of the gateway's key. */
  pin?: string;
  /** Takes a key nobody vouches for, once; never a changed one. */
  acceptsNew: boolean;
}

/** In the words of `--help`. */
export const TARGET_USAGE: readonly string[] = [
  "--url wss://HOST:PORT  another gateway (also CARAPACE_URL)",
  "--token FILE|-         its token: a 0600 file, or standard input (also CARAPACE_TOKEN)",
  "--pin sha256:…         the key it must show; kept from then on",
  "--accept-new           keep the key of a gateway not seen before, unasked",
];

const VALUES = ["--url", "--token", "--pin"];

/**
 * Takes these options out of a command line, up to `--`. Pure.
 *
 * @throws {AppError} a usage error for a missing value or a pin that is none
 */
export function takeTarget(
  args: readonly string[],
): { rest: string[]; target: Target } {
  const rest: string[] = [];
  const target: Target = { acceptsNew: false };
  for (let n = 0; n < args.length; n++) {
    const arg = args[n] ?? "";
    if (arg === "--") {
      rest.push(...args.slice(n));
      break;
    }
    const [name = "", inline] = arg.split(/=(.*)/s);
    if (arg === "--accept-new") {
      target.acceptsNew = true;
    } else if (VALUES.includes(name)) {
      const value = inline ?? args[++n];
      if (value === undefined || value === "") {
        throw usageError(`The option "${name}" wants a value`);
      }
      if (name === "--url") target.url = value;
      else if (name === "--token") target.tokenFile = value;
      else target.pin = readPin(value);
    } else rest.push(arg);
  }
  return { rest, target };
}

function readPin(text: string): string {
  const pin = toPin(text);
  if (pin !== undefined) return pin;
  throw usageError(
    "Cannot read the pin: it is not a SHA-256 fingerprint",
    'Write it as "carapace tls show" prints it: sha256: and 64 digits',
  );
}
