/**
 * The whole configuration: every room's slice, put together. Only the roof
 * imports this; a room knows its own slice.
 *
 * @module
 */
import { z } from "zod";
import {
  AgentLimits,
  AgentsConfig,
  BindingsConfig,
  SessionsConfig,
} from "./agent/config.ts";
import { ChannelsConfig } from "./channels/config.ts";
import { EgressConfig } from "./egress/config.ts";
import { GatewayConfig } from "./gateway/config.ts";
import { BudgetsConfig } from "./guard/budget.ts";
import { GuardConfig } from "./guard/config.ts";
import { HealthConfig, LogConfig } from "./ops/config.ts";
import { PluginsConfig } from "./plugins/config.ts";
import { ProvidersConfig } from "./providers/config.ts";
import { ModelsConfig } from "./providers/models.ts";
import { PricesConfig } from "./providers/prices.ts";
import { ScheduleConfig } from "./schedule/config.ts";
import { RemotesConfig } from "./remote/config.ts";
import { StoreConfig } from "./store/config.ts";
import { ToolsConfig } from "./tools/config.ts";
import { McpConfig, McpServers } from "./tools/mcp/config.ts";

export const Settings = z.strictObject({
  $schema: z.string().optional(),
  gateway: GatewayConfig,
  agents: AgentsConfig,
  bindings: BindingsConfig,
  sessions: SessionsConfig,
  limits: AgentLimits,
  providers: ProvidersConfig,
  models: ModelsConfig,
  prices: PricesConfig,
  budgets: BudgetsConfig,
  tools: ToolsConfig,
  mcp: McpConfig,
  mcpServers: McpServers.optional().describe(
    "Another spelling of mcp.servers, as other programs write it",
  ),
  guard: GuardConfig,
  egress: EgressConfig,
  channels: ChannelsConfig,
  plugins: PluginsConfig,
  schedule: ScheduleConfig,
  remotes: RemotesConfig,
  store: StoreConfig,
  log: LogConfig,
  health: HealthConfig,
}).superRefine(({ agents, bindings, plugins, remotes, tools }, context) => {
  for (const [id, { remote }] of Object.entries(agents)) {
    if (remote === undefined || Object.hasOwn(remotes, remote)) continue;
    context.addIssue({
      code: "custom",
      path: ["agents", id, "remote"],
      message: `there is no remote "${remote}"`,
    });
  }
  const runsPrograms = Object.keys(tools.exec?.commands ?? {}).length > 0;
  for (const [id, { channel, policy }] of Object.entries(plugins.granted)) {
    if (!runsPrograms || !channel || policy !== "open") continue;
    context.addIssue({
      code: "custom",
      path: ["plugins", "granted", id, "policy"],
      message:
        'a channel that is "open" to anybody cannot stand beside tools.exec.commands: use "pairing"',
    });
  }
  for (const [n, { agent }] of bindings.entries()) {
    if (Object.hasOwn(agents, agent)) continue;
    context.addIssue({
      code: "custom",
      path: ["bindings", n, "agent"],
      message: `there is no agent "${agent}"`,
    });
  }
});
export type Settings = z.infer<typeof Settings>;
