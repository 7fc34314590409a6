/**
 * A value that does not print. It becomes text only through `reveal()`, which
 * is called where a request is signed and nowhere else.
 *
 * Never: a secret in a template string, JSON, a log line or an inspection.
 *
 * @module
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { z } from "zod";

/** Holds a secret text and shows `[secret]` to everyone who merely looks. */
export class Secret {
  readonly #value: string;
  /** Where it came from: `env ANTHROPIC_API_KEY`, `secret NAME`. Never the value. */
  readonly source: string;

  constructor(value: string, source: string) {
    this.#value = value;
    this.source = source;
  }

  /** The value, for the call that sends it. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [Symbol.for("Deno.customInspect")](): string {
    return "[secret]";
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[secret]";
  }
}

async function sha256(text: string): Promise<Uint8Array> {
  return new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)),
  );
}

/**
 * Compares two secrets in a time that says nothing about either: both are
 * hashed first, so that neither content nor length shows.
 */
export async function verifySecret(a: string, b: string): Promise<boolean> {
  return timingSafeEqual(...await Promise.all([sha256(a), sha256(b)]));
}

/** Whether two hold the same text; of two that are absent, too. */
export function isSameSecret(
  a: Secret | undefined,
  b: Secret | undefined,
): boolean {
  if (a === undefined || b === undefined) return a === b;
  return timingSafeEqual(fingerprint(a), fingerprint(b));
}

function fingerprint(secret: Secret): Uint8Array {
  return createHash("sha256").update(secret.reveal()).digest();
}

/** Every secret inside a value, by its path. */
export function* secretsByPath(
  value: unknown,
  path = "",
): Generator<[path: string, secret: Secret]> {
  if (value instanceof Secret) yield [path, value];
  else if (typeof value === "object" && value !== null) {
    for (const [name, inner] of Object.entries(value)) {
      yield* secretsByPath(inner, path === "" ? name : `${path}.${name}`);
    }
  }
}

/** The paths at which two values hold different secrets, or one holds none. */
export function changedSecrets(before: unknown, after: unknown): string[] {
  const old = new Map(secretsByPath(before));
  const now = new Map(secretsByPath(after));
  return [...new Set([...old.keys(), ...now.keys()])].filter((path) =>
    !isSameSecret(old.get(path), now.get(path))
  );
}

/**
 * A configuration field that holds a secret. The loader turns
 * `"${secret:NAME}"` and `"${ENV_NAME}"` into a {@linkcode Secret} before the
 * schema sees it; a plain string is refused with the command that moves it.
 */
export const SecretField = z.instanceof(Secret, {
  error: () =>
    'a secret is not written in the configuration: run "carapace secret set NAME" and write "${secret:NAME}", or "${ENV_NAME}"',
}).meta({ secret: true });
