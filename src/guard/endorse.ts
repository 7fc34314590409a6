/**
 * The one way up: the owner takes a text as their own. It makes a new part; the
 * one it was copied from stays what it is, and so does every part made of it.
 *
 * Never: called by anything but the owner's explicit act; secrecy lost on the
 * way.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import { ORIGINS_MAX } from "../core/label.ts";
import type { Part, TextPart } from "../core/message.ts";

/** A copy of a part's text, with the owner's integrity. @throws `forbidden` */
export function endorse(
  part: Part,
  by: { authority: Authority; at: number },
): TextPart {
  const { authority, at } = by;
  if (authority.kind !== "owner" || authority.integrity !== "owner") {
    throw new AppError("forbidden", "Only the owner takes a text as their own");
  }
  if (part.kind !== "text" && part.kind !== "tool_result") {
    throw new AppError("bad_input", "Only a text can be taken as your own");
  }
  const { secrecy, origins } = part.label;
  return {
    kind: "text",
    text: part.text,
    label: {
      integrity: "owner",
      secrecy,
      origins: [
        ...origins.slice(0, ORIGINS_MAX - 1),
        { kind: "owner", ref: authority.principal, at },
      ],
    },
  };
}
