/**
 * The desk that takes turns, over this house's rooms.
 *
 * Never: a turn is begun here, or a part of a prompt made that has no label.
 *
 * @module
 */
import { AgentDesk } from "../agent/desk.ts";
import type { AgentDeps } from "../agent/deps.ts";
import type { Identity } from "../auth/open.ts";
import { authorityFromRun, CONFIG_CREDENTIAL } from "../auth/principal.ts";
import type { Guarding } from "../guard/guarding.ts";
import type { Spending } from "../guard/spending.ts";
import type { UsageDesk } from "../guard/usage_desk.ts";
import { windowOf } from "../providers/models.ts";
import { Remotes } from "../remote/remotes.ts";
import type { Settings } from "../settings.ts";
import { memorySpace } from "../store/memory.ts";
import type { Store } from "../store/store.ts";
import type { Toolbox } from "../tools/open.ts";
import type { Engine } from "./engine.ts";
import { agentSettings, type HouseOptions } from "./options.ts";

/** What every prompt of an agent says beside the conversation. */
function promptContext(
  { memory, skills }: Toolbox,
): NonNullable<AgentDeps["context"]> {
  return {
    memory: async ({ agentId, authority, isPrivate }) => {
      if (!isPrivate) return [];
      const pinned = await memory.pinned(memorySpace(agentId, authority));
      return pinned.map((part) => ({ ...part, title: "Pinned memory" }));
    },
    skills: async ({ authority }) => {
      if (authority.kind !== "owner") return [];
      const index = await skills?.index();
      return index === undefined ? [] : [{ ...index, title: "Skills" }];
    },
  };
}

export function makeDesk(
  { clock, log }: HouseOptions,
  rooms: {
    store: Store;
    engine: Engine;
    toolbox: Toolbox;
    guarding: Guarding;
    hooks: NonNullable<AgentDeps["hooks"]>;
    spending: Spending;
    usage: UsageDesk;
    identity: Identity;
    settings(): Settings;
    grantsOf: NonNullable<AgentDeps["grantsOf"]>;
  },
): AgentDesk {
  const { toolbox, usage, identity, settings } = rooms;
  return new AgentDesk({
    hooks: rooms.hooks,
    store: rooms.store,
    models: {
      ...rooms.engine.models,
      windowOf: (name) => windowOf(name, settings().models),
    },
    tools: toolbox.registry,
    outputs: toolbox.outputs,
    remotes: new Remotes({ config: () => settings().remotes, clock, log }),
    ...rooms.guarding,
    context: promptContext(toolbox),
    spending: rooms.spending,
    usageText: (authority) => usage.text(authority),
    settings: () => agentSettings(settings()),
    authorityOf: (record) => authorityFromRun(record),
    isLive: (record) =>
      record.credential === CONFIG_CREDENTIAL ||
      identity.credentials.isLive(record),
    grantsOf: rooms.grantsOf,
    clock,
    log,
  });
}
