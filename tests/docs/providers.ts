/**
 * docs/providers.md: how to configure each vendor, and from the vendors' rows
 * what each supports.
 *
 * @module
 */
import { VENDOR_ROWS } from "../../src/providers/registry.ts";
import { usualId } from "../../src/providers/vendor.ts";
import { markdownTable } from "./markdown.ts";

/** The document. */
export function makeProvidersDoc(): Promise<string> {
  return Promise.resolve(`${HEAD}${makeTable()}${TAIL}`);
}

function makeTable(): string {
  const rows = VENDOR_ROWS.map((row) => {
    const { thinking, cache, schema, forward } = row.supports;
    return [
      `\`${usualId(row)}\``,
      row.keyEnv === undefined ? "" : `\`${row.keyEnv}\``,
      thinking,
      cache,
      schema,
      forward ? "yes" : "translated",
    ];
  });
  return markdownTable([
    "provider",
    "key",
    "thinking",
    "prompt cache",
    "structured output",
    "pass-through",
  ], rows);
}

const HEAD = `# Model providers

A model is named \`provider:model\`, for example \`anthropic:claude-sonnet-5-5\`. A
provider is one line in the configuration, or just a key in the environment.
What no agent names is answered by the first provider there is; \`CARAPACE_MODEL\`
says otherwise.

Keys are never written in the configuration: \`carapace secret set NAME\` and
\`"\${secret:NAME}"\`, or \`"\${ENV_NAME}"\`. A key goes to its own provider's address
and nowhere else.

## Anthropic

\`\`\`sh
export ANTHROPIC_API_KEY=…
\`\`\`

\`\`\`jsonc
{ "providers": { "anthropic": { "apiKey": "\${secret:ANTHROPIC}" } } }
\`\`\`

Messages API by \`@anthropic-ai/sdk\`. Streaming, parallel tools, images, thinking
(adaptive or with a budget, as the model takes it; signed and redacted blocks go
back unchanged), structured output, prompt caching (tools, system, last user
turn, end). \`ANTHROPIC_BASE_URL\` or \`baseUrl\` points at a gateway.

## OpenAI

\`\`\`sh
export OPENAI_API_KEY=…
\`\`\`

\`\`\`jsonc
{ "providers": { "openai": { "apiKey": "\${secret:OPENAI}" } } }
\`\`\`

Responses API by \`openai\`, with \`store: false\`: the vendor keeps nothing, its
sealed reasoning goes back with each step. \`"api": "chat"\` uses chat completions
instead. Streaming, parallel tools, images, reasoning effort, structured output,
cached tokens counted, pass-through.

## Google Gemini

\`\`\`sh
export GEMINI_API_KEY=…   # or GOOGLE_API_KEY
\`\`\`

\`\`\`jsonc
{ "providers": { "gemini": { "apiKey": "\${secret:GEMINI}" } } }
\`\`\`

\`streamGenerateContent\` by \`@google/genai\`, which writes the request; our door
sends it and our reader takes the answer. Streaming, parallel tools, images,
thinking (a level; up to 2.5 a budget), structured output, cached and thought
tokens counted. Signatures of thoughts go back on the very parts they came on;
calls that another model made in the same exchange carry the word Google
documents for them. A stop for safety is a refusal. \`GOOGLE_GEMINI_BASE_URL\` or
\`baseUrl\` points elsewhere; one that ends with \`/v1beta\` asks that version.

## AWS Bedrock

\`\`\`sh
export AWS_BEARER_TOKEN_BEDROCK=…   # a Bedrock API key
export AWS_REGION=eu-central-1
\`\`\`

\`\`\`jsonc
{
  "providers": {
    "bedrock": {
      "aws": {
        "region": "eu-central-1",
        "accessKeyId": "\${secret:AWS_ID}",
        "secretAccessKey": "\${secret:AWS_SECRET}"
      },
      "models": ["eu.anthropic.claude-sonnet-4-5-20250929-v1:0"]
    }
  }
}
\`\`\`

ConverseStream by \`@aws-sdk/client-bedrock-runtime\`, which writes and signs the
request; the door and the reader of its binary frames, checksums included, are
ours. Tools, images, signed and redacted reasoning, cache points, structured
output. Lists of models come from \`bedrock.REGION.amazonaws.com\`, so that host
is granted too.

The keys are, in this order: \`apiKey\` or \`AWS_BEARER_TOKEN_BEDROCK\`; \`aws\` in
the configuration, with \`sessionToken\` for temporary ones; a profile; then
\`AWS_ACCESS_KEY_ID\`, \`AWS_SECRET_ACCESS_KEY\` and \`AWS_SESSION_TOKEN\`. An account
in the environment alone makes no provider, because it may be there for other
work: write \`"bedrock": {}\`. A profile is read only from the file that is named,
and naming it is what grants reading it:

\`\`\`jsonc
{
  "providers": {
    "bedrock": {
      "aws": {
        "profile": "work",
        "profileFile": "/home/ada/.aws/credentials"
      }
    }
  }
}
\`\`\`

It must hold the keys themselves: no program, single sign-on or instance's
identity is asked. \`AWS_ENDPOINT_URL_BEDROCK_RUNTIME\` or \`baseUrl\` points
elsewhere.

## OpenRouter, Venice, Groq, Mistral

A name and a key are enough; the address is known.

\`\`\`sh
export OPENROUTER_API_KEY=…   # VENICE_API_KEY, GROQ_API_KEY, MISTRAL_API_KEY
\`\`\`

\`\`\`jsonc
{
  "providers": {
    "openrouter": {
      "apiKey": "\${secret:OPENROUTER}",
      "models": ["meta-llama/llama-4-maverick"]
    }
  }
}
\`\`\`

\`\`\`jsonc
{
  "providers": {
    "venice": { "apiKey": "\${secret:VENICE}", "models": ["llama-3.3-70b"] }
  }
}
\`\`\`

\`\`\`jsonc
{
  "providers": {
    "groq": { "apiKey": "\${secret:GROQ}", "models": ["openai/gpt-oss-120b"] }
  }
}
\`\`\`

\`\`\`jsonc
{
  "providers": {
    "mistral": {
      "apiKey": "\${secret:MISTRAL}",
      "models": ["mistral-large-latest"]
    }
  }
}
\`\`\`

## vLLM, LM Studio

At \`127.0.0.1:8000\` and \`127.0.0.1:1234\`, where they listen by themselves; a key
(\`VLLM_API_KEY\`, \`LM_API_TOKEN\`) only if the server wants one.

\`\`\`jsonc
{ "providers": { "vllm": {} } }
\`\`\`

\`\`\`jsonc
{ "providers": { "lmstudio": { "firstTokenMs": 300000 } } }
\`\`\`

## Any other server that speaks OpenAI's chat completions

DeepSeek, llama.cpp, a gateway:

\`\`\`sh
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1   # a key only if it wants one
\`\`\`

\`\`\`jsonc
{
  "providers": {
    "deepseek": {
      "baseUrl": "https://api.deepseek.com/v1",
      "apiKey": "\${secret:DEEPSEEK}",
      "models": ["deepseek-chat"]
    }
  }
}
\`\`\`

Without a named model the server is asked for its list (\`provider:auto\`). A
parameter the server refuses is left out from then on. Reasoning is shown when
the server sends it (\`reasoning_content\` or \`reasoning\`) and goes back within
one tool exchange.

## Ollama

\`\`\`sh
export OLLAMA_HOST=127.0.0.1:11434   # not needed there: it is found by itself
\`\`\`

\`\`\`jsonc
{
  "providers": { "ollama": { "models": ["qwen3:8b"], "firstTokenMs": 300000 } }
}
\`\`\`

Its own API. Streaming, tools and thinking where the model has them (one that
has not is called without, and the log says so), images, structured output,
pass-through. Ollama cuts a conversation to its own context length without
saying so: raise \`OLLAMA_CONTEXT_LENGTH\` of the server for agents. Loading a
model can take longer than a minute: raise \`firstTokenMs\`.

## Demo

A script, not a model: used when nothing else is configured and no Ollama
answers. Every answer begins by saying so. Ask it for the time, or for
\`12 * (3 + 4)\`, to see a tool call.

## What each supports

All of them: streaming, tools, several at once, tool choice (Ollama and Bedrock
have no word for some of it), images by value, stop reasons, tokens counted.
Pass-through sends the bytes of \`/v1/chat/completions\` on as they came; for the
others they are translated, both ways.

`;

