/**
 * `node_invoke`: has a paired node carry out one of its approved commands. It
 * is there while a node is paired.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { type Tool, tool } from "../core/tool.ts";

/** What the tool is given of the nodes. */
export interface NodeReach {
  list(): Promise<
    readonly {
      id: string;
      name: string;
      commands: readonly string[];
      connected: boolean;
    }[]
  >;
  /** @throws {AppError} */
  invoke(ask: {
    nodeId: string;
    command: string;
    params?: unknown;
    idempotencyKey: string;
    by: string;
    signal: AbortSignal;
  }): Promise<{ payloadJSON: string | null }>;
}

type Listed = Awaited<ReturnType<NodeReach["list"]>>[number];

/** @throws {AppError} `not_found`; `bad_input` for a name that several have */
function findNode(all: readonly Listed[], node: string): Listed {
  const fitting = all.filter((one) => one.id === node || one.name === node);
  const [found] = fitting;
  if (found !== undefined && fitting.length === 1) return found;
  throw found === undefined
    ? new AppError("not_found", `There is no node "${node}"`)
    : new AppError(
      "bad_input",
      `Several nodes are called "${node}": say its id`,
    );
}

/** Makes the tool. */
export function nodeTool(nodes: NodeReach): Tool {
  return tool({
    name: "node_invoke",
    about:
      "Have a paired device carry out one of its approved commands; without a command, list the devices and their commands",
    input: z.strictObject({
      node: z.string().min(1).max(64).optional().describe("Its id or name"),
      command: z.string().min(1).max(128).optional(),
      params: z.record(z.string(), z.json()).optional(),
    }),
    scope: "write",
    effect: "exec",
    reach: "owner",
    result: { integrity: "untrusted", secrecy: "private" },
    destinations: [],
    // A name can be another device's by the time the owner has answered.
    plan: async ({ node, command }) => {
      if (node === undefined || command === undefined) {
        return { binding: "list", card: ["lists the paired devices"] };
      }
      const { id, name } = findNode(await nodes.list(), node);
      return { binding: id, card: [`the device: ${name} (${id})`] };
    },
    run: async ({ node, command, params }, context) => {
      const all = await nodes.list();
      if (node === undefined || command === undefined) {
        return all.map(({ id, name, commands, connected }) =>
          `${name} (${id}, ${connected ? "connected" : "away"}): ${
            commands.join(", ")
          }`
        ).join("\n");
      }
      const { id: nodeId } = findNode(all, node);
      if (context.plan !== undefined && context.plan !== nodeId) {
        throw new AppError(
          "conflict",
          `"${node}" is another device now than the owner was asked about`,
        );
      }
      const { payloadJSON } = await nodes.invoke({
        nodeId,
        command,
        ...(params === undefined ? {} : { params }),
        idempotencyKey: crypto.randomUUID(),
        by: context.authority.credential,
        signal: context.signal,
      });
      return payloadJSON ?? "Done; it answered nothing";
    },
  });
}
