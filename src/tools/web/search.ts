/**
 * `web_search` over the engine that is configured: a SearXNG of one's own, Brave
 * or Tavily. The key is put on at the door; this file never sees it.
 *
 * @module
 */
import { z } from "zod";
import { parseJson, readBytes } from "../../core/bounded.ts";
import { AppError } from "../../core/errors.ts";
import type { Secret } from "../../core/secret.ts";
import { type Tool, tool } from "../../core/tool.ts";
import { type SearchConfig, searchUrl } from "../config.ts";
import { webLabel } from "./fetch.ts";

const ANSWER_BYTES_MAX = 2_097_152;
const SNIPPET_CHARS = 400;

/** One hit. */
interface Hit {
  title: string;
  url: string;
  text: string;
}

const Text = z.string().catch("");

/** What is known of an engine; its answer is read by this and nothing else. */
interface Engine {
  credential?: { header: string; prefix: string };
  request(query: string, count: number): { path: string; init: RequestInit };
  answer: z.ZodType<Hit[]>;
}

const Brave = z.object({
  web: z.object({
    results: z.array(
      z.object({ title: Text, url: Text, description: Text }),
    ),
  }).optional(),
}).transform(({ web }): Hit[] =>
  (web?.results ?? []).map(({ title, url, description }) => ({
    title,
    url,
    text: description,
  }))
);

const Content = z.object({
  results: z.array(z.object({ title: Text, url: Text, content: Text })),
}).transform(({ results }): Hit[] =>
  results.map(({ title, url, content }) => ({ title, url, text: content }))
);

const ENGINES: Readonly<Record<SearchConfig["kind"], Engine>> = {
  searxng: {
    request: (query) => ({
      path: `/search?${new URLSearchParams({ q: query, format: "json" })}`,
      init: {},
    }),
    answer: Content,
  },
  brave: {
    credential: { header: "x-subscription-token", prefix: "" },
    request: (query, count) => ({
      path: `/res/v1/web/search?${new URLSearchParams({
        q: query,
        count: String(count),
      })}`,
      init: {},
    }),
    answer: Brave,
  },
  tavily: {
    credential: { header: "authorization", prefix: "Bearer " },
    request: (query, count) => ({
      path: "/search",
      init: {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ query, max_results: count }),
      },
    }),
    answer: Content,
  },
};

/** Where an engine is and what its door needs to put on. */
export function searchPlace(config: SearchConfig): {
  url: URL;
  credential?: { header: string; prefix: string; secret: Secret };
} {
  const engine = ENGINES[config.kind];
  const url = searchUrl(config);
  const { credential } = engine;
  return credential === undefined || config.apiKey === undefined
    ? { url }
    : { url, credential: { ...credential, secret: config.apiKey } };
}

function plain(text: string): string {
  return text.replaceAll(/<[^>]{0,200}>/g, "").replaceAll(/\s+/g, " ").trim()
    .slice(0, SNIPPET_CHARS);
}

/** `web_search`, when an engine is configured. */
export function webSearch(
  config: SearchConfig,
  deps: { fetch: typeof fetch },
): Tool {
  const engine = ENGINES[config.kind];
  const base = searchPlace(config).url.href.replace(/\/$/, "");
  return tool({
    name: "web_search",
    about: "Search the web",
    input: z.strictObject({
      query: z.string().min(1).max(400),
      count: z.int().min(1).max(20).optional(),
    }),
    scope: "tools",
    effect: "fetch",
    result: { integrity: "untrusted", secrecy: "inherit" },
    // What is asked leaves as well as an address would.
    destinations: [{ path: "query", kind: "url", at: `${base}/search` }],
    run: async ({ query, count = 8 }, { signal, now }) => {
      const { path, init } = engine.request(query, count);
      const response = await deps.fetch(`${base}${path}`, {
        ...init,
        headers: { accept: "application/json", ...init.headers },
        signal,
      });
      if (!response.ok) {
        await response.body?.cancel();
        throw new AppError(
          "upstream",
          `The search engine answered ${response.status}`,
          response.status === 401 || response.status === 403
            ? { hint: "Check tools.search: its key, or that JSON is allowed" }
            : {},
        );
      }
      const bytes = await readBytes(response.body, ANSWER_BYTES_MAX);
      const json = parseJson(new TextDecoder().decode(bytes), {
        depthMax: 16,
        nodesMax: 50_000,
      });
      const parsed = engine.answer.safeParse(json);
      if (!parsed.success) {
        throw new AppError("upstream", "The search engine's answer is not one");
      }
      const hits = parsed.data.slice(0, count);
      const text = hits.map((hit, n) =>
        `${n + 1}. ${plain(hit.title)}\n${hit.url}\n${plain(hit.text)}`
      ).join("\n\n");
      return {
        text: text || "Nothing found",
        label: webLabel([base], now()),
      };
    },
  });
}
