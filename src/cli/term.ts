/**
 * How verbs write: colours, aligned tables, times and sizes for people.
 *
 * Never: a value from outside is written without `printableLine`.
 *
 * @module
 */
import { printableLine } from "./printable.ts";

const CODES = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
} as const;

/** A name of a colour or weight. */
export type Style = keyof typeof CODES;

/** Puts a text in a colour; without colours the text itself. */
export type Paint = (style: Style, text: string) => string;

/** Makes a {@linkcode Paint} for a terminal that has colours, or has none. */
export function makePaint(options: { color: boolean }): Paint {
  if (!options.color) return (_, text) => text;
  return (style, text) => {
    const [on, off] = CODES[style];
    return text === "" ? "" : `\x1b[${on}m${text}\x1b[${off}m`;
  };
}

const segments = new Intl.Segmenter("en", { granularity: "grapheme" });

/** How many columns a text takes; wide scripts and emoji take two. */
export function columnsOf(text: string): number {
  // ASCII is what nearly every cell holds.
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let columns = 0;
  for (const { segment } of segments.segment(text)) {
    columns +=
      /\p{Emoji_Presentation}|\ufe0f|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/u
          .test(segment)
        ? 2
        : 1;
  }
  return columns;
}

function pad(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - columnsOf(text)));
}

const CELL_CHARS_MAX = 100;

/**
 * Rows under a heading, each column as wide as its widest cell. Cells are made
 * printable here.
 */
export function table(
  heading: readonly string[],
  rows: readonly (readonly string[])[],
  paint: Paint,
): string {
  const cells = rows.map((row) =>
    row.map((cell) => printableLine(cell, { charsMax: CELL_CHARS_MAX }))
  );
  const widths = heading.map((title, n) =>
    cells.reduce(
      (max, row) => Math.max(max, columnsOf(row[n] ?? "")),
      title.length,
    )
  );
  const line = (row: readonly string[]) =>
    row.map((cell, n) =>
      n === widths.length - 1 ? cell : pad(cell, widths[n] ?? 0)
    )
      .join("  ").trimEnd();
  const body = cells.length === 0 ? [paint("dim", "(none)")] : cells.map(line);
  return [paint("dim", line(heading)), ...body].join("\n") + "\n";
}

/** Names and values, the values in one column. */
export function pairs(
  rows: readonly (readonly [name: string, value: string])[],
  paint: Paint,
): string {
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows.map(([name, value]) =>
    `${paint("dim", name.padEnd(width))}  ${
      printableLine(value, { charsMax: 400 })
    }\n`
  ).join("");
}

const UNITS: readonly [ms: number, name: string][] = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1000, "s"],
];

/** `3 d 4 h`, `12 min 5 s`, `0 s`. */
export function durationText(ms: number): string {
  let rest = Math.max(0, ms);
  const parts: string[] = [];
  for (const [unit, name] of UNITS) {
    const count = Math.floor(rest / unit);
    if (count > 0 && parts.length < 2) parts.push(`${count} ${name}`);
    rest -= count * unit;
  }
  return parts.length === 0 ? "0 s" : parts.join(" ");
}

/** `2026-11-22 10:43` in the machine's own zone. */
export function timeText(at: number): string {
  const date = new Date(at);
  const two = (n: number) => String(n).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${
    two(date.getDate())
  } ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** `5 min ago`, `in 3 d`; `now` below a minute. */
export function agoText(at: number, now: number): string {
  const distance = Math.abs(now - at);
  if (distance < 60_000) return "now";
  const [unit, name] = UNITS.find(([ms]) => distance >= 0.95 * ms) ??
    [1000, "s"];
  const count = `${Math.round(distance / unit)} ${name}`;
  return at < now ? `${count} ago` : `in ${count}`;
}

/** `512 B`, `41.3 MB`. */
export function sizeText(bytes: number): string {
  const names = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let n = 0;
  while (value >= 1000 && n < names.length - 1) {
    value /= 1000;
    n++;
  }
  return `${n === 0 ? value : value.toFixed(1)} ${names[n]}`;
}
