/** What a tool is given when no desk runs it: the owner, in a clean conversation. */
import { Authority, type AuthorityRecord } from "../../src/core/authority.ts";
import { z } from "zod";
import { type Label, label } from "../../src/core/label.ts";
import {
  type Tool,
  tool,
  type ToolContext,
  type ToolOutput,
} from "../../src/core/tool.ts";

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

/** `read_page`: a page somebody else wrote, and where it came from. */
export function pageTool(
  text: string,
  from: Label = label("untrusted", []),
): Tool {
  return tool({
    name: "read_page",
    about: "A page somebody else wrote",
    input: z.strictObject({}),
    scope: "chat",
    effect: "none",
    result: { integrity: "untrusted", secrecy: "inherit" },
    destinations: [],
    run: () => ({ text, label: from }),
  });
}
