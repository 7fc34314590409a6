/**
 * The contracts of the WebSocket methods that say what there is: agents,
 * models, tools, skills; and the one that calls a tool by name.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";
import { Effect } from "../tool.ts";

const Nothing = z.strictObject({});
const AgentName = z.string().min(1).max(64);

/** A tool as this caller may use it. */
export const CatalogTool = z.object({
  id: z.string(),
  label: z.string(),
  description: z.string(),
  source: z.enum(["core", "plugin", "mcp"]),
  effect: Effect,
  scope: z.string(),
  /** There are no profiles here; clients of the field want the list. */
  defaultProfiles: z.array(z.string()),
  /** JSON Schema of its arguments. */
  inputSchema: z.record(z.string(), z.unknown()),
});
export type CatalogTool = z.infer<typeof CatalogTool>;

export const CATALOG_METHODS = contracts({
  "models.list": {
    scope: "read",
    about: "The models that can be used",
    input: () => Nothing,
    output: () =>
      z.object({
        models: z.array(z.object({
          id: z.string(),
          label: z.string(),
          /** The same as `label`, where newer clients look for it. */
          name: z.string(),
          provider: z.string(),
          model: z.string(),
        })),
      }),
  },
  "agents.list": {
    scope: "read",
    about: "The configured agents",
    input: () => Nothing,
    output: () =>
      z.object({
        defaultId: z.string(),
        mainKey: z.string(),
        scope: z.string(),
        agents: z.array(z.object({
          id: z.string(),
          name: z.string(),
          identity: z.object({ name: z.string() }),
          model: z.object({
            primary: z.string(),
            fallbacks: z.array(z.string()),
          }).optional(),
          /** A folder on the gateway's machine; the owner's to know. */
          workspace: z.string().optional(),
        })),
      }),
  },
  "agent.identity.get": {
    scope: "read",
    about: "How an agent calls itself",
    input: () =>
      z.strictObject({
        agentId: AgentName.optional(),
        sessionKey: z.string().min(1).max(300).optional(),
      }),
    output: () =>
      z.object({
        agentId: z.string(),
        name: z.string(),
        avatar: z.string().optional(),
        model: z.string().optional(),
      }),
  },
  "tools.catalog": {
    scope: "read",
    about: "The tools this caller may use with an agent, by group",
    input: () =>
      z.strictObject({
        agentId: AgentName.optional(),
        /** Without them when false. */
        includePlugins: z.boolean().optional(),
      }),
    output: () =>
      z.object({
        agentId: z.string(),
        profiles: z.array(z.object({ id: z.string(), label: z.string() })),
        groups: z.array(z.object({
          id: z.string(),
          label: z.string(),
          source: z.enum(["core", "plugin", "mcp"]),
          tools: z.array(CatalogTool),
        })),
      }),
  },
  "tools.invoke": {
    scope: "tools",
    about: "One tool by name, decided as an agent's call is",
    input: () =>
      z.strictObject({
        name: z.string().min(1).max(256),
        args: z.record(z.string(), z.unknown()).optional(),
        agentId: AgentName.optional(),
        /** Taken for the sake of other clients: a call has a session of its own. */
        sessionKey: z.string().max(300).optional(),
        /** The same: who decides is not the caller. */
        confirm: z.boolean().optional(),
        idempotencyKey: z.string().min(1).max(256).optional(),
      }),
    output: () =>
      z.object({
        ok: z.boolean(),
        toolName: z.string(),
        runId: z.string().optional(),
        output: z.object({
          content: z.array(
            z.object({ type: z.literal("text"), text: z.string() }),
          ),
        }).optional(),
        error: z.object({ code: z.string(), message: z.string() }).optional(),
      }),
  },
  "skills.status": {
    scope: "read",
    about: "The skills that are found in the configured folders",
    input: () => z.strictObject({ agentId: AgentName.optional() }),
    output: () =>
      z.object({
        skills: z.array(z.object({
          name: z.string(),
          skillKey: z.string(),
          description: z.string(),
          /** Whose words it is: only the owner's stand in prompts. */
          source: z.enum(["owner", "peer", "untrusted"]),
          filePath: z.string(),
          /** Programs and variables it says it needs; nothing is installed. */
          requirements: z.array(z.string()),
          /** Whether it is offered: all that it needs is there. */
          eligible: z.boolean(),
          missing: z.array(z.string()),
        })),
      }),
  },
});