const TAIL = `

## What happens when a vendor fails

| class              | what it is                                    | tried again before the first token |
| ------------------ | --------------------------------------------- | ---------------------------------- |
| \`auth\`             | the key was refused; the message says whence  | no                                 |
| \`quota\`            | credit or spending limit used up              | no                                 |
| \`rate\`             | too many calls; \`Retry-After\` is honoured     | yes                                |
| \`overloaded\`       | the vendor is busy                            | yes                                |
| \`context_overflow\` | the conversation is too long for the model    | no                                 |
| \`refused\`          | the vendor's policy                           | no                                 |
| \`bad_request\`      | the vendor did not accept the request         | no                                 |
| \`not_found\`        | no such model or address                      | no                                 |
| \`network\`          | unreachable, or the answer broke off          | yes                                |
| \`timeout\`          | silence longer than \`firstTokenMs\` / \`idleMs\` | yes                                |
| \`server\`           | a 5xx, a web page, or nonsense                | yes                                |

\`retriesMax\` attempts follow, with a growing, jittered wait of at most 8 s on
top of what the vendor asks; one that asks for more than a minute is not waited
for. After the first token nothing is tried again: you would read it twice.

**Fallbacks.** \`agents.<id>.fallbacks\` names other models. The first failure that
another model may not share (those tried again, and \`quota\`) goes to the next one
at once, without trying the first twice; never after a word or a thought was
seen, never for a refusal or a bad request. The reply names the model that
answered and the one it stood in for.

\`\`\`jsonc
{
  "providers": { "anthropic": {}, "openai": {} },
  "agents": {
    "main": {
      "model": "anthropic:claude-sonnet-5-5",
      "fallbacks": ["openai:gpt-6.1-sol"]
    }
  }
}
\`\`\`

**Breakers.** Five such failures in a row within two minutes, broken answers
among them, open a model's breaker: for 15 s, or as long as the vendor asks,
every call fails at once with the last failure's class, so that fallbacks answer
without waiting. Then one call may find out; each that fails doubles the wait, up
to five minutes.
`;
