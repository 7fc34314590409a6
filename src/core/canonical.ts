/**
 * JSON in one spelling, for hashes and signatures (RFC 8785, JSON
 * Canonicalization Scheme).
 *
 * @module
 */
import { AppError } from "./errors.ts";

/**
 * The canonical text of a JSON value: keys sorted by UTF-16 code units, no white
 * space, numbers as ECMAScript prints them. Undefined members are left out.
 *
 * @throws {AppError} `bad_input` for what JSON cannot hold (NaN, functions, …)
 */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") {
    if (!value.isWellFormed()) {
      throw new AppError("bad_input", "Cannot sign text: a lone surrogate");
    }
    return JSON.stringify(value);
  }
  if (typeof value === "number" && Number.isFinite(value)) {
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object") {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    return `{${
      members.map(([key, member]) =>
        `${canonicalJson(key)}:${canonicalJson(member)}`
      ).join(",")
    }}`;
  }
  throw new AppError("bad_input", `Cannot sign a ${typeof value}`);
}
