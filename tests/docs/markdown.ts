/**
 * Markdown as the formatter leaves it.
 *
 * @module
 */

/** A table with aligned columns. */
export function markdownTable(
  heading: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const all = [heading, ...rows].map((row) =>
    row.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " "))
  );
  const widths = heading.map((_, n) =>
    Math.max(3, ...all.map((row) => row[n]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    `| ${
      widths.map((width, n) => (cells[n] ?? "").padEnd(width)).join(" | ")
    } |`;
  const [first = [], ...rest] = all;
  return [
    line(first),
    line(widths.map((width) => "-".repeat(width))),
    ...rest.map(line),
  ].join("\n");
}
