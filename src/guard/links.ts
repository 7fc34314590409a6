/**
 * Where addresses stand in what was read: a link is followed freely on the site
 * it was found on, and shown to people only when it stands in a part.
 *
 * Never: a link counts as read because a model wrote it first.
 *
 * @module
 */
import type { Message, Part } from "../core/message.ts";
import { normalUrl, parsedUrl } from "./destinations.ts";

const LIMITS = { linksPerPart: 2_000, linkCharsMax: 2_048 } as const;

const LINK =
  /[a-z][a-z0-9+.-]{1,30}:\/\/[^\s<>"'`\\^{|}]+|\bwww\.[^\s<>"'`\\^{|}]+/gi;

/** An address without the punctuation that ends a sentence or a bracket. */
export function trimUrl(raw: string): string {
  let url = raw.replace(/[.,;:!?'"*_~…]+$/, "");
  while (/[)\]]$/.test(url)) {
    const close = url.at(-1) === ")" ? /\)/g : /\]/g;
    const open = url.at(-1) === ")" ? /\(/g : /\[/g;
    if ((url.match(open)?.length ?? 0) >= (url.match(close)?.length ?? 0)) {
      break;
    }
    url = url.slice(0, -1).replace(/[.,;:!?'"*_~…]+$/, "");
  }
  return url;
}

/** The text a part shows a model. */
export function textOfPart(part: Part): string {
  switch (part.kind) {
    case "text":
    case "thinking":
    case "tool_result":
      return part.text;
    case "tool_call":
      return JSON.stringify(part.args) ?? "";
    case "image":
      return "";
  }
}

const found = new WeakMap<Part, readonly string[]>();

/** The addresses in a part, as they are spelled; read once. */
function linksIn(part: Part): readonly string[] {
  const known = found.get(part);
  if (known !== undefined) return known;
  const links = new Set<string>();
  for (const [raw] of textOfPart(part).matchAll(LINK)) {
    const url = trimUrl(raw);
    if (url.length <= LIMITS.linkCharsMax) links.add(url);
    if (links.size >= LIMITS.linksPerPart) break;
  }
  const list = [...links];
  found.set(part, list);
  return list;
}

const normal = new WeakMap<Part, ReadonlyMap<string, string | undefined>>();

/** The same, each with how it is compared; read once. */
function normalLinksIn(
  part: Part,
): ReadonlyMap<string, string | undefined> {
  let links = normal.get(part);
  if (links === undefined) {
    links = new Map(linksIn(part).map((link) => [link, normalUrl(link)]));
    normal.set(part, links);
  }
  return links;
}

/** The site of a URL: its host and port; `www.` is no site of its own. */
export function siteOf(url: string): string {
  return parsedUrl(url)?.host.replace(/^www\./, "").replace(/\.$/, "") ?? "";
}

const sources = new WeakMap<Part, { site: string | undefined }>();

/** The one site a part was fetched from, if it was; read once. */
function sourceSite(part: Part): string | undefined {
  let known = sources.get(part);
  if (known === undefined) {
    sources.set(part, known = { site: findSource(part) });
  }
  return known.site;
}

function findSource(part: Part): string | undefined {
  const sites = new Set(
    part.label.origins.filter(({ kind }) => kind === "web")
      .map(({ ref }) => siteOf(ref)),
  );
  const [site] = sites;
  return sites.size === 1 && site !== "" ? site : undefined;
}

/** The addresses of a conversation that something other than the model wrote. */
export class ReadLinks {
  readonly #spelled = new Set<string>();
  readonly #bySite = new Map<string, Set<string>>();

  constructor(messages: Iterable<Message>) {
    const models = new Set<string>();
    for (const { role, parts } of messages) {
      for (const part of parts) {
        const links = linksIn(part);
        if (links.length === 0) continue;
        if (role === "assistant") {
          for (const link of links) {
            if (!this.#spelled.has(link)) models.add(link);
          }
          continue;
        }
        // A result that repeats its own arguments has not read them anywhere.
        const read = links.filter((link) => !models.has(link));
        for (const link of read) this.#spelled.add(link);
        const site = part.kind === "tool_result" ? sourceSite(part) : undefined;
        if (site === undefined) continue;
        const known = this.#bySite.get(site) ?? new Set();
        const urls = normalLinksIn(part);
        for (const link of read) {
          const url = urls.get(link);
          if (url !== undefined) known.add(url);
        }
        this.#bySite.set(site, known);
      }
    }
  }

  /** Whether a link, spelled so, stands in a part that was read. */
  has(link: string): boolean {
    return this.#spelled.has(link);
  }

  /** Whether a normal URL is a link of a page of the same site. */
  isOnItsSite(url: string): boolean {
    if (this.#bySite.size === 0) return false;
    return this.#bySite.get(siteOf(url))?.has(url) ?? false;
  }
}
