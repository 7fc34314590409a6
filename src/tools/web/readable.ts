/**
 * A page as text: its article if it has one, headings, lists, tables and links
 * kept, what a reader would not see left out.
 *
 * Never: a script, style, or image of the page is loaded or run.
 *
 * @module
 */
/** A page in words. */
export interface Readable {
  title: string;
  text: string;
}

/** A page longer than this is stripped of tags, not read as a document. */
const DOCUMENT_CHARS_MAX = 2_097_152;
const NODES_MAX = 100_000;
/**
 * What is nested or tagged without end takes the libraries minutes (measured:
 * 77 s for 275 KB), and they cannot be interrupted. So each has its bounds.
 */
const DOCUMENT_MAX = { depth: 256, tags: 40_000 } as const;
const ARTICLE_MAX = { depth: 40, tags: 6_000 } as const;

/** What we use of a document; linkedom's types want a browser's. */
interface Node {
  nodeType: number;
  nodeName: string;
  textContent: string | null;
  childNodes: ArrayLike<Node>;
  getAttribute?(name: string): string | null;
}

/** Not shown to a reader, so not told to a model. */
const UNSEEN = new Set([
  "SCRIPT",
  "STYLE",
  "NOSCRIPT",
  "TEMPLATE",
  "SVG",
  "IFRAME",
  "OBJECT",
  "EMBED",
  "CANVAS",
  "HEAD",
  "DIALOG",
  "SELECT",
  "BUTTON",
]);

const BLOCKS = new Set([
  "P",
  "DIV",
  "SECTION",
  "ARTICLE",
  "MAIN",
  "HEADER",
  "FOOTER",
  "ASIDE",
  "NAV",
  "UL",
  "OL",
  "DL",
  "DT",
  "DD",
  "TABLE",
  "TR",
  "BLOCKQUOTE",
  "FIGURE",
  "FIGCAPTION",
  "FORM",
  "PRE",
  "H1",
  "H2",
  "H3",
  "H4",
  "H5",
  "H6",
  "LI",
  "HR",
]);

function isUnseen(node: Node): boolean {
  if (UNSEEN.has(node.nodeName.toUpperCase())) return true;
  if (node.getAttribute === undefined) return false;
  if (node.getAttribute("hidden") !== null) return true;
  if (node.getAttribute("aria-hidden") === "true") return true;
  const style = node.getAttribute("style") ?? "";
  return /display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0|opacity\s*:\s*0(?![.\d])/i
    .test(style);
}

function linkOf(node: Node, base: string): string | undefined {
  const href = node.getAttribute?.("href") ?? "";
  if (href === "" || href.startsWith("#")) return undefined;
  const url = URL.parse(href, base);
  return url !== null && /^https?:$/.test(url.protocol) ? url.href : undefined;
}

function opening(node: Node): string {
  const name = node.nodeName.toUpperCase();
  if (/^H[1-6]$/.test(name)) return `\n\n${"#".repeat(Number(name[1]))} `;
  if (name === "LI") return "\n- ";
  if (name === "BR") return "\n";
  if (name === "TD" || name === "TH") return " | ";
  if (name === "PRE") return "\n\n```\n";
  return BLOCKS.has(name) ? "\n\n" : "";
}

function closing(node: Node, base: string): string {
  const name = node.nodeName.toUpperCase();
  if (name === "PRE") return "\n```\n\n";
  if (name === "LI" || name === "TR") return "";
  if (name === "A") {
    const link = linkOf(node, base);
    return link === undefined ? "" : ` (${link})`;
  }
  return BLOCKS.has(name) ? "\n\n" : "";
}

/** A tree in words, without recursion: a page may be nested as deep as it likes. */
function wordsOf(root: Node, base: string): string {
  type Step = { node: Node; isEnd: boolean; inPre: boolean };
  const stack: Step[] = [{ node: root, isEnd: false, inPre: false }];
  let text = "";
  let nodes = 0;
  while (stack.length > 0 && nodes++ < NODES_MAX) {
    const step = stack.pop();
    if (step === undefined) break;
    const { node, isEnd, inPre } = step;
    if (isEnd) {
      text += closing(node, base);
      continue;
    }
    if (node.nodeType === 3) {
      const own = node.textContent ?? "";
      text += inPre ? own : own.replaceAll(/\s+/g, " ");
      continue;
    }
    if (node.nodeType !== 1 && node.nodeType !== 9 && node.nodeType !== 11) {
      continue;
    }
    if (node.nodeType === 1 && isUnseen(node)) continue;
    text += opening(node);
    stack.push({ node, isEnd: true, inPre });
    const isPre = inPre || node.nodeName.toUpperCase() === "PRE";
    // One list: the library makes a new one each time it is asked.
    for (const child of Array.from(node.childNodes).reverse()) {
      stack.push({ node: child, isEnd: false, inPre: isPre });
    }
  }
  return tidy(text);
}

