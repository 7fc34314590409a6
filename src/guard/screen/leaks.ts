/**
 * Finds secrets in text that leaves, while it streams: this program's own,
 * plainly or encoded, and texts in the formats of well-known keys.
 *
 * A character is held back only while it may belong to a secret; what is taken
 * out never left first.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { spellings } from "../../core/spellings.ts";

/** Secrets shorter than this are words; they would be found everywhere. */
const SECRET_CHARS_MIN = 8;

/** A key format: how it begins, what follows, and how much of it. */
interface KeyFormat {
  starts: readonly string[];
  body: RegExp;
  min: number;
  /** Exactly this many, or as many as there are. */
  exact?: number;
}

const WORD = /[A-Za-z0-9]/;
const TOKEN = /[A-Za-z0-9_-]/;

const PEM_STARTS = ["", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED "]
  .map((kind) => `-----BEGIN ${kind}PRIVATE KEY-----`);

/** Formats that nothing but a key has. */
export const KEY_FORMATS: readonly KeyFormat[] = [
  { starts: ["sk-ant-", "sk-proj-", "sk-svcacct-"], body: TOKEN, min: 32 },
  { starts: ["sk-"], body: WORD, min: 40 },
  { starts: ["AKIA", "ASIA"], body: /[A-Z0-9]/, min: 16, exact: 16 },
  {
    starts: ["ghp_", "gho_", "ghs_", "ghu_", "ghr_", "npm_"],
    body: WORD,
    min: 36,
  },
  { starts: ["github_pat_"], body: /[A-Za-z0-9_]/, min: 50 },
  { starts: ["glpat-"], body: TOKEN, min: 20 },
  { starts: ["xoxb-", "xoxp-", "xoxa-", "xapp-"], body: TOKEN, min: 24 },
  { starts: ["AIza"], body: TOKEN, min: 35 },
  { starts: ["cara_", "card_", "cari_"], body: TOKEN, min: 32 },
  { starts: PEM_STARTS, body: /[A-Za-z0-9+/=\s:,.-]/, min: 64 },
];

interface Node {
  next: Map<string, Node>;
  fail: Node | undefined;
  depth: number;
  /** Length of the pattern that ends here, or at a suffix of it. */
  ends: number;
}

function makeNode(depth: number): Node {
  return { next: new Map(), fail: undefined, depth, ends: 0 };
}

/** All patterns at once (Aho and Corasick). */
function buildTree(patterns: Iterable<string>): Node {
  const root = makeNode(0);
  for (const pattern of patterns) {
    let node = root;
    for (const char of pattern.split("")) {
      let next = node.next.get(char);
      if (next === undefined) {
        node.next.set(char, next = makeNode(node.depth + 1));
      }
      node = next;
    }
    node.ends = pattern.length;
  }
  const queue: Node[] = [];
  for (const node of root.next.values()) {
    node.fail = root;
    queue.push(node);
  }
  for (let n = 0; n < queue.length; n++) {
    const node = queue[n];
    if (node === undefined) break;
    for (const [char, next] of node.next) {
      let fail = node.fail;
      while (fail !== undefined && !fail.next.has(char)) fail = fail.fail;
      next.fail = fail?.next.get(char) ?? root;
      if (next.ends === 0) next.ends = next.fail.ends;
      queue.push(next);
    }
  }
  return root;
}

/** The spellings that are not found everywhere. */
function longSpellings(secret: string): string[] {
  return [...spellings(secret)].filter((form) =>
    form.length >= SECRET_CHARS_MIN
  );
}

/** A set of secrets that can be looked for. */
export class SecretSet {
  readonly #forms: readonly string[];
  readonly #root: Node;
  #bytes: Node | undefined;
  readonly size: number;

  constructor(secrets: Iterable<string>) {
    const long = [...new Set(secrets)]
      .filter((secret) => secret.length >= SECRET_CHARS_MIN);
    this.size = long.length;
    this.#forms = long.flatMap(longSpellings);
    this.#root = buildTree(this.#forms);
  }

  /** A filter for one stream of text. */
  filter(): LeakFilter {
    return new LeakFilter(this.#root);
  }

  /**
   * A filter for one stream of bytes in UTF-8, of this program's own secrets
   * only: what only looks like a key stays. Nothing when there is no secret.
   */
  byteFilter(): ByteFilter | undefined {
    if (this.size === 0) return undefined;
    // A character for each byte, so that none is cut in two.
    this.#bytes ??= buildTree(
      this.#forms.map((form) => latin(new TextEncoder().encode(form))),
    );
    return new ByteFilter(this.#bytes);
  }

  /** The same for text. */
  ownFilter(): OwnFilter | undefined {
    return this.size === 0 ? undefined : new OwnFilter(this.#root);
  }

  /** A whole text without secrets, and how many were taken out. */
  redact(text: string): { text: string; found: number } {
    const filter = this.filter();
    const clean = filter.push(text) + filter.end();
    return { text: clean, found: filter.found };
  }

  /** Whether a text holds one of the program's own secrets. */
  holds(text: string): boolean {
    if (this.size === 0) return false;
    let node = this.#root;
    for (let n = 0; n < text.length; n++) {
      node = step(this.#root, node, text.charAt(n));
      if (node.ends > 0) return true;
    }
    return false;
  }
}

function step(root: Node, from: Node, char: string): Node {
  let node: Node | undefined = from;
  while (node !== undefined && !node.next.has(char)) node = node.fail;
  return node?.next.get(char) ?? root;
}

function latin(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    .toString("latin1");
}

/** Takes secrets out of a stream of bytes. */
export class ByteFilter {
  readonly #own: OwnFilter;

  constructor(root: Node) {
    this.#own = new OwnFilter(root);
  }

  /** What may leave of these and what was held; the very bytes if all may. */
  push(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const { found, held } = this.#own;
    const text = this.#own.push(latin(bytes));
    const isWhole = held === 0 && this.#own.held === 0 &&
      this.#own.found === found;
    return isWhole ? bytes : new Uint8Array(Buffer.from(text, "latin1"));
  }

  /** The rest. */
  end(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(Buffer.from(this.#own.end(), "latin1"));
  }

  /** A whole body without secrets. */
  all(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const first = this.push(bytes);
    const rest = this.end();
    return rest.length === 0
      ? first
      : new Uint8Array(Buffer.concat([first, rest]));
  }
}

/** Takes this program's own secrets out of a stream of text. */
export class OwnFilter {
  readonly #root: Node;
  #node: Node;
  #held = "";
  found = 0;

  constructor(root: Node) {
    this.#root = root;
    this.#node = root;
  }

  get held(): number {
    return this.#held.length;
  }

  push(text: string): string {
    if (this.#root.next.size === 0) return text;
    let out = "";
    let clear = 0;
    const all = this.#held + text;
    for (let n = this.#held.length; n < all.length; n++) {
      this.#node = step(this.#root, this.#node, all.charAt(n));
      if (this.#node.ends === 0) continue;
      out += `${all.slice(clear, n + 1 - this.#node.ends)}[secret]`;
      clear = n + 1;
      this.found++;
      this.#node = this.#root;
    }
    const until = all.length - this.#node.depth;
    out += all.slice(clear, until);
    this.#held = all.slice(until);
    return out;
  }

  end(): string {
    const rest = this.#held;
    this.#held = "";
    this.#node = this.#root;
    return rest;
  }

  /** A whole text. */
  all(text: string): string {
    return this.push(text) + this.end();
  }
}

/** Takes secrets out of a stream of text. */
export class LeakFilter {
  readonly #own: OwnFilter;
  readonly #keys = new KeyFilter();

  constructor(root: Node) {
    this.#own = new OwnFilter(root);
  }

  /** How many secrets were taken out. */
  get found(): number {
    return this.#own.found + this.#keys.found;
  }

  /** Characters that are held back now. */
  get held(): number {
    return this.#own.held + this.#keys.held;
  }

  /** What may leave of this and what was held. */
  push(text: string): string {
    return this.#keys.push(this.#own.push(text));
  }

  /** The rest. */
  end(): string {
    return this.#keys.push(this.#own.end()) + this.#keys.end();
  }
}

const STARTS = KEY_FORMATS.flatMap((format) =>
  format.starts.map((start) => ({ start, format }))
).sort((a, b) => b.start.length - a.start.length);

const ANY_START = new RegExp(
  STARTS.map(({ start }) => start.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"))
    .join("|"),
  "g",
);

/** Longest end of a text that may be the beginning of a format's start. */
function openEnd(text: string): number {
  const tail = text.slice(-48);
  for (let n = 0; n < tail.length; n++) {
    const end = tail.slice(n);
    const before = text.charAt(text.length - end.length - 1);
    if (WORD.test(before) && WORD.test(end.charAt(0))) continue;
    if (STARTS.some(({ start }) => start.startsWith(end))) return end.length;
  }
  return 0;
}

/** Takes texts in the formats of keys out of a stream. */
class KeyFilter {
  found = 0;
  #held = "";
  /** The last character that left. */
  #last = "";
  /** Set while the rest of a key that was recognised goes by. */
  #swallow: RegExp | undefined;

  get held(): number {
    return this.#held.length;
  }

  push(text: string): string {
    return this.#read(this.#held + text, false);
  }

  end(): string {
    return this.#read(this.#held, true);
  }

  #read(input: string, isEnd: boolean): string {
    let text = input;
    let out = "";
    this.#held = "";
    while (text !== "") {
      if (this.#swallow !== undefined) {
        let n = 0;
        while (n < text.length && this.#swallow.test(text.charAt(n))) n++;
        if (n === text.length) return out;
        this.#swallow = undefined;
        text = text.slice(n);
      }
      const hit = this.#find(text);
      if (hit === undefined) {
        const open = isEnd ? 0 : openEnd(this.#last + text);
        const keep = Math.min(open, text.length);
        this.#held = text.slice(text.length - keep);
        return out + this.#leave(text.slice(0, text.length - keep));
      }
      const { at, start, format } = hit;
      out += this.#leave(text.slice(0, at));
      let n = at + start.length;
      const until = format.exact === undefined ? Infinity : n + format.exact;
      const from = n;
      while (n < text.length && n < until && format.body.test(text.charAt(n))) {
        n++;
      }
      const count = n - from;
      const isOpen = n === text.length && !isEnd;
      const isLonger = format.exact !== undefined && n < text.length &&
        WORD.test(text.charAt(n));
      if (
        isOpen && (count < format.min || format.exact !== undefined)
      ) {
        this.#held = text.slice(at);
        return out;
      }
      const isSample = /EXAMPLE|example|xxxx|XXXX|\.\.\./.test(
        text.slice(from, n),
      );
      if (count < format.min || isLonger || isSample) {
        out += this.#leave(text.slice(at, n));
        text = text.slice(n);
        continue;
      }
      this.found++;
      out += this.#leave("[key removed]");
      if (format.exact === undefined) this.#swallow = format.body;
      text = text.slice(n);
    }
    return out;
  }

  #find(
    text: string,
  ): { at: number; start: string; format: KeyFormat } | undefined {
    ANY_START.lastIndex = 0;
    for (const match of text.matchAll(ANY_START)) {
      const before = match.index === 0
        ? this.#last
        : text.charAt(match.index - 1);
      if (WORD.test(before) && WORD.test(match[0].charAt(0))) continue;
      const row = STARTS.find(({ start }) => start === match[0]);
      if (row !== undefined) return { at: match.index, ...row };
    }
  }

  #leave(text: string): string {
    if (text !== "") this.#last = text.slice(-1);
    return text;
  }
}
