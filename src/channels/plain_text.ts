/**
 * A model's Markdown as plain text, for networks that have none: marks go,
 * words, addresses and code stay. Pure.
 *
 * Never: an address a reader could not see in the Markdown is lost or made.
 *
 * @module
 */

const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/;

function plainLine(line: string): string {
  return line
    .replace(/^( {0,3})#{1,6}\s+(.*?)\s*#*$/, "$1$2")
    .replace(/^( {0,3})>\s?/, "$1")
    .replaceAll(
      /!?\[([^\]\n]{0,300})\]\(([^()\s]{1,2000})\)/g,
      (_, text, url) => text === "" || text === url ? url : `${text} (${url})`,
    )
    .replaceAll(/(\*\*|__)(?=\S)([^*_\n]{1,500}?\S)\1/g, "$2")
    .replaceAll(
      /(?<![\w*])\*(?=[^\s*])([^*\n]{1,500}?)(?<=\S)\*(?![\w*])/g,
      "$1",
    )
    .replaceAll(/~~(?=\S)([^~\n]{1,500}?)~~/g, "$1")
    .replaceAll(/(?<!`)`([^`\n]{1,500})`(?!`)/g, "$1");
}

/** The text without marks; what is in code fences stays as it is. */
export function toPlainText(markdown: string): string {
  let marker: string | undefined;
  const lines: string[] = [];
  for (const line of markdown.split("\n")) {
    const fence = FENCE.exec(line);
    const found = fence?.[2];
    if (marker === undefined && found !== undefined) marker = found;
    else if (
      marker !== undefined && found?.startsWith(marker) &&
      fence?.[3]?.trim() === ""
    ) marker = undefined;
    else lines.push(marker === undefined ? plainLine(line) : line);
  }
  return lines.join("\n");
}
