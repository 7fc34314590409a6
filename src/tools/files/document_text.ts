/**
 * The text of a file: plain text as it is, the words of PDF, Word, Excel,
 * PowerPoint and OpenDocument files. What reads them is loaded when the first
 * such file is.
 *
 * Never: a macro, script, link or entity of a document is followed.
 *
 * @module
 */
import { AppError, errorText } from "../../core/errors.ts";
import { unzipChosen } from "./archive.ts";

/** Bounds of a document. */
export const DOCUMENT_LIMITS = {
  /** Pages of a document that are read; the answer says so. */
  pagesMax: 1_000,
  /** Characters of text taken out of a document; the rest is left out. */
  charsMax: 4_194_304,
} as const;

/** What a file is, by its first bytes and its name. */
export type DocumentKind = "text" | "pdf" | "office" | "binary";

function begins(bytes: Uint8Array, text: string): boolean {
  for (let n = 0; n < text.length; n++) {
    if (bytes[n] !== text.charCodeAt(n)) return false;
  }
  return bytes.length >= text.length;
}

const OFFICE = /\.(docx|docm|xlsx|xlsm|pptx|pptm|odt|ods|odp)$/i;

/** The kind of a file. */
export function kindOf(name: string, bytes: Uint8Array): DocumentKind {
  if (begins(bytes, "%PDF-")) return "pdf";
  if (begins(bytes, "PK\x03\x04")) {
    return OFFICE.test(name) ? "office" : "binary";
  }
  return bytes.subarray(0, 8192).includes(0) ? "binary" : "text";
}

/**
 * A file's text.
 *
 * @throws {AppError} `bad_input` for a file without text or a damaged one,
 * `too_large` for one over the limits
 */
