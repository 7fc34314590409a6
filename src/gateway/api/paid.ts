/**
 * Calls that go past the agents are paid for too: reserved before they are
 * sent on, settled when their answer is over, however it ends.
 *
 * Never: a reservation that outlives its call.
 *
 * @module
 */
import type { Usage } from "../../core/message.ts";
import { NO_USAGE } from "../../core/message.ts";
import type { Hold } from "../../guard/spending.ts";

const OUTPUT_TOKENS_DEFAULT = 8_192;
const CHARS_PER_TOKEN = 3;
const IMAGE_TOKENS = 1_500;
const NO_IMAGES = { count: 0, chars: 0 };
/** Bytes of an answer's frames that are one token at the least. */
const BYTES_PER_TOKEN = 8;

/**
 * Characters of the images in a body, and how many they are. Only what a vendor
 * must read as an image is one; words may look like anything.
 */
function imagesIn(value: unknown): { count: number; chars: number } {
  const found = { count: 0, chars: 0 };
  const open = [value];
  // Ends: JSON that was parsed has no circles, and its nodes were counted.
  for (let one = open.pop(); one !== undefined; one = open.pop()) {
    if (typeof one !== "object" || one === null) continue;
    const { type, image_url: image } = one as Record<string, unknown>;
    const isImage = type === "image_url" || type === "input_image";
    const url = typeof image === "string"
      ? image
      : (image as { url?: unknown } | null | undefined)?.url;
    if (isImage && typeof url === "string" && url.startsWith("data:image/")) {
      found.count++;
      found.chars += url.length;
    } else open.push(...Object.values(one));
  }
  return found;
}

/** What a body may come to, rather high than low. */
export function estimateBody(
  text: string,
  body: Readonly<Record<string, unknown>>,
): { inputTokens: number; outputTokensMax: number } {
  const images = text.includes("data:image") ? imagesIn(body) : NO_IMAGES;
  const count = (value: unknown) =>
    typeof value === "number" && Number.isSafeInteger(value) && value > 0
      ? value
      : undefined;
  // Which of the two a vendor goes by is not ours to know.
  const named = [body["max_completion_tokens"], body["max_tokens"]]
    .flatMap((value) => count(value) ?? []);
  const most = named.length === 0 ? OUTPUT_TOKENS_DEFAULT : Math.max(...named);
  return {
    inputTokens: Math.ceil(
      Math.max(0, text.length - images.chars) / CHARS_PER_TOKEN,
    ) + images.count * IMAGE_TOKENS,
    outputTokensMax: Math.min(most, 1_000_000) *
      Math.min(count(body["n"]) ?? 1, 128),
  };
}

/** One call's reservation, and how it comes out. */
export class PaidPass {
  readonly #hold: Hold | undefined;
  readonly #estimate: { inputTokens: number; outputTokensMax: number };

  constructor(
    hold: Hold | undefined,
    estimate: { inputTokens: number; outputTokensMax: number },
  ) {
    this.#hold = hold;
    this.#estimate = estimate;
  }

  /** The vendor said what it was. */
  used(usage: Usage): void {
    this.#hold?.settle(usage, "vendor");
  }

  /** It is over; what was answered counts when the vendor did not say. */
  end(answerBytes: number): void {
    if (answerBytes === 0) return this.#hold?.release();
    const { inputTokens, outputTokensMax } = this.#estimate;
    const outputTokens = Math.min(
      outputTokensMax,
      Math.ceil(answerBytes / BYTES_PER_TOKEN),
    );
    this.#hold?.settle(
      { ...NO_USAGE, inputTokens, outputTokens },
      "estimate",
    );
  }

  /** The same items; whoever stops reading them ends the call. */
  over<T extends { kind: string }>(items: AsyncIterable<T>): AsyncIterable<T> {
    const iterator = items[Symbol.asyncIterator]();
    let bytes = 0;
    const next = async (): Promise<IteratorResult<T>> => {
      try {
        const result = await iterator.next();
        if (result.done === true) this.end(bytes);
        else bytes += JSON.stringify(result.value).length;
        return result;
      } catch (error) {
        this.end(bytes);
        throw error;
      }
    };
    const leave = async (): Promise<IteratorResult<T>> => {
      await iterator.return?.();
      this.end(bytes);
      return { done: true, value: undefined };
    };
    return { [Symbol.asyncIterator]: () => ({ next, return: leave }) };
  }
}
