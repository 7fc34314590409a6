/**
 * The tools' slice of the configuration.
 *
 * @module
 */
import { z } from "zod";
import { type Need, need } from "../core/needs.ts";
import { CLEAR_TEXT, isClearText } from "../core/clear_text.ts";
import { SecretField } from "../core/secret.ts";

import { ExecConfig, outsideRoots } from "./exec_config.ts";

export const SearchConfig = z.strictObject({
  kind: z.enum(["searxng", "brave", "tavily"]).describe("The engine"),
  url: z.url({ protocol: /^https?$/ }).optional().describe(
    "Where it is; a SearXNG of one's own needs this",
  ),
  apiKey: SecretField.optional().describe("The engine's key"),
}).refine(
  ({ kind, url }) => kind !== "searxng" || url !== undefined,
  { error: "a SearXNG needs its url", path: ["url"] },
).refine(
  ({ kind, apiKey }) => kind === "searxng" || apiKey !== undefined,
  { error: "this engine needs an apiKey", path: ["apiKey"] },
).refine(
  ({ url, apiKey }) =>
    url === undefined || apiKey === undefined || !isClearText(url),
  { error: CLEAR_TEXT, path: ["url"] },
);
export type SearchConfig = z.infer<typeof SearchConfig>;

/** An engine's own address, when the configuration names no other. */
const SEARCH_URLS: Readonly<Record<SearchConfig["kind"], string>> = {
  searxng: "",
  brave: "https://api.search.brave.com",
  tavily: "https://api.tavily.com",
};

/** Where the configured engine is. */
export function searchUrl(config: SearchConfig): URL {
  return new URL(config.url ?? SEARCH_URLS[config.kind]);
}

export const ToolsConfig = z.strictObject({
  deny: z.array(z.string().max(64)).max(256).default([]).describe(
    "Tools that no agent is shown",
  ),
  roots: z.array(z.string().min(1).max(1024)).max(32).default([]).describe(
    "Folders whose files the agent may read and write; what is in them counts as the owner's words",
  ),
  untrustedRoots: z.array(z.string().min(1).max(1024)).max(32).default([])
    .describe(
      "Further such folders whose files anybody may have written, such as downloads",
    ),
  search: SearchConfig.optional().describe("Where web_search looks"),
  exec: ExecConfig,
  skills: z.array(z.string().min(1).max(1024)).max(16).default([]).describe(
    "Folders of skills, each a folder with a SKILL.md; those below a root count as the owner's words",
  ),
}).superRefine(({ exec, roots, untrustedRoots }, context) => {
  for (
    const { path, folder } of outsideRoots(exec, [...roots, ...untrustedRoots])
  ) {
    context.addIssue({
      code: "custom",
      path,
      message: `"${folder}" is not below one of tools.roots`,
    });
  }
}).prefault({});
export type ToolsConfig = z.infer<typeof ToolsConfig>;

/** What reading and writing under the roots needs. */
export function toolNeeds(config: ToolsConfig): Need[] {
  const of = (root: string, because: string) => [
    need("read", root, because),
    need("write", root, because),
  ];
  return [
    ...searchNeeds(config),
    ...config.skills.map((folder) => need("read", folder, "tools.skills")),
    ...config.roots.flatMap((root) => of(root, "tools.roots")),
    ...config.untrustedRoots.flatMap((root) =>
      of(root, "tools.untrustedRoots")
    ),
  ];
}

function searchNeeds({ search }: ToolsConfig): Need[] {
  if (search === undefined) return [];
  const { hostname, port, protocol } = searchUrl(search);
  const standard = protocol === "https:" ? "443" : "80";
  return [need("net", `${hostname}:${port || standard}`, "tools.search")];
}
