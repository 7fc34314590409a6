/**
 * A request in Converse's words.
 *
 * @module
 */
import type { ConverseStreamCommandInput } from "@aws-sdk/client-bedrock-runtime";
import type {
  ImagePart,
  TextPart,
  ThinkingPart,
  ToolCallPart,
} from "../../core/message.ts";
import type { ModelRequest } from "../../core/model.ts";
import {
  canResumeThinking,
  claudeTraits,
  THINKING_TOKENS_MIN,
  toId,
} from "../anthropic.ts";
import { toTurns, type Turn } from "../history.ts";
import { argsObject, effortOf, record, text } from "../wire.ts";

/** The kind its thoughts are marked with. */
export const KIND = "bedrock";
const OUTPUT_TOKENS_DEFAULT = 8192;
const ID_LENGTH_MAX = 64;

type Block = Record<string, unknown>;
type Wire = { role: "user" | "assistant"; content: Block[] };

const CACHE_POINT: Block = { cachePoint: { type: "default" } };

/** What the family in a model's name accepts beyond the common ground. */
interface Family {
  isClaude: boolean;
  /** Where the vendor takes cache points. */
  caches: { tools: boolean; text: boolean };
  /** Whether a result may say that it is an error. */
  hasStatus: boolean;
}

function familyOf(model: string): Family {
  const isClaude = model.includes("claude");
  const isNova = /\bnova-/.test(model);
  const isOld = /claude-(v\d|instant|3-(haiku|sonnet|opus)|3-5-sonnet-20240620)/
    .test(
      model,
    );
  return {
    isClaude,
    caches: { tools: isClaude && !isOld, text: isClaude && !isOld || isNova },
    hasStatus: isClaude || isNova,
  };
}

/** Everything a request says, in the API's words. */
export function toBody(request: ModelRequest): ConverseStreamCommandInput {
  const family = familyOf(request.model);
  const { thinking, reserve } = toThinking(request, family);
  const { system, stop = [], responseSchema } = request;
  const body: Block = {
    modelId: request.model,
    messages: toWire(request, family),
    ...toTools(request, family),
  };
  if (system !== undefined && system.trim() !== "") {
    const block = { text: system };
    body["system"] = family.caches.text ? [block, CACHE_POINT] : [block];
  }
  const inference: Block = toSampling(request, family, reserve > 0);
  if (request.outputTokensMax !== undefined || reserve > 0) {
    const output = request.outputTokensMax ?? OUTPUT_TOKENS_DEFAULT;
    inference["maxTokens"] = output + reserve;
  }
  if (stop.length > 0) inference["stopSequences"] = [...stop];
  if (Object.keys(inference).length > 0) body["inferenceConfig"] = inference;
  if (thinking !== undefined) {
    body["additionalModelRequestFields"] = thinking;
  }
  if (responseSchema !== undefined) {
    const { name, schema } = responseSchema;
    const jsonSchema = { name, schema: JSON.stringify(schema) };
    body["outputConfig"] = {
      textFormat: { type: "json_schema", structure: { jsonSchema } },
    };
  }
  return body as unknown as ConverseStreamCommandInput;
}

/** How each family is asked to think; others are not asked. */
function toThinking(
  request: ModelRequest,
  family: Family,
): { thinking?: Block; reserve: number } {
  const { thinkingTokens: wanted = 0, toolChoice, model } = request;
  const isForced = toolChoice === "required" || typeof toolChoice === "object";
  if (wanted <= 0) return { reserve: 0 };
  if (/\bnova-2/.test(model)) {
    const maxReasoningEffort = effortOf(wanted);
    return {
      thinking: { reasoningConfig: { type: "enabled", maxReasoningEffort } },
      reserve: wanted,
    };
  }
  if (model.includes("gpt-oss")) {
    return {
      thinking: { reasoning_effort: effortOf(wanted) },
      reserve: wanted,
    };
  }
  if (!family.isClaude || isForced) return { reserve: 0 };
  if (claudeTraits(model).adaptive) {
    return {
      thinking: {
        thinking: { type: "adaptive", display: "summarized" },
        output_config: { effort: effortOf(wanted) },
      },
      reserve: wanted,
    };
  }
  if (!canResumeThinking(request, KIND)) return { reserve: 0 };
  const budget = Math.max(wanted, THINKING_TOKENS_MIN);
  return {
    thinking: { thinking: { type: "enabled", budget_tokens: budget } },
    reserve: budget,
  };
}

