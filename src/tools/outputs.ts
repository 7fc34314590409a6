/**
 * Results too long for a conversation: the beginning is shown, all of it is
 * kept, and `output_read` pages through the rest.
 *
 * Never: a session reads another's output; a kept text loses its label.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import type { Label } from "../core/label.ts";
import { type Tool, tool } from "../core/tool.ts";
import { BLOB_BYTES_MAX, type Blobs } from "../store/blobs.ts";
import type { Journal } from "../store/journal.ts";

/** Characters of a long result that are shown at once. */
const HEAD_CHARS = 16_000;
const PAGE_CHARS = 16_000;
const PAGE_CHARS_MAX = 64_000;
const KEPT_MS = 30 * 86_400_000;
const MATCHES_MAX = 20;
const HANDLE_CHARS = 64;

/** A result as the loop has it. */
export interface Output {
  text: string;
  sessionKey: string;
  tool: string;
  label: Label;
  bytesMax: number;
  now: number;
}

/** The results that did not fit. */
export class Outputs {
  readonly #blobs: Blobs;
  readonly #journal: Journal;

  constructor(deps: { blobs: Blobs; journal: Journal }) {
    this.#blobs = deps.blobs;
    this.#journal = deps.journal;
  }

  /** The text, if it fits; else its beginning and how to read on. */
  async keep(output: Output): Promise<string> {
    const { text, bytesMax, sessionKey, tool, label, now } = output;
    if (text.length * 3 <= bytesMax) return text;
    const bytes = new TextEncoder().encode(text).byteLength;
    if (bytes <= bytesMax) return text;
    // Three bytes a character at most, so this is within the store's limit.
    const kept = text.slice(0, Math.floor(BLOB_BYTES_MAX / 3));
    const about = { sessionKey, tool, label, createdAt: now };
    const { id, units } = this.#blobs.units(kept, about, {
      expireInMs: KEPT_MS,
    });
    for (const unit of units) await this.#journal.commit(unit);
    const head = kept.slice(0, Math.min(HEAD_CHARS, Math.floor(bytesMax / 3)));
    const cut = kept.length < text.length
      ? `, of which ${kept.length} are kept`
      : "";
    return `${head}\n[${text.length} characters in all${cut}, ${head.length} shown; read on: output_read with handle ${id} and from ${head.length}]`;
  }

  /** `output_read` over these. */
  tool(): Tool {
    return tool({
      name: "output_read",
      about: "Read on in a long tool result, or find words in it",
      input: z.strictObject({
        handle: z.string().length(HANDLE_CHARS),
        from: z.int().min(0).optional(),
        count: z.int().min(1).max(PAGE_CHARS_MAX).optional(),
        find: z.string().min(1).max(256).optional(),
      }),
      scope: "chat",
      effect: "read_private",
      reach: "own",
      result: { integrity: "inherit", secrecy: "inherit" },
      destinations: [],
      run: async ({ handle, from = 0, count = PAGE_CHARS, find }, context) => {
        const head = await this.#blobs.find(handle, context.sessionKey);
        if (head === undefined) {
          throw new AppError("not_found", "There is no such output here");
        }
        const { label } = head;
        if (find !== undefined) {
          return { text: await this.#find(head, find, from), label };
        }
        const text = await this.#blobs.read(head, { from, count });
        const end = from + text.length;
        const note = end < head.chars
          ? `\n[characters ${from} to ${end} of ${head.chars}]`
          : "\n[the end]";
        return { text: text + note, label };
      },
    });
  }

  async #find(
    head: NonNullable<Awaited<ReturnType<Blobs["find"]>>>,
    words: string,
    from: number,
  ): Promise<string> {
    const needle = words.toLowerCase();
    const found: string[] = [];
    // Pages overlap by the needle, so that none is missed at a border.
    for (let at = from; at < head.chars && found.length < MATCHES_MAX;) {
      const page = await this.#blobs.read(head, {
        from: at,
        count: PAGE_CHARS_MAX + needle.length,
      });
      const lower = page.toLowerCase();
      for (
        let hit = lower.indexOf(needle);
        hit >= 0 && hit < PAGE_CHARS_MAX && found.length < MATCHES_MAX;
        hit = lower.indexOf(needle, hit + needle.length)
      ) {
        const around = page.slice(
          Math.max(0, hit - 80),
          hit + needle.length + 120,
        );
        found.push(`${at + hit}: …${around.replaceAll(/\s+/g, " ")}…`);
      }
      at += PAGE_CHARS_MAX;
    }
    return found.join("\n") || "Not found";
  }
}
