/**
 * The contracts of the WebSocket methods for nodes: devices that carry out
 * commands. Asking one is the owner's; answering is the node's own.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";
import { NodeAbilities, PairRequest } from "./device.ts";

const NodeId = z.string().min(1).max(64);
const Text = z.string().max(256);
const Command = z.string().min(1).max(128);

/** Bounds of what is asked of nodes and what they answer. */
export const NODES = {
  /** How long a node may take, and how long a caller may let it. */
  timeoutMs: 30_000,
  timeoutMsMax: 600_000,
  /** Calls a node has not answered yet. */
  pendingMax: 64,
  /** Characters of what a node is asked with. */
  paramsCharsMax: 131_072,
  /** Characters of what it answers. */
  resultCharsMax: 262_144,
  /** Answers kept for the same key, and for how long. */
  answersMax: 512,
  answersCharsMax: 4_194_304,
  answerMs: 600_000,
} as const;

/** A paired node, and how it is connected. */
export const NodeItem = z.object({
  nodeId: z.string(),
  displayName: z.string().optional(),
  platform: z.string(),
  version: z.string().optional(),
  deviceFamily: z.string().optional(),
  remoteIp: z.string().optional(),
  /** What was approved; of a connected one what it declares of that. */
  ...NodeAbilities.shape,
  paired: z.literal(true),
  connected: z.boolean(),
  connectedAtMs: z.int().optional(),
  lastUsedAtMs: z.int().optional(),
});
export type NodeItem = z.infer<typeof NodeItem>;

const InvokeError = z.strictObject({
  code: Text.optional(),
  message: z.string().max(4_096).optional(),
});

export const NODE_METHODS = contracts({
  "node.pair.request": {
    scope: "pairing",
    about:
      "What a node that connects with its own key has asked for; nobody asks for it",
    input: () =>
      z.strictObject({
        nodeId: NodeId,
        displayName: Text.optional(),
        platform: Text.optional(),
        version: Text.optional(),
        coreVersion: Text.optional(),
        uiVersion: Text.optional(),
        deviceFamily: Text.optional(),
        modelIdentifier: Text.optional(),
        caps: z.array(Text).max(128).optional(),
        commands: z.array(Text).max(512).optional(),
        remoteIp: Text.optional(),
        silent: z.boolean().optional(),
      }),
    output: () =>
      z.object({
        status: z.literal("pending"),
        request: PairRequest,
        created: z.literal(false),
      }),
  },
  "node.pair.verify": {
    scope: "pairing",
    about: "Whether a text is a paired node's token",
    input: () => z.strictObject({ nodeId: NodeId, token: z.string().max(512) }),
    output: () => z.object({ ok: z.boolean(), node: NodeItem.optional() }),
  },
  "node.list": {
    scope: "read",
    owner: true,
    about: "The paired nodes, and which of them are connected",
    input: () => z.strictObject({}),
    output: () => z.object({ ts: z.int(), nodes: z.array(NodeItem) }),
  },
  "node.describe": {
    scope: "read",
    owner: true,
    about: "One of them",
    input: () => z.strictObject({ nodeId: NodeId }),
    output: () => z.object({ ts: z.int(), ...NodeItem.shape }),
  },
  "node.rename": {
    scope: "write",
    owner: true,
    about: "Give a node another name",
    input: () =>
      z.strictObject({
        nodeId: NodeId,
        displayName: z.string().min(1).max(64),
      }),
    output: () => z.object({ nodeId: z.string(), displayName: z.string() }),
  },
  "node.invoke": {
    scope: "write",
    owner: true,
    about: "Have a connected node carry out one of its approved commands",
    input: () =>
      z.strictObject({
        nodeId: NodeId,
        command: Command,
        params: z.json().optional(),
        timeoutMs: z.int().min(1).max(NODES.timeoutMsMax).optional(),
        /** The same key and question within ten minutes get the same answer. */
        idempotencyKey: z.string().min(1).max(256),
      }),
    output: () =>
      z.object({
        ok: z.literal(true),
        nodeId: z.string(),
        command: z.string(),
        /** The node's own words: nobody vouches for them. */
        payload: z.unknown(),
        payloadJSON: z.string().nullable(),
      }),
  },
  "node.invoke.result": {
    scope: "node",
    about: "A node's answer to what it was asked",
    input: () =>
      z.strictObject({
        id: z.string().min(1).max(64),
        nodeId: NodeId,
        ok: z.boolean(),
        payload: z.unknown().optional(),
        payloadJSON: z.string().nullable().optional(),
        error: InvokeError.nullable().optional(),
      }),
    output: () =>
      z.object({
        ok: z.literal(true),
        /** Nobody waits for it: late, or not this node's. */
        ignored: z.literal(true).optional(),
      }),
  },
  "node.event": {
    scope: "node",
    about: "Something happened at a node; it is noted and starts nothing",
    input: () =>
      z.strictObject({
        event: z.string().min(1).max(128),
        payload: z.unknown().optional(),
        payloadJSON: z.string().max(NODES.resultCharsMax).nullable().optional(),
      }),
    output: () => z.object({ ok: z.literal(true) }),
  },
});

/** The `node.invoke.request` event, to one node's socket only. */
export const NodeInvokeRequest = z.strictObject({
  id: z.string(),
  nodeId: z.string(),
  command: z.string(),
  paramsJSON: z.string().nullable(),
  timeoutMs: z.int(),
  idempotencyKey: z.string(),
});
export type NodeInvokeRequest = z.infer<typeof NodeInvokeRequest>;
