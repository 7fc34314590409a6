/**
 * `web_fetch`: a page's text. What it brings back is a stranger's words, with
 * its address as their origin.
 *
 * Never: a credential or body is sent; a host is reached that egress does not
 * let out.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import { readBytes } from "../../core/bounded.ts";
import { type Label, label } from "../../core/label.ts";
import { type Tool, tool, type ToolContext } from "../../core/tool.ts";
import { VERSION } from "../../core/version.ts";
import { documentText } from "../files/document_text.ts";
import { readable } from "./readable.ts";

/** What web tools are made of. */
export interface WebDeps {
  /** A `fetch` that reaches what `web_fetch` may. */
  fetch: typeof fetch;
  /** The hosts it may reach, or any public one. */
  reach: readonly string[] | "public";
}

/** Bounds of a page. */
export const WEB_LIMITS = {
  /** Bytes of a page; it is cut off there. */
  bytesMax: 8_388_608,
  /** Characters of a page shown at a time, unless asked otherwise. */
  pageChars: 20_000,
  /** Characters of a page shown at a time at most. */
  pageCharsMax: 100_000,
  /** Pages kept so that paging does not fetch again. */
  keptMax: 8,
  keptMs: 300_000,
} as const;

interface Page {
  url: string;
  title: string;
  text: string;
  at: number;
}

/** Texts of pages, by session and address, for a little while. */
class Kept {
  readonly #pages = new Map<string, Page>();

  get(key: string, now: number): Page | undefined {
    const page = this.#pages.get(key);
    return page !== undefined && now - page.at < WEB_LIMITS.keptMs
      ? page
      : undefined;
  }

  set(key: string, page: Page): void {
    this.#pages.delete(key);
    this.#pages.set(key, page);
    if (this.#pages.size <= WEB_LIMITS.keptMax) return;
    const oldest = this.#pages.keys().next().value;
    if (oldest !== undefined) this.#pages.delete(oldest);
  }
}

/** An address as it is fetched: https, without user, password or fragment. */
export function fetchUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new AppError("bad_input", "Cannot fetch that: it is no web address", {
      hint: "Give a whole URL that begins with https://",
    });
  }
  if (url.username !== "" || url.password !== "") {
    throw new AppError("bad_input", "Cannot fetch an address with a password");
  }
  if (url.protocol === "http:" && url.port === "") url.protocol = "https:";
  url.hash = "";
  return url;
}

function charsetOf(type: string, bytes: Uint8Array): string {
  const stated = /charset="?([\w-]+)/i.exec(type)?.[1];
  if (stated !== undefined) return stated;
  const head = new TextDecoder("latin1").decode(bytes.subarray(0, 1024));
  return /<meta[^>]{0,80}charset=["']?([\w-]+)/i.exec(head)?.[1] ?? "utf-8";
}

function decode(type: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder(charsetOf(type, bytes)).decode(bytes);
  } catch {
    return new TextDecoder().decode(bytes); // a charset nobody knows
  }
}

async function toPage(
  response: Response,
  bytes: Uint8Array<ArrayBuffer>,
  context: ToolContext,
): Promise<Omit<Page, "at" | "url">> {
  const type = response.headers.get("content-type") ?? "text/html";
  const mime = type.split(";")[0]?.trim().toLowerCase() ?? "";
  if (mime === "text/html" || mime === "application/xhtml+xml") {
    return await readable(decode(type, bytes), response.url);
  }
  const isText = /^text\/|[/+](json|xml|yaml|javascript)$/.test(mime);
  if (isText) return { title: "", text: decode(type, bytes) };
  if (mime === "application/pdf") {
    return {
      title: "",
      text: await documentText("page.pdf", bytes, context.signal),
    };
  }
  throw new AppError("bad_input", `Cannot read it: it is ${mime || "no text"}`);
}

/** The label of what an address answered. */
export function webLabel(urls: readonly string[], at: number): Label {
  const origins = [...new Set(urls)].map((url) => ({
    kind: "web" as const,
    ref: url.slice(0, 512),
    at,
  }));
  return label("untrusted", [], ...origins.slice(0, 8));
}

async function load(
  deps: WebDeps,
  url: URL,
  context: ToolContext,
): Promise<Page> {
  const response = await deps.fetch(url, {
    headers: {
      accept:
        "text/html,application/xhtml+xml,text/*;q=0.9,application/pdf;q=0.8,*/*;q=0.5",
      "user-agent": `Carapace/${VERSION}`,
    },
    signal: context.signal,
  });
  if (!response.ok) {
    await response.body?.cancel();
    throw new AppError("upstream", `The page answered ${response.status}`);
  }
  const bytes = await readBytes(response.body, WEB_LIMITS.bytesMax);
  const page = await toPage(response, bytes, context);
  return { ...page, url: response.url || url.href, at: context.now() };
}

/** `web_fetch`, for the hosts it can reach. */
export function webFetch(deps: WebDeps): Tool {
  const kept = new Kept();
  const where = deps.reach === "public"
    ? ""
    : `. Reaches only: ${deps.reach.slice(0, 20).join(", ")}`;
  return tool({
    name: "web_fetch",
    about: `Read a web page or PDF as text${where}`,
    input: z.strictObject({
      url: z.string().min(1).max(4096),
      from: z.int().min(0).optional().describe("First character"),
      count: z.int().min(1).max(WEB_LIMITS.pageCharsMax).optional(),
    }),
    scope: "tools",
    effect: "fetch",
    result: { integrity: "untrusted", secrecy: "inherit" },
    destinations: [{ path: "url", kind: "url" }],
    run: async (
      { url: wanted, from = 0, count = WEB_LIMITS.pageChars },
      context,
    ) => {
      const url = fetchUrl(wanted);
      const key = `${context.sessionKey}\n${url.href}`;
      const page = (from > 0 ? kept.get(key, context.now()) : undefined) ??
        await load(deps, url, context);
      kept.set(key, page);
      const text = page.text.slice(from, from + count);
      const end = from + text.length;
      const head = from === 0 && page.title !== "" ? `# ${page.title}\n\n` : "";
      const note = end < page.text.length
        ? `\n[characters ${from} to ${end} of ${page.text.length}; go on with from: ${end}]`
        : "";
      return {
        text: `${page.url}\n\n${head}${text}${note}`,
        label: webLabel([url.href, page.url], context.now()),
      };
    },
  });
}
