/**
 * What tools may ask of the rest of the house, which stands above them.
 *
 * Never: a tool is made here, or given more than the functions it names.
 *
 * @module
 */
import type { Models } from "../agent/deps.ts";
import {
  channelCarrier,
  childRunner,
  type HelperDeps,
  modelAsker,
  ownerCarrier,
  sessionCarrier,
} from "../agent/helpers.ts";
import { paidStream } from "../agent/metered.ts";
import type { ScheduleBus } from "../core/methods/schedule.ts";
import type { Gateway } from "../gateway/gateway.ts";
import type { Spending } from "../guard/spending.ts";
import type { Settings } from "../settings.ts";
import type { OpenToolsOptions } from "../tools/open.ts";
import type { ChannelRooms } from "./channels.ts";
import { agentSettings, type HouseOptions } from "./options.ts";

/** What tools may ask of the rest of the house. */
export function toolRoof(
  { clock, safeMode }: HouseOptions,
  rooms: {
    helpers: HelperDeps;
    channels: Pick<ChannelRooms, "channels" | "courier">;
    models: Pick<Models, "settle" | "chosen" | "stream">;
    spending: Spending;
    settings(): Settings;
    publish: Gateway["publish"];
    schedule: ScheduleBus;
  },
): OpenToolsOptions["roof"] {
  const { helpers, models, spending, settings, publish } = rooms;
  if (safeMode !== undefined) return { config: settings };
  const show = (
    sessionKey: string,
    { runId, text }: { runId: string; text: string },
  ) => {
    let seen = 0;
    const timestamp = clock.now();
    const content = [{ type: "text", text }];
    const message = { role: "assistant", content, timestamp };
    publish(
      "chat",
      { runId, sessionKey, seq: 0, state: "final", message },
      (caller) => caller.isOwner && ++seen > 0,
    );
    return seen;
  };
  return {
    config: settings,
    carriers: [
      ownerCarrier({ clock, show }),
      sessionCarrier(helpers),
      channelCarrier(rooms.channels),
    ],
    runChild: childRunner(helpers),
    schedule: rooms.schedule,
    askModel: modelAsker({
      models,
      settings: () => agentSettings(settings()),
      paid: (payer) => paidStream({ spending, models }, payer),
    }),
  };
}
