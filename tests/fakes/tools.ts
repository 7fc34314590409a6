/** What a tool is given when no desk runs it: the owner, in a clean conversation. */
import { Authority, type AuthorityRecord } from "../../src/core/authority.ts";
import { label } from "../../src/core/label.ts";
import type { Tool, ToolContext, ToolOutput } from "../../src/core/tool.ts";

/** The owner, or somebody narrower. */
export function authority(change: Partial<AuthorityRecord> = {}): Authority {
  return new Authority({
    principal: "owner",
    kind: "owner",
    credential: "tok_owner",
    revision: 1,
    scopes: ["admin"],
    agents: "any",
    models: "any",
    tools: "any",
    integrity: "owner",
    ...change,
  });
}

/** A call's surroundings. */
export function toolContext(change: Partial<ToolContext> = {}): ToolContext {
  return {
    runId: "run_0000000000",
    sessionKey: "agent:main:main",
    agentId: "main",
    authority: authority(),
    label: label("owner", ["owner"]),
    signal: new AbortController().signal,
    now: () => 1_700_000_000_000,
    ...change,
  };
}

/** Runs a tool as the loop would, its arguments parsed. */
export async function runTool(
  tool: Tool,
  args: unknown,
  change: Partial<ToolContext> = {},
): Promise<ToolOutput> {
  const out = await tool.run(tool.input.parse(args), toolContext(change));
  return typeof out === "string" ? { text: out } : out;
}
