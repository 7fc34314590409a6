/**
 * Tools as a list shows them: in groups, with what each does to the world.
 *
 * @module
 */
import type { CatalogTool } from "../core/methods/catalog.ts";
import type { MethodOutput } from "../core/methods.ts";
import type { Tool } from "../core/tool.ts";
import { effectiveEffect } from "../guard/decide.ts";
import { namesTool, TOOL_GROUPS } from "../guard/policy.ts";
import { type GuardRules, toolFacts } from "../guard/rules.ts";
import type { Registry } from "../tools/registry.ts";

type Group = MethodOutput<"tools.catalog">["groups"][number];

/** Whose tool it is: a guest's brings its own schema. */
function sourceOf(
  { name, schema }: Tool,
): { source: Group["source"]; group: string } {
  if (name.startsWith("mcp_")) return { source: "mcp", group: "mcp" };
  if (schema !== undefined) return { source: "plugin", group: "plugins" };
  const group = Object.keys(TOOL_GROUPS).find((one) => namesTool(one, name));
  return { source: "core", group: group?.replace("group:", "") ?? "other" };
}

/** The tools in their groups, both in the order they were added. */
export function toGroups(
  registry: Pick<Registry, "spec">,
  tools: readonly Tool[],
  effects: GuardRules["effects"],
): Group[] {
  const groups = new Map<string, Group>();
  for (const tool of tools) {
    const { source, group: id } = sourceOf(tool);
    const row: CatalogTool = {
      id: tool.name,
      label: tool.name,
      description: tool.about,
      source,
      effect: effectiveEffect(toolFacts(tool, effects)),
      scope: tool.scope,
      defaultProfiles: [],
      inputSchema: { ...registry.spec(tool).schema },
    };
    const group = groups.get(id);
    if (group === undefined) {
      groups.set(id, { id, label: id, source, tools: [row] });
    } else group.tools.push(row);
  }
  return [...groups.values()];
}
