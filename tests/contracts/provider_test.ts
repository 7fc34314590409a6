/** The provider contract, for every provider there is. */
import { makeAnthropicProvider } from "../../src/providers/anthropic.ts";
import { makeBedrockProvider } from "../../src/providers/bedrock/bedrock.ts";
import { makeGeminiProvider } from "../../src/providers/gemini.ts";
import { makeOllamaProvider } from "../../src/providers/ollama.ts";
import { makeOpenaiProvider } from "../../src/providers/openai/openai.ts";
import { fakeAnthropic, signatureOf } from "../fakes/anthropic.ts";
import { fakeBedrock, reasoningSignatureOf } from "../fakes/bedrock.ts";
import { fakeGemini, thoughtSignatureOf } from "../fakes/gemini.ts";
import { fakeOllama } from "../fakes/ollama.ts";
import { encryptedOf, fakeOpenai } from "../fakes/openai.ts";
import { providerContract } from "./provider.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

const THOUGHT = "Where could it be?";

providerContract("anthropic", {
  fake: fakeAnthropic,
  make: makeAnthropicProvider,
  thinking: {
    sentBack: (body: Json) => body.messages[1].content[0],
    want: {
      type: "thinking",
      thinking: THOUGHT,
      signature: signatureOf(THOUGHT),
    },
  },
  imageIn: (body: Json) => body.messages[0].content[1].source.data,
  imageWanted: "iVBORw0KGgo=",
  hasCache: true,
  hasRefusal: true,
  overloaded: 529,
});

providerContract("openai chat", {
  fake: fakeOpenai,
  make: function openaiChat(deps) {
    return makeOpenaiProvider(deps, { api: "chat" });
  },
  thinking: {
    sentBack: (body: Json) => body.messages[1].reasoning_content,
    want: THOUGHT,
  },
  imageIn: (body: Json) => body.messages[0].content[1].image_url.url,
  imageWanted: "data:image/png;base64,iVBORw0KGgo=",
  hasCache: true,
  hasRefusal: true,
  overloaded: 503,
});

providerContract("openai responses", {
  fake: fakeOpenai,
  make: function openaiResponses(deps) {
    return makeOpenaiProvider(deps, { api: "responses" });
  },
  thinking: {
    sentBack: (body: Json) => body.input[1],
    want: {
      id: "rs_Fake0",
      type: "reasoning",
      summary: [{ type: "summary_text", text: THOUGHT }],
      encrypted_content: encryptedOf(THOUGHT),
    },
  },
  imageIn: (body: Json) => body.input[0].content[1].image_url,
  imageWanted: "data:image/png;base64,iVBORw0KGgo=",
  hasCache: true,
  hasRefusal: true,
  overloaded: 503,
});

providerContract("gemini", {
  fake: fakeGemini,
  make: makeGeminiProvider,
  thinking: {
    sentBack: (body: Json) => body.contents[1].parts[1].thoughtSignature,
    want: thoughtSignatureOf(THOUGHT),
  },
  imageIn: (body: Json) => body.contents[0].parts[1].inlineData.data,
  imageWanted: "iVBORw0KGgo=",
  hasCache: true,
  hasRefusal: true,
  overloaded: 503,
});

providerContract("bedrock", {
  fake: fakeBedrock,
  make: makeBedrockProvider,
  model: "eu.anthropic.claude-haiku-4-5-v1:0",
  thinking: {
    sentBack: (body: Json) => body.messages[1].content[0].reasoningContent,
    want: {
      reasoningText: {
        text: THOUGHT,
        signature: reasoningSignatureOf(THOUGHT),
      },
    },
  },
  imageIn: (body: Json) => body.messages[0].content[1].image.source.bytes,
  imageWanted: "iVBORw0KGgo=",
  hasCache: true,
  hasRefusal: true,
  overloaded: 503,
});

providerContract("ollama", {
  fake: fakeOllama,
  make: makeOllamaProvider,
  thinking: {
    sentBack: (body: Json) => body.messages[1].thinking,
    want: THOUGHT,
  },
  imageIn: (body: Json) => body.messages[0].images[0],
  imageWanted: "iVBORw0KGgo=",
  hasCache: false,
  hasRefusal: false,
  overloaded: 503,
});
