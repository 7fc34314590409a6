/**
 * What a model call costs us, without the vendor: `deno bench -A
 * tests/bench/providers_bench.ts`. The answer comes from memory, 32 pieces in
 * 34 chunks, so the figure is the SDK, the request, the reader and the router.
 */
import { PUBLIC_OWNER } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import type { Message } from "../../src/core/message.ts";
import type { Provider } from "../../src/core/model.ts";
import { Secret } from "../../src/core/secret.ts";
import { systemClock } from "../../src/core/time.ts";
import { makeAnthropicProvider } from "../../src/providers/anthropic.ts";
import { makeBedrockProvider } from "../../src/providers/bedrock/bedrock.ts";
import { makeGeminiProvider } from "../../src/providers/gemini.ts";
import { makeOllamaProvider } from "../../src/providers/ollama.ts";
import { makeOpenaiProvider } from "../../src/providers/openai/openai.ts";
import { makeRouter } from "../../src/providers/route.ts";
import type { ProviderDeps } from "../../src/providers/vendor.ts";
import { anthropicFrames } from "../fakes/anthropic.ts";
import { bedrockFrames } from "../fakes/bedrock.ts";
import { geminiFrames } from "../fakes/gemini.ts";
import { ollamaFrames } from "../fakes/ollama.ts";
import { openaiChatFrames, openaiResponsesFrames } from "../fakes/openai.ts";
import { bytesOf, type Frame, type Say } from "../fakes/vendor.ts";

const SAY: Say = { text: Array.from({ length: 32 }, (_, n) => ` word${n}`) };
const HISTORY: Message[] = Array.from({ length: 50 }, (_, n) => ({
  role: n % 2 === 0 ? "user" : "assistant",
  parts: [{ kind: "text", text: `message ${n}`, label: PUBLIC_OWNER }],
}));
const SIGNAL = new AbortController().signal;

/** A door that answers from memory, one chunk a frame. */
function memory(frames: readonly Frame[], contentType: string): typeof fetch {
  const chunks = frames.map(bytesOf);
  return () => {
    let at = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const chunk = chunks[at++];
        if (chunk === undefined) controller.close();
        else controller.enqueue(chunk);
      },
    });
    const headers = { "content-type": contentType };
    return Promise.resolve(new Response(body, { headers }));
  };
}

function deps(
  frames: Frame[],
  contentType = "text/event-stream",
): ProviderDeps {
  return {
    id: "it",
    baseUrl: new URL("http://127.0.0.1:9/v1"),
    apiKey: new Secret("sk-bench", "env IT"),
    fetch: memory(frames, contentType),
    log: silentLog,
  };
}

const PROVIDERS: [name: string, provider: Provider][] = [
  [
    "openai chat",
    makeOpenaiProvider(deps(openaiChatFrames(SAY)), { api: "chat" }),
  ],
  [
    "openai responses",
    makeOpenaiProvider(deps(openaiResponsesFrames(SAY)), { api: "responses" }),
  ],
  ["anthropic", makeAnthropicProvider(deps(anthropicFrames(SAY)))],
  ["gemini", makeGeminiProvider(deps(geminiFrames(SAY)))],
  [
    "bedrock",
    makeBedrockProvider(
      deps(bedrockFrames(SAY), "application/vnd.amazon.eventstream"),
    ),
  ],
  [
    "ollama",
    makeOllamaProvider(deps(ollamaFrames(SAY), "application/x-ndjson")),
  ],
];

for (const [name, provider] of PROVIDERS) {
  const router = makeRouter({
    entries: [{
      provider,
      because: "a bench",
      models: [],
      model: "m",
      firstTokenMs: 60_000,
      idleMs: 90_000,
      retriesMax: 2,
    }],
    clock: systemClock,
    log: silentLog,
    random: () => 0.5,
  });
  Deno.bench(`${name}: 50 messages in, 32 pieces out`, async () => {
    let letters = 0;
    const request = { system: "Be brief", messages: HISTORY };
    for await (const event of router.stream("it:m", request, SIGNAL)) {
      if (event.kind === "text") letters += event.text.length;
    }
    if (letters < 32) throw new RangeError("the answer was cut");
  });
}

{
  const [, provider] = PROVIDERS[0] ?? [];
  const body = new TextEncoder().encode('{"model":"m","stream":true}');
  Deno.bench("openai chat: forward", async () => {
    const answer = await provider?.forward?.("/chat/completions", body, SIGNAL);
    await answer?.bytes();
  });
}
