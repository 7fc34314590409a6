/**
 * Cuts a text into what a network takes: between paragraphs where it can, then
 * lines, then words. A code fence that is cut in two is closed and opened again.
 * Pure.
 *
 * Never: a piece over the limit; half a surrogate pair; an empty piece of a text
 * that is not.
 *
 * @module
 */

/** The opening line of a fence (CommonMark 4.5), its marker and its indent. */
const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/;

interface Fence {
  /** What opens it again. */
  open: string;
  marker: string;
}

/** The fence that is open after a text, given the one open before. */
function fenceAfter(
  text: string,
  before: Fence | undefined,
): Fence | undefined {
  let fence = before;
  for (const line of text.split("\n")) {
    const [, indent = "", marker = "", info = ""] = FENCE.exec(line) ?? [];
    if (marker === "") continue;
    if (fence === undefined) {
      if (marker.startsWith("`") && info.includes("`")) continue;
      fence = { open: `${indent}${marker}${info}`, marker };
    } else if (marker.startsWith(fence.marker) && info.trim() === "") {
      fence = undefined;
    }
  }
  return fence;
}

/** The best place to cut at or before `max`, by what is lost there. */
function cutAt(text: string, max: number): number {
  const head = text.slice(0, max + 1);
  for (const border of ["\n\n", "\n", " "]) {
    const at = head.lastIndexOf(border);
    // A piece that is nearly empty is worse than a hard cut.
    if (at > max / 2) return at;
  }
  const code = text.charCodeAt(max - 1);
  const isHigh = code >= 0xd800 && code <= 0xdbff;
  return isHigh && max > 1 ? max - 1 : max;
}

/**
 * The pieces of a text, each at most `charsMax` UTF-16 units (at least 16).
 * A cut stands for the line breaks, or the blank, that were there.
 */
export function chunks(text: string, charsMax: number): string[] {
  if (text.length <= charsMax) return [text];
  const pieces: string[] = [];
  let rest = text;
  let fence: Fence | undefined;
  while (rest !== "") {
    // Ends: each round takes at least one character of the rest.
    const { piece, taken, after } = takePiece(rest, { charsMax, fence });
    const isBlank = piece.trim() === "" && pieces.length > 0;
    if (!isBlank) pieces.push(piece);
    rest = rest.slice(taken);
    fence = after;
  }
  return pieces.length === 0 ? [text.slice(0, charsMax)] : pieces;
}

function takePiece(
  rest: string,
  { charsMax, fence }: { charsMax: number; fence: Fence | undefined },
): { piece: string; taken: number; after: Fence | undefined } {
  // A fence whose own line is as long as a message cannot be opened again.
  const opened = fence === undefined || fence.open.length > charsMax / 3
    ? ""
    : `${fence.open}\n`;
  if (opened.length + rest.length <= charsMax) {
    return { piece: opened + rest, taken: rest.length, after: undefined };
  }
  let room = charsMax - opened.length;
  let taken = cutAt(rest, room);
  let after = fenceAfter(rest.slice(0, taken), fence);
  let closed = closing(after, charsMax);
  if (taken + closed.length > room) {
    // It has to be closed: cut again with room for that.
    room -= closed.length;
    taken = cutAt(rest, room);
    after = fenceAfter(rest.slice(0, taken), fence);
    closed = closing(after, charsMax);
    if (taken + closed.length > charsMax - opened.length) closed = "";
  }
  // The border itself is what a piece's end stands for: in a fence one line
  // break, elsewhere all of them, or the one blank.
  const border = after === undefined ? /^(\n+| )/ : /^\n/;
  const gap = border.exec(rest.slice(taken))?.[0].length ?? 0;
  return {
    piece: `${opened}${rest.slice(0, taken)}${closed}`,
    taken: taken + gap,
    after,
  };
}

function closing(fence: Fence | undefined, charsMax: number): string {
  if (fence === undefined || fence.open.length > charsMax / 3) return "";
  return `\n${fence.marker}`;
}
