/**
 * What a caller asks for in no dialect's words: every dialect's request becomes
 * this, and this becomes an agent's turn or a model call.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import type { Label } from "../../core/label.ts";
import type { ImagePart, Message } from "../../core/message.ts";
import type { ModelRequest, ToolChoice, ToolSpec } from "../../core/model.ts";

/** Of the caller's own words, and of all it merely brings along. */
export interface CallerLabels {
  user: Label;
  other: Label;
}

/** One request. */
export interface Asked {
  model: string;
  /** Text that steers; never in the system role of an agent. */
  system: string;
  messages: readonly Message[];
  tools: readonly ToolSpec[];
  toolChoice?: ToolChoice | undefined;
  outputTokensMax?: number | undefined;
  temperature?: number | undefined;
  topP?: number | undefined;
  stop?: readonly string[] | undefined;
  thinkingTokens?: number | undefined;
  responseSchema?: ModelRequest["responseSchema"];
  /** A name for a session that stays. */
  user?: string | undefined;
}

/** Images a turn takes at most. */
export const IMAGES_MAX = 16;

/** As a provider is asked. */
export function asModelRequest(asked: Asked): Omit<ModelRequest, "model"> {
  const { messages, system, tools, toolChoice, responseSchema } = asked;
  const { outputTokensMax, temperature, topP, stop, thinkingTokens } = asked;
  return {
    messages,
    ...(system === "" ? {} : { system }),
    ...(tools.length === 0 ? {} : { tools }),
    ...(toolChoice === undefined || tools.length === 0 ? {} : { toolChoice }),
    ...(outputTokensMax === undefined ? {} : { outputTokensMax }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(stop === undefined ? {} : { stop }),
    ...(thinkingTokens === undefined ? {} : { thinkingTokens }),
    ...(responseSchema === undefined ? {} : { responseSchema }),
  };
}

/**
 * The newest words apart from what came before them. A conversation that ends
 * with results of the caller's tools has none: that means "go on".
 *
 * @throws {AppError} `bad_input`
 */
export function splitLast(
  asked: Asked,
): { history: Message[]; last: Message | undefined; images: ImagePart[] } {
  const history = [...asked.messages];
  const last = history.at(-1)?.role === "user" ? history.pop() : undefined;
  if (last === undefined && history.at(-1)?.role !== "tool") {
    throw new AppError(
      "bad_input",
      "Cannot take a turn: the last message is neither a user's nor a tool's",
      { details: { param: "messages", code: "invalid_value" } },
    );
  }
  const images = (last?.parts ?? []).filter((part) => part.kind === "image");
  if (images.length > IMAGES_MAX) {
    throw new AppError(
      "bad_input",
      `Cannot take more than ${IMAGES_MAX} images`,
      { details: { param: "messages" } },
    );
  }
  return { history, last, images };
}
