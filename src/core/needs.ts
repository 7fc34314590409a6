/**
 * What a part of the configuration needs of the outer sandbox, with the reason.
 * Rooms state their needs; the roof adds them up to Deno's flags.
 *
 * @module
 */
import { AppError } from "./errors.ts";

/** The Deno permission a need is for. */
export type NeedKind =
  | "net"
  | "read"
  | "write"
  | "env"
  | "sys"
  | "run"
  | "ffi";

/** One entry of a permission list. `true` as value asks for the bare flag. */
export interface Need {
  kind: NeedKind;
  value: string | true;
  /** The configuration line, or the part of the program, that asks for it. */
  because: string;
}

/** Shorthand for a room that lists its needs. */
export function need(
  kind: NeedKind,
  value: string | true,
  because: string,
): Need {
  const checked = value === true ? true : checkNeed(value, because);
  return { kind, value: checked, because };
}

/**
 * A host or path that may stand in a Deno flag.
 *
 * @throws {AppError} `bad_input` for white space, a comma, a quote, a control
 * character or a leading `-`: inside a flag each would mean something else.
 */
function checkNeed(value: string, because = ""): string {
  // deno-lint-ignore no-control-regex
  if (value === "" || /[\s,'"`\x00-\x1f\x7f]/.test(value) || /^-/.test(value)) {
    throw new AppError(
      "bad_input",
      `Cannot grant ${JSON.stringify(value)}: a host or path in a permission ` +
        `must not be empty, begin with "-" or hold white space, a comma or a quote`,
      {
        hint: "Rename the folder, or choose another host name",
        details: { because },
      },
    );
  }
  return value;
}
