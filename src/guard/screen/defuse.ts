/**
 * Takes the life out of addresses that a model made up after it read untrusted
 * text: shown, they can be read, but not followed, loaded or previewed. Works on
 * a stream, holding back only what may be an address.
 *
 * A fenced block of code stays as it is: no reader of Markdown makes a link or
 * an image of what is in it.
 *
 * @module
 */
import { trimUrl } from "../links.ts";

const LIMITS = {
  /** Of one address; a longer one is taken for unknown. */
  urlCharsMax: 2_048,
  /** Characters of an address's scheme that is looked for. */
  schemeCharsMax: 32,
} as const;

// deno-lint-ignore no-control-regex
const SPACE = /[\s<>"'`\\^{|}\u0000-\u001f]/;
/** What may stand before an address that begins with `//` or `www.`. */
const OPENER = /[\s("'=[<>]/;

/** An address in a form that is none. */
function defuseUrl(url: string): string {
  const end = url.search(/[/?#]/);
  const after = url.indexOf("://");
  if (after >= 0) {
    const rest = url.slice(after + 3);
    const slash = rest.search(/[/?#]/);
    const host = slash < 0 ? rest : rest.slice(0, slash);
    const tail = slash < 0 ? "" : rest.slice(slash);
    return `${url.slice(0, after)}[:]//${host.replaceAll(".", "[.]")}${tail}`;
  }
  if (url.startsWith("//")) return `/ /${defuseUrl(url.slice(2))}`;
  const host = end < 0 ? url : url.slice(0, end);
  return `${host.replaceAll(".", "[.]")}${end < 0 ? "" : url.slice(end)}`;
}

/** Whether the end of a text may still become the start of an address. */
function openStart(text: string): number {
  if (text.endsWith(":/")) return 2;
  if (text.endsWith(":")) return 1;
  const www = /(?:^|[^\p{L}\p{N}])(w{1,3})$/iu.exec(text)?.[1];
  if (www !== undefined) return www.length;
  return /[("'=[<>]\/$/.test(text) || /^\/$/.test(text) ? 1 : 0;
}

/** Follows fences line by line, as readers of Markdown do. */
class Fences {
  #line = "";
  #open: { char: string; length: number } | undefined;
  #isHtml = false;

  /** Whether the present line is inside a fence that is surely one. */
  get isCode(): boolean {
    return this.#open !== undefined;
  }

  read(text: string): void {
    for (const char of text) {
      if (char !== "\n") {
        if (this.#line.length < 200) this.#line += char;
        continue;
      }
      this.#endLine();
      this.#line = "";
    }
  }

  #endLine(): void {
    const line = this.#line.replace(/\r$/, "");
    const fence = /^ {0,3}(`{3,}|~{3,})(.*)$/.exec(line);
    if (this.#open !== undefined) {
      const { char, length } = this.#open;
      if (
        fence?.[1]?.startsWith(char) === true && fence[1].length >= length &&
        fence[2]?.trim() === ""
      ) this.#open = undefined;
      return;
    }
    // In a block of raw HTML a fence is no fence, up to an empty line.
    if (line.trim() === "") this.#isHtml = false;
    else if (/^ {0,3}</.test(line)) this.#isHtml = true;
    const marks = fence?.[1];
    if (marks === undefined || this.#isHtml) return;
    const char = marks.charAt(0);
    if (char === "`" && fence?.[2]?.includes("`") === true) return;
    this.#open = { char, length: marks.length };
  }
}

/** A filter for one stream. */
export class UrlDefuser {
  readonly #isKnown: (url: string) => boolean;
  readonly #fences = new Fences();
  #held = "";
  /** What left last, to see what an address follows. */
  #before = "";
  /** An address too long to be known goes by. */
  #isPassing = false;
  defused = 0;

  /** @param isKnown Whether an address, spelled so, was read or named */
  constructor(isKnown: (url: string) => boolean) {
    this.#isKnown = isKnown;
  }

  get held(): number {
    return this.#held.length;
  }

  push(text: string): string {
    return this.#read(this.#held + text, false);
  }

  end(): string {
    return this.#read(this.#held, true);
  }

  #leave(text: string): string {
    if (text === "") return "";
    this.#before = (this.#before + text).slice(-LIMITS.schemeCharsMax);
    this.#fences.read(text);
    return text;
  }

  #read(input: string, isEnd: boolean): string {
    let text = input;
    let out = "";
    this.#held = "";
    while (text !== "") {
      if (this.#isPassing) {
        const until = text.search(SPACE);
        out += this.#leave(until < 0 ? text : text.slice(0, until));
        if (until < 0) return out;
        this.#isPassing = false;
        text = text.slice(until);
      }
      if (this.#fences.isCode) {
        // A closing fence may come with the next line.
        const line = text.indexOf("\n");
        if (line < 0) return out + this.#leave(text);
        out += this.#leave(text.slice(0, line + 1));
        text = text.slice(line + 1);
        continue;
      }
      const start = this.#start(text);
      const line = text.indexOf("\n");
      if (line >= 0 && (start === undefined || line < start.at)) {
        out += this.#leave(text.slice(0, line + 1));
        text = text.slice(line + 1);
        continue;
      }
      if (start === undefined) {
        const open = isEnd ? 0 : openStart(text);
        this.#held = text.slice(text.length - open);
        return out + this.#leave(text.slice(0, text.length - open));
      }
      out += this.#leave(text.slice(0, start.at));
      text = text.slice(start.at);
      const end = text.slice(start.skip).search(SPACE);
      const until = end < 0 ? text.length : end + start.skip;
      if (end < 0 && !isEnd && until < LIMITS.urlCharsMax) {
        this.#held = text;
        return out;
      }
      out += this.#judge(text.slice(0, until), start.scheme);
      text = text.slice(until);
      if (until >= LIMITS.urlCharsMax && end < 0) this.#isPassing = true;
    }
    return out;
  }

  /** Where an address begins in a text; its scheme may have left already. */
  #start(
    text: string,
  ): { at: number; skip: number; scheme: string } | undefined {
    const found: { at: number; skip: number; scheme: string }[] = [];
    const colon = text.indexOf("://");
    if (colon >= 0) {
      const before = this.#before + text.slice(0, colon);
      const scheme = /[a-z][a-z0-9+.-]{0,30}$/i.exec(before)?.[0] ?? "";
      if (scheme !== "") found.push({ at: colon, skip: 3, scheme });
    }
    for (const { 0: mark, index } of text.matchAll(/www\.|\/\//gi)) {
      const before = index === 0
        ? this.#before.slice(-1)
        : text.charAt(index - 1);
      const isWww = mark !== "//";
      const isStart = isWww
        ? !/[\p{L}\p{N}/.@-]/u.test(before)
        : OPENER.test(before) && before !== " " && before !== "\n";
      if (!isStart) continue;
      found.push({ at: index, skip: mark.length, scheme: "" });
      break;
    }
    return found.sort((a, b) => a.at - b.at)[0];
  }

  /** An address as it may be shown. */
  #judge(raw: string, scheme: string): string {
    const trimmed = trimUrl(scheme + raw);
    const url = trimmed.length <= scheme.length ? scheme + raw : trimmed;
    const rest = (scheme + raw).slice(url.length);
    const isBare = scheme === "" &&
      !/^(?:\/\/|www\.)[^\s/?#]*[^\s/?#.]\.?[^\s/?#]/
        .test(url);
    const isComment = url.startsWith("//") && !/^\/\/[^\s/]+\.[^\s/]/.test(url);
    if (
      this.#isKnown(url) || isBare || isComment ||
      (scheme !== "" && raw.length <= 3)
    ) {
      return this.#leave(raw);
    }
    this.defused++;
    const shown = defuseUrl(url).slice(scheme.length);
    this.#leave(raw);
    return shown + rest;
  }
}