function tidy(text: string): string {
  return text.replaceAll(/[ \t]+\n/g, "\n").replaceAll(/\n[ \t]+(?=\S)/g, "\n")
    .replaceAll(/\n{3,}/g, "\n\n").trim();
}

/** Tags out, in one pass: for what is too large or too broken to be a document. */
export function stripTags(html: string): string {
  const lower = html.toLowerCase();
  let text = "";
  for (let at = 0; at < html.length;) {
    const open = html.indexOf("<", at);
    if (open < 0) {
      text += html.slice(at);
      break;
    }
    text += html.slice(at, open);
    const unseen = /^<(script|style|noscript|template|svg|!--)/i
      .exec(html.slice(open, open + 12))?.[1]?.toLowerCase();
    const end = unseen === undefined
      ? html.indexOf(">", open)
      : unseen === "!--"
      ? html.indexOf("-->", open)
      : lower.indexOf(`</${unseen}`, open);
    if (end < 0) break;
    const isWhole = unseen === undefined || unseen === "!--";
    at = isWhole
      ? end + (unseen === undefined ? 1 : 3)
      : html.indexOf(">", end) + 1;
    if (at === 0) break;
    text += " ";
  }
  return tidy(text.replaceAll(/[ \t]+/g, " "));
}

/** Tags that stand alone, or that the next of their kind closes. */
const UNCLOSED =
  /^(area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr|p|li|dt|dd|tr|td|th|option|thead|tbody|tfoot)$/;

/** How deep a page's tags are nested, at most, and how many there are. */
function sizeOf(html: string): { depth: number; tags: number } {
  let depth = 0;
  let deepest = 0;
  let tags = 0;
  for (const [, close, name] of html.matchAll(/<(\/?)([a-zA-Z][\w-]{0,30})/g)) {
    if (++tags > DOCUMENT_MAX.tags) break;
    if (UNCLOSED.test(name?.toLowerCase() ?? "")) continue;
    depth = close === "/" ? Math.max(0, depth - 1) : depth + 1;
    if (depth > deepest) deepest = depth;
  }
  return { depth: deepest, tags };
}

function isWithin(
  size: { depth: number; tags: number },
  max: { depth: number; tags: number },
): boolean {
  return size.depth <= max.depth && size.tags <= max.tags;
}

/** A fragment would become a document of its first element alone. */
function asDocument(html: string): string {
  if (/<html[\s>]/i.test(html)) return html;
  return /<body[\s>]/i.test(html)
    ? `<!doctype html><html>${html}</html>`
    : `<!doctype html><html><body>${html}</body></html>`;
}

/** The words of an HTML page; links are whole. */
export async function readable(page: string, base: string): Promise<Readable> {
  const size = sizeOf(page);
  if (page.length > DOCUMENT_CHARS_MAX || !isWithin(size, DOCUMENT_MAX)) {
    return { title: "", text: stripTags(page) };
  }
  const html = asDocument(page);
  const { parseHTML } = await import("linkedom");
  const { Readability } = await import("@mozilla/readability");
  type Document = Node & { title: string; body: Node | null };
  const parse = () =>
    (parseHTML(html) as unknown as { document: Document }).document;
  try {
    const document = parse();
    const title = (document.title ?? "").trim().replaceAll(/\s+/g, " ");
    const whole = wordsOf(document.body ?? document, base);
    if (!isWithin(size, ARTICLE_MAX)) {
      return { title: title.slice(0, 300), text: whole };
    }
    // The reader rewrites the document it is given.
    const article = new Readability(parse() as never, {
      serializer: (node) => node as unknown as Node,
    }).parse();
    const words = article?.content === null || article?.content === undefined
      ? ""
      : wordsOf(article.content as Node, base);
    // An index page has no article; then all of it is what was asked for.
    const isArticle = words.length > 500 && words.length * 4 > whole.length;
    return {
      title: (article?.title ?? title).slice(0, 300),
      text: isArticle ? words : whole || words,
    };
  } catch (error) {
    // Nested too deep, or not a document at all.
    if (error instanceof ReferenceError) throw error;
    return { title: "", text: stripTags(html) };
  }
}
