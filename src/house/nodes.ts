/**
 * Devices and nodes: who hears of a pairing, what is known of a node, and the
 * tool that reaches one while one is paired.
 *
 * Never: a device is admitted here.
 *
 * @module
 */
import type { Identity } from "../auth/open.ts";
import type { PairEvent } from "../auth/pairing.ts";
import { AppError, errorText } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { GatewayDeps } from "../gateway/deps.ts";
import type { Gateway } from "../gateway/gateway.ts";
import type { Store } from "../store/store.ts";
import { nodeTool } from "../tools/node_invoke.ts";
import type { Toolbox } from "../tools/open.ts";

/** Those who may pair hear who asks, and what became of it. */
export function tellOfPairing(
  event: PairEvent,
  gateway: Gateway | undefined,
): void {
  if (event.kind === "requested") {
    const of = event.request.role === "node" ? "node" : "device";
    gateway?.publish(`${of}.pair.requested`, event.request);
    return;
  }
  const { kind: _, ...payload } = event;
  const of = event.role === "node" ? "node" : "device";
  gateway?.publish(`${of}.pair.resolved`, payload);
}

/** The nodes' records, and the book of what they were asked. */
export function nodeDesk(
  { devices, pairing }: Identity,
  { journal, audit }: Pick<Store, "journal" | "audit">,
): NonNullable<GatewayDeps["nodes"]> {
  const role = "node" as const;
  return {
    list: async () =>
      (await devices.list()).filter((row) => row.role === role).map((row) => ({
        ...row.abilities,
        id: row.id,
        displayName: row.displayName,
        platform: row.platform,
        deviceFamily: row.deviceFamily,
        lastUsedAt: row.lastUsedAt,
      })),
    pending: async () => (await pairing.list(role)).pending,
    rename: (id, name, by) => devices.rename({ id, role }, name, by),
    verify: (id, token) => devices.holds({ id, role }, token),
    audit: (event, fields) =>
      journal.commit([
        audit.row({ event, fields }),
      ]),
  };
}

/**
 * Offers agents the tool that reaches nodes, while one is paired. Which are is
 * looked at anew when something about devices changed.
 */
export function offerNodes(
  { identity, registry, gateway, log }: {
    identity: Identity;
    registry: Toolbox["registry"];
    gateway(): Gateway | undefined;
    log: Log;
  },
): { look(): void } & Disposable {
  const paired = async () =>
    (await identity.devices.list()).filter(({ role }) => role === "node");
  const made = nodeTool({
    list: async () =>
      (await paired()).map(({ id, displayName, abilities }) => ({
        id,
        name: displayName ?? id.slice(0, 12),
        commands: abilities.commands,
        connected: gateway()?.isNodeConnected(id) ?? false,
      })),
    invoke: async (ask) => {
      const open = gateway();
      if (open !== undefined) return await open.invokeNode(ask);
      throw new AppError("unavailable", "The gateway is not open yet");
    },
  });
  const look = async () => {
    const isPaired = (await paired()).length > 0;
    const isOffered = registry.find(made.name) !== undefined;
    if (isPaired && !isOffered) registry.add(made);
    else if (!isPaired && isOffered) registry.remove(made.name);
  };
  const lookAgain = () =>
    void look().catch((error) =>
      log("warn", "nodes.not_looked_at", { error: errorText(error) })
    );
  const ending = identity.devices.onEnded(lookAgain);
  lookAgain();
  return { look: lookAgain, [Symbol.dispose]: () => ending[Symbol.dispose]() };
}