function toSampling(
  request: ModelRequest,
  { isClaude }: Family,
  isThinking: boolean,
): Block {
  const { temperature, topP } = request;
  if (!isClaude) {
    return {
      ...(temperature === undefined ? {} : { temperature }),
      ...(topP === undefined ? {} : { topP }),
    };
  }
  if (isThinking || !claudeTraits(request.model).sampling) return {};
  if (temperature !== undefined) {
    return { temperature: Math.min(Math.max(temperature, 0), 1) };
  }
  return topP === undefined ? {} : { topP };
}

function toTools(request: ModelRequest, family: Family): Block {
  const { tools = [], toolChoice } = request;
  const isOff = tools.length === 0 || toolChoice === "none";
  // A conversation with calls in it is refused without tools, and there is no
  // word for "none": then the ones it used are named, and nothing of them said.
  const specs = isOff
    ? usedTools(request).map((name) => ({
      toolSpec: {
        name,
        description: "Was used earlier; is not there any more",
        inputSchema: { json: { type: "object" } },
      },
    }))
    : tools.map((tool) => ({
      toolSpec: {
        name: tool.name,
        description: tool.description || tool.name,
        inputSchema: { json: tool.schema },
      },
    }));
  if (specs.length === 0) return {};
  const choice = isOff || toolChoice === undefined || toolChoice === "auto"
    ? undefined
    : toolChoice === "required"
    ? { any: {} }
    : { tool: toolChoice };
  return {
    toolConfig: {
      tools: family.caches.tools ? [...specs, CACHE_POINT] : specs,
      ...(choice === undefined ? {} : { toolChoice: choice }),
    },
  };
}

function usedTools({ messages }: ModelRequest): string[] {
  const names = new Set<string>();
  for (const { parts } of messages) {
    for (const part of parts) {
      if (part.kind === "tool_call") names.add(part.name);
    }
  }
  return [...names];
}

/** The messages, with the last user turn and the end marked for the cache. */
function toWire(request: ModelRequest, family: Family): Wire[] {
  const wire: Wire[] = [];
  let lastUser: Wire | undefined;
  for (const turn of toTurns(request.messages)) {
    const content = toBlocks(turn, family);
    if (content.length === 0) continue;
    const role = turn.role === "assistant" ? "assistant" : "user";
    const before = wire.at(-1);
    if (before?.role === role) before.content.push(...content);
    else wire.push({ role, content });
    if (turn.role === "user") lastUser = wire.at(-1);
  }
  if (family.caches.text) {
    for (const message of new Set([lastUser, wire.at(-1)])) {
      message?.content.push(CACHE_POINT);
    }
  }
  return wire;
}

function toBlocks(turn: Turn, family: Family): Block[] {
  if (turn.role !== "tool") {
    return turn.parts.flatMap((part) => toBlock(part, family));
  }
  return turn.results.map((result) => ({
    toolResult: {
      toolUseId: toCallId(result.callId),
      content: [{ text: result.text.trim() === "" ? "(empty)" : result.text }],
      ...(result.isError && family.hasStatus ? { status: "error" } : {}),
    },
  }));
}

/** Ids in the letters, and of the length, that are accepted. */
function toCallId(id: string): string {
  return toId(id).slice(-ID_LENGTH_MAX);
}

function toBlock(
  part: TextPart | ImagePart | ThinkingPart | ToolCallPart,
  family: Family,
): Block[] {
  switch (part.kind) {
    case "text":
      return part.text.trim() === "" ? [] : [{ text: part.text }];
    case "image": {
      const format = part.mime.slice("image/".length);
      const bytes = Uint8Array.fromBase64(part.data);
      return [{ image: { format, source: { bytes } } }];
    }
    case "thinking":
      // Only what was signed can go back, and only to the family that signs.
      return part.vendor?.kind === KIND && family.isClaude
        ? toReasoning(record(part.vendor.data))
        : [];
    case "tool_call":
      return [{
        toolUse: {
          toolUseId: toCallId(part.id),
          name: part.name,
          input: argsObject(part),
        },
      }];
  }
}

function toReasoning(data: Readonly<Record<string, unknown>>): Block[] {
  const redacted = text(data["redactedContent"]);
  if (redacted === "") return [{ reasoningContent: { ...data } }];
  try {
    const redactedContent = Uint8Array.fromBase64(redacted);
    return [{ reasoningContent: { redactedContent } }];
  } catch {
    return []; // not what the vendor sent: it would refuse it
  }
}
