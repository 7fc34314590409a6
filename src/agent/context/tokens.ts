/**
 * How many tokens a text is, by rule of thumb. A vendor's own count corrects it
 * (see `calibration`); nobody is billed by what is guessed here.
 *
 * @module
 */
import type { Message, Part } from "../../core/message.ts";
import type { ToolSpec } from "../../core/model.ts";

/** Characters a token stands for in Latin text. */
export const CHARS_PER_TOKEN = 4;
/** Tokens of a character outside ASCII: few for accents, one for ideographs. */
const WIDE_TOKENS = 0.6;
const IMAGE_TOKENS = 1_500;
const MESSAGE_TOKENS = 4;
const TOOL_TOKENS = 12;

// deno-lint-ignore no-control-regex
const ASCII = /^[\x00-\x7f]*$/;

/** An estimate of a text's tokens. */
export function estimateText(text: string): number {
  if (ASCII.test(text)) return Math.ceil(text.length / CHARS_PER_TOKEN);
  let wide = 0;
  for (let n = 0; n < text.length; n++) if (text.charCodeAt(n) > 127) wide++;
  return Math.ceil(
    (text.length - wide) / CHARS_PER_TOKEN + wide * WIDE_TOKENS,
  );
}

function estimatePart(part: Part): number {
  switch (part.kind) {
    case "text":
    case "thinking":
    case "tool_result":
      return estimateText(part.text);
    case "tool_call":
      return estimateText(part.name + JSON.stringify(part.args));
    case "image":
      return IMAGE_TOKENS;
  }
}

/** Messages do not change once they are written, so each is counted once. */
const counted = new WeakMap<Message, number>();

/** An estimate of a message's tokens. */
export function estimateTokens(message: Message): number {
  let tokens = counted.get(message);
  if (tokens === undefined) {
    tokens = MESSAGE_TOKENS;
    for (const part of message.parts) tokens += estimatePart(part);
    counted.set(message, tokens);
  }
  return tokens;
}

/** An estimate of several messages' tokens. */
export function estimateAll(messages: readonly Message[]): number {
  let tokens = 0;
  for (const message of messages) tokens += estimateTokens(message);
  return tokens;
}

/** An estimate of what the tools' descriptions take. */
export function estimateTools(tools: readonly ToolSpec[]): number {
  let tokens = 0;
  for (const { name, description, schema } of tools) {
    tokens += TOOL_TOKENS +
      estimateText(name + description + JSON.stringify(schema));
  }
  return tokens;
}

const CALIBRATION = { least: 0.7, most: 2.5 } as const;

/**
 * What our guesses are to be multiplied with: the vendor's count of the last
 * call over our guess of it, within reason; 1 when there is none.
 */
export function calibration(
  last: { tokens: number; estimate: number; model: string } | undefined,
  model: string,
): number {
  if (last?.model !== model || last.estimate === 0 || last.tokens === 0) {
    return 1;
  }
  const { least, most } = CALIBRATION;
  return Math.min(Math.max(last.tokens / last.estimate, least), most);
}
