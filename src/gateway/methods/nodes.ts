/**
 * The handlers of the methods for nodes.
 *
 * @module
 */
import type { NodeAbilities, PairRequest } from "../../core/methods/device.ts";
import { AppError } from "../../core/errors.ts";
import type { NODE_METHODS, NodeItem } from "../../core/methods/node.ts";
import type { Authority } from "../../core/authority.ts";
import type { Handlers, MethodDeps } from "../methods.ts";
import type { NodeAudit } from "../socket/node_calls.ts";

/** A paired node's record, as the gateway is given it. */
export interface PairedNode extends NodeAbilities {
  id: string;
  displayName?: string | undefined;
  platform: string;
  deviceFamily?: string | undefined;
  lastUsedAt?: number | undefined;
}

/** The nodes' records. */
export interface NodeDesk {
  list(): Promise<readonly PairedNode[]>;
  pending(): Promise<readonly PairRequest[]>;
  /** @throws {AppError} `not_found` */
  rename(id: string, displayName: string, by: Authority): Promise<void>;
  /** Whether a text is the node's token. */
  verify(id: string, token: string): Promise<boolean>;
  audit: NodeAudit;
}

/** A node that is connected now. */
export interface ConnectedNode extends NodeAbilities {
  id: string;
  version: string;
  address: string;
  connectedAt: number;
}

/** The rows for the table of methods. */
export function nodeHandlers(
  { deps, nodes }: MethodDeps,
): Pick<Handlers, keyof typeof NODE_METHODS> {
  const desk = (): NodeDesk => {
    if (deps.nodes !== undefined) return deps.nodes;
    throw new AppError("unavailable", "There are no nodes here");
  };
  const all = async (): Promise<NodeItem[]> =>
    (await desk().list()).map((row) => toItem(row, nodes.connected(row.id)));
  const one = async (nodeId: string): Promise<NodeItem> => {
    const found = (await all()).find((node) => node.nodeId === nodeId);
    if (found !== undefined) return found;
    throw new AppError("not_found", "Cannot find that node", {
      hint: "node.list says which are paired",
    });
  };
  return {
    "node.pair.request": async ({ nodeId }) => {
      const pending = await desk().pending();
      const request = pending.find(({ deviceId }) => deviceId === nodeId);
      if (request !== undefined) {
        return { status: "pending", request, created: false };
      }
      throw new AppError(
        "not_paired",
        "Cannot ask for a node: a node asks by connecting with its own key",
        { hint: 'Let it connect with role "node"; it waits in node.pair.list' },
      );
    },
    "node.pair.verify": async ({ nodeId, token }) =>
      await desk().verify(nodeId, token)
        ? { ok: true, node: await one(nodeId) }
        : { ok: false },
    "node.list": async () => ({ ts: deps.clock.now(), nodes: await all() }),
    "node.describe": async ({ nodeId }) => ({
      ts: deps.clock.now(),
      ...await one(nodeId),
    }),
    "node.rename": async ({ nodeId, displayName }, { caller }) => {
      await desk().rename(nodeId, displayName, caller.authority);
      return { nodeId, displayName };
    },
    "node.invoke": async (params, { caller, signal }) => {
      const { nodeId } = await one(params.nodeId);
      const by = caller.authority.credential;
      return await nodes.invoke({ ...params, nodeId, by, signal });
    },
    "node.invoke.result": (result, { caller, connId }) => {
      const nodeId = caller.authority.credential.replace(/^node:/, "");
      return nodes.take(result, { connId, nodeId })
        ? { ok: true }
        : { ok: true, ignored: true };
    },
    "node.event": ({ event }, { caller }) => {
      deps.log("info", "node.event", {
        node: caller.authority.credential.slice(0, 20),
        event,
      });
      return { ok: true };
    },
  };
}

function toItem(
  row: PairedNode,
  connected: ConnectedNode | undefined,
): NodeItem {
  const { id: nodeId, displayName, platform, deviceFamily, lastUsedAt } = row;
  const { caps, commands, permissions } = connected ?? row;
  return {
    nodeId,
    ...(displayName === undefined ? {} : { displayName }),
    platform,
    ...(deviceFamily === undefined ? {} : { deviceFamily }),
    caps,
    commands,
    permissions,
    paired: true,
    connected: connected !== undefined,
    ...(connected === undefined ? {} : {
      version: connected.version,
      remoteIp: connected.address,
      connectedAtMs: connected.connectedAt,
    }),
    ...(lastUsedAt === undefined ? {} : { lastUsedAtMs: lastUsedAt }),
  };
}