export async function documentText(
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<string> {
  switch (kindOf(name, bytes)) {
    case "text":
      return new TextDecoder().decode(bytes);
    case "pdf":
      return await pdfText(bytes, signal);
    case "office":
      return await officeText(bytes);
    case "binary":
      throw new AppError("bad_input", `Cannot read "${name}": it is no text`, {
        hint: "Text, PDF, Word, Excel, PowerPoint and OpenDocument are read",
      });
  }
}

async function pdfText(
  bytes: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<string> {
  const { getDocumentProxy } = await import("unpdf");
  let document: Awaited<ReturnType<typeof getDocumentProxy>> | undefined;
  try {
    // The reader takes the bytes for itself.
    document = await getDocumentProxy(bytes.slice(), {
      verbosity: 0,
      disableFontFace: true,
      useSystemFonts: false,
      stopAtErrors: false,
    });
    let text = "";
    const pages = Math.min(document.numPages, DOCUMENT_LIMITS.pagesMax);
    for (let n = 1; n <= pages; n++) {
      signal.throwIfAborted();
      const page = await document.getPage(n);
      const { items } = await page.getTextContent();
      for (const item of items) {
        if (!("str" in item)) continue;
        text += item.hasEOL ? `${item.str}\n` : item.str;
      }
      text += "\n\n";
      page.cleanup();
      if (text.length > DOCUMENT_LIMITS.charsMax) break;
    }
    return text.slice(0, DOCUMENT_LIMITS.charsMax).trim();
  } catch (error) {
    signal.throwIfAborted();
    throw new AppError(
      "bad_input",
      `Cannot read the PDF: ${errorText(error)}`,
      { cause: error },
    );
  } finally {
    await document?.loadingTask.destroy();
  }
}

/** The parts of each format that hold its words, in reading order. */
const WORDS =
  /^(word\/(document|footnotes|endnotes|comments|header\d*|footer\d*)\.xml|xl\/(workbook|sharedStrings)\.xml|xl\/worksheets\/sheet\d+\.xml|ppt\/(slides|notesSlides)\/(slide|notesSlide)\d+\.xml|content\.xml)$/;

async function officeText(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const entries = await unzipChosen(bytes, (name) => WORDS.test(name));
  const decoder = new TextDecoder();
  const parts = [...entries].map(([name, data]) =>
    [name, decoder.decode(data)] as const
  ).sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
  const shared = sharedStrings(
    parts.find(([name]) => name === "xl/sharedStrings.xml")?.[1] ?? "",
  );
  const texts = parts.flatMap(([name, xml]) => {
    if (name === "xl/sharedStrings.xml" || name === "xl/workbook.xml") {
      return [];
    }
    const text = name.startsWith("xl/") ? sheetText(xml, shared) : wordsOf(xml);
    const slide = /(?:slide|sheet)(\d+)\.xml$/i.exec(name)?.[1];
    return text === ""
      ? []
      : [slide === undefined ? text : `[${slide}]\n${text}`];
  });
  const text = texts.join("\n\n").slice(0, DOCUMENT_LIMITS.charsMax);
  if (text !== "") return text;
  throw new AppError("bad_input", "Cannot read the document: no text in it");
}

const NAMED: Readonly<Record<string, string>> = {
  lt: "<",
  gt: ">",
  amp: "&",
  quot: '"',
  apos: "'",
};

/** The five named entities and numbers; a document's own are left as they are. */
function unescapeXml(text: string): string {
  if (!text.includes("&")) return text;
  return text.replaceAll(
    /&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(lt|gt|amp|quot|apos));/g,
    (whole, decimal, hex, name) => {
      if (name !== undefined) return NAMED[name] ?? whole;
      const code = decimal === undefined
        ? parseInt(hex, 16)
        : parseInt(decimal, 10);
      return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}

/** Tags and the text between them, in one pass without backtracking. */
function* tokens(xml: string): Generator<{ tag: string } | { text: string }> {
  for (let at = 0; at < xml.length;) {
    const open = xml.indexOf("<", at);
    if (open < 0) return yield { text: xml.slice(at) };
    if (open > at) yield { text: xml.slice(at, open) };
    const close = xml.indexOf(">", open);
    if (close < 0) return;
    yield { tag: xml.slice(open + 1, close) };
    at = close + 1;
  }
}

function nameOf(tag: string): string {
  return /^\/?[^\s/>]*/.exec(tag)?.[0] ?? "";
}

const BREAKS = new Set([
  "/w:p",
  "w:br",
  "w:br/",
  "/a:p",
  "/text:p",
  "/text:h",
  "text:line-break",
  "/table:table-row",
  "/w:tr",
]);
const TABS = new Set(["w:tab", "text:tab", "/w:tc", "/table:table-cell"]);

/** The words of a text document or a slide. */
function wordsOf(xml: string): string {
  const isOpen = xml.includes("office:document-content");
  let text = "";
  let inText = isOpen;
  for (const token of tokens(xml)) {
    if ("text" in token) {
      if (inText) text += unescapeXml(token.text);
      continue;
    }
    const name = nameOf(token.tag);
    if (!isOpen && (name === "w:t" || name === "a:t")) {
      inText = !token.tag.endsWith("/");
    } else if (name === "/w:t" || name === "/a:t") inText = false;
    else if (BREAKS.has(name)) text += "\n";
    else if (TABS.has(name)) text += "\t";
  }
  return text.replaceAll(/[ \t]+\n/g, "\n").replaceAll(/\n{3,}/g, "\n\n")
    .trim();
}

function sharedStrings(xml: string): string[] {
  const strings: string[] = [];
  let text = "";
  let inText = false;
  for (const token of tokens(xml)) {
    if ("text" in token) {
      if (inText) text += unescapeXml(token.text);
      continue;
    }
    const name = nameOf(token.tag);
    if (name === "si") text = "";
    else if (name === "t") inText = !token.tag.endsWith("/");
    else if (name === "/t") inText = false;
    else if (name === "/si") strings.push(text);
  }
  return strings;
}

/** A sheet as lines of cells with tabs between. */
function sheetText(xml: string, shared: readonly string[]): string {
  const lines: string[] = [];
  let cells: string[] = [];
  let type = "";
  let value = "";
  let inValue = false;
  for (const token of tokens(xml)) {
    if ("text" in token) {
      if (inValue) value += unescapeXml(token.text);
      continue;
    }
    const name = nameOf(token.tag);
    if (name === "row") cells = [];
    else if (name === "c") {
      type = / t="([^"]*)"/.exec(token.tag)?.[1] ?? "";
      value = "";
    } else if (name === "v" || name === "t") inValue = !token.tag.endsWith("/");
    else if (name === "/v" || name === "/t") inValue = false;
    else if (name === "/c") {
      cells.push(type === "s" ? shared[Number(value)] ?? "" : value);
    } else if (name === "/row") lines.push(cells.join("\t"));
  }
  return lines.join("\n").trim();
}
