/**
 * The plugins over this house's store, door, registry and turns.
 *
 * Never: a plugin is given more than its grant, or this house's rooms whole.
 *
 * @module
 */
import type { ChannelInbox } from "../agent/channel_inbox.ts";
import { makePluginWorld } from "../agent/plugin_world.ts";
import { pluginAuthority } from "../auth/principal.ts";
import type { Egress } from "../egress/egress.ts";
import type { Gateway } from "../gateway/gateway.ts";
import { toRules } from "../guard/rules.ts";
import { PluginRoom, type PluginRoomDeps } from "../plugins/room.ts";
import type { Settings } from "../settings.ts";
import type { Store } from "../store/store.ts";
import type { ChannelRooms } from "./channels.ts";
import type { HouseOptions } from "./options.ts";

/** The plugins over this house's store, door, registry and turns. */
export function makePlugins(
  { stateDir, clock, log }: HouseOptions,
  rooms: {
    store: Store;
    egress: Egress;
    registry: PluginRoomDeps["registry"];
    inbox: Pick<ChannelInbox, "receive">;
    channels: Pick<ChannelRooms, "channels" | "courier">;
    settings(): Settings;
    publish: Gateway["publish"];
    onCall: NonNullable<PluginRoomDeps["onCall"]>;
  },
): PluginRoom {
  const { store, egress, registry, inbox, settings, publish } = rooms;
  const { channels, courier } = rooms.channels;
  const { plugins: rows, journal, audit } = store;
  const config = () => settings().plugins;
  return new PluginRoom({
    rows,
    journal,
    audit,
    egress,
    registry,
    config,
    stateDir,
    world: makePluginWorld({
      store,
      receive: (event) => inbox.receive(event),
      courier,
      pluginAuthority,
      rules: () => toRules(settings().guard),
      onSession: (key) =>
        publish(
          "sessions.changed",
          { key, sessionKey: key, reason: "plugin", ts: clock.now() },
          (caller) => caller.ownsSession(key),
        ),
      clock,
      log,
    }),
    onChange: (change) => publish("plugins.changed", change),
    onCall: rooms.onCall,
    onChannel: (channel) => channels.add(channel),
    clock,
    log,
  });
}
