/**
 * A scripted stand-in for a model, so that a first start without any key shows
 * what the program does: a streamed answer, a tool call, its result used.
 *
 * Never: it pretends to be a model; every answer begins by saying what it is.
 *
 * @module
 */
import { type Message, textOf, type ToolResultPart } from "../core/message.ts";
import type {
  ModelEvent,
  ModelRequest,
  Provider,
  ToolSpec,
} from "../core/model.ts";
import type { ProviderDeps, VendorRow } from "./vendor.ts";
import { record, usageEvent } from "./wire.ts";

const KIND = "demo";
/** The one model it has. */
export const DEMO_MODEL = "demo";

const LABEL =
  "This is the demo provider, a script and not a model. Set ANTHROPIC_API_KEY or OPENAI_API_KEY, or run Ollama, and restart to talk to one.";

/** The stand-in's row. */
export const demoRow: VendorRow = {
  kind: KIND,
  title: "Demo",
  needsKey: false,
  model: DEMO_MODEL,
  supports: { thinking: "no", cache: "no", schema: "no", forward: false },
  make: makeDemoProvider,
};

/** Makes the provider. It reaches nothing and is the same every time. */
export function makeDemoProvider(deps: Pick<ProviderDeps, "id">): Provider {
  return {
    id: deps.id,
    kind: KIND,
    async *stream(request, signal) {
      const step = nextStep(request);
      let output = "";
      for (const chunk of step.text.match(/\S+\s*(\S+\s*){0,3}/g) ?? []) {
        signal.throwIfAborted();
        output += chunk;
        yield await Promise.resolve<ModelEvent>({ kind: "text", text: chunk });
      }
      if (step.call !== undefined) yield step.call;
      yield usageEvent({
        input: countTokens(request),
        output: Math.ceil(output.length / 4) + 1,
      });
      yield {
        kind: "end",
        reason: step.call === undefined ? "stop" : "tool_calls",
      };
    },
    models: () =>
      Promise.resolve([{ id: DEMO_MODEL, label: "Demo (a script)" }]),
  };
}

/** About four letters a token, as the vendors' models have it. */
function countTokens(request: ModelRequest): number {
  let letters = request.system?.length ?? 0;
  for (const message of request.messages) {
    for (const part of message.parts) {
      if ("text" in part) letters += part.text.length;
    }
  }
  return Math.ceil(letters / 4);
}

interface Step {
  text: string;
  call?: ModelEvent & { kind: "tool_call" };
}

function nextStep(request: ModelRequest): Step {
  const last = request.messages.at(-1);
  const results = last?.parts.filter((part) => part.kind === "tool_result") ??
    [];
  if (results.length > 0) return { text: answerFrom(results) };
  const words = last === undefined ? "" : textOf(last);
  const tools = new Map(request.tools?.map((tool) => [tool.name, tool]));
  const expression = findExpression(words);
  const math = tools.get("math_eval");
  if (math !== undefined && expression !== undefined) {
    return {
      text: `${LABEL} I will work out ${expression} with a tool. `,
      call: toCall(math, { expression }, request.messages),
    };
  }
  const time = tools.get("current_time");
  if (time !== undefined && /\b(time|clock|date|today|day)\b/i.test(words)) {
    return {
      text: `${LABEL} I will look at the clock with a tool. `,
      call: toCall(time, {}, request.messages),
    };
  }
  return {
    text: `${LABEL} You said: "${words.slice(0, 200).trim()}". ` +
      'Try "what time is it?" or "what is 12 * (3 + 4)?" to see a tool at work.',
  };
}

function answerFrom(results: readonly ToolResultPart[]): string {
  const said = results.map((result) =>
    result.isError
      ? `${result.name} failed: ${result.text}`
      : `${result.name} says ${result.text}`
  );
  return `Demo provider: ${said.join("; ")}.`;
}

/** The same id for the same place in a conversation. */
function toCall(
  tool: ToolSpec,
  args: Record<string, string>,
  messages: readonly Message[],
): ModelEvent & { kind: "tool_call" } {
  const expected = Object.keys(record(tool.schema["properties"]));
  const named = Object.entries(args).map(([name, value]) => [
    expected.includes(name) ? name : expected[0] ?? name,
    value,
  ]);
  return {
    kind: "tool_call",
    id: `demo_${messages.length}`,
    name: tool.name,
    args: Object.fromEntries(named),
  };
}

/** The longest stretch of a text that is arithmetic. */
export function findExpression(words: string): string | undefined {
  const stretches = words.slice(0, 2000).match(/[-(]*\d[\d.\s()+*/^%-]*/g) ??
    [];
  const sums = stretches.map((one) => balance(one.trim())).filter((one) =>
    /\d\s*\)*\s*[-+*/^%]\s*[-(]*\s*\d/.test(one)
  );
  return sums.sort((a, b) => b.length - a.length)[0];
}

/** Without what the sentence, not the sum, put at its ends. */
function balance(sum: string): string {
  let text = sum.replace(/[\s.+*/^%-]+$/, "");
  const count = (sign: string) => text.split(sign).length - 1;
  while (text.startsWith("(") && count("(") > count(")")) text = text.slice(1);
  while (text.endsWith(")") && count(")") > count("(")) {
    text = text.slice(0, -1).trimEnd();
  }
  return text;
}
