/**
 * The contracts of the WebSocket methods for devices: pairing, their tokens,
 * and codes that enrol one.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";

const Nothing = z.strictObject({});
const Id = z.string().min(1).max(64);
const DeviceId = z.string().regex(
  /^[0-9a-f]{64}$/,
  "a device id is 64 hexadecimal digits",
);
const ScopeNames = z.array(z.string().max(64)).max(32);

export const DeviceRole = z.enum(["operator", "node"]);
export type DeviceRole = z.infer<typeof DeviceRole>;

/** Bounds of what is kept of devices. */
export const DEVICES = {
  /** Devices that are paired, each role counted. */
  pairedMax: 50,
  /** Devices that wait to be paired; a further one is refused. */
  pendingMax: 32,
  /** Of those, how many of one address. */
  pendingPerAddressMax: 3,
  /** How long such a wish is kept. */
  pendingMs: 600_000,
  /** Bootstrap codes that are open. */
  invitesMax: 32,
  /** How long a bootstrap code counts. */
  inviteMs: 600_000,
  /** How far a signature's time may be from its challenge's. */
  skewMs: 120_000,
  /** What a node may declare. */
  capsMax: 64,
  commandsMax: 128,
  permissionsMax: 64,
  wordCharsMax: 128,
} as const;

/** What a node says it can do; held to what was approved. */
export const NodeAbilities = z.object({
  caps: z.array(z.string()),
  commands: z.array(z.string()),
  permissions: z.record(z.string(), z.boolean()),
});
export type NodeAbilities = z.infer<typeof NodeAbilities>;

/** A request to be paired, exactly as it would be approved. */
export const PairRequest = z.object({
  requestId: z.string(),
  deviceId: z.string(),
  publicKey: z.string(),
  role: DeviceRole,
  /** What it asks for; approving gives no more. */
  scopes: z.array(z.string()),
  ...NodeAbilities.shape,
  displayName: z.string().optional(),
  platform: z.string(),
  deviceFamily: z.string().optional(),
  clientId: z.string(),
  clientMode: z.string(),
  remoteIp: z.string(),
  /** The credential it came with, when there was one beside the device. */
  via: z.string().optional(),
  /** It was paired before, with this key. */
  isRepair: z.boolean(),
  ts: z.int(),
  expiresAt: z.int(),
});
export type PairRequest = z.infer<typeof PairRequest>;

/** A paired device, without its keys. */
export const PairedDevice = z.object({
  deviceId: z.string(),
  role: DeviceRole,
  kind: z.string(),
  displayName: z.string().optional(),
  platform: z.string(),
  scopes: z.array(z.string()),
  ...NodeAbilities.shape,
  hasToken: z.boolean(),
  createdAtMs: z.int(),
  approvedBy: z.string(),
  expiresAt: z.int().optional(),
  lastUsedAtMs: z.int().optional(),
});
export type PairedDevice = z.infer<typeof PairedDevice>;

/** A code that nobody has redeemed yet. */
export const OpenInvite = z.object({
  inviteId: z.string(),
  role: DeviceRole,
  scopes: z.array(z.string()),
  name: z.string().optional(),
  createdBy: z.string(),
  createdAtMs: z.int(),
  expiresAt: z.int(),
});
export type OpenInvite = z.infer<typeof OpenInvite>;

const Approve = z.strictObject({
  requestId: Id,
  /** Less than was asked for; more is refused. */
  scopes: ScopeNames.optional(),
  /** Whose words its messages are: `owner` only by an owner. */
  as: z.enum(["owner", "program"]).optional(),
});
const Approved = z.object({ requestId: z.string(), device: PairedDevice });
const Reject = z.strictObject({ requestId: Id });
const Rejected = z.object({ requestId: z.string(), deviceId: z.string() });
const OneDevice = z.strictObject({
  deviceId: DeviceId,
  role: DeviceRole.optional(),
});
const Listed = z.object({
  pending: z.array(PairRequest),
  paired: z.array(PairedDevice),
  invites: z.array(OpenInvite),
});

export const DEVICE_METHODS = contracts({
  "device.pair.list": {
    scope: "pairing",
    about: "Devices that are paired, ask to be, or are invited",
    input: () => Nothing,
    output: () => Listed,
  },
  "device.pair.approve": {
    scope: "pairing",
    about:
      "Pair a device with what it asked for, within what the caller has itself",
    input: () => Approve,
    output: () => Approved,
  },
  "device.pair.reject": {
    scope: "pairing",
    about: "Turn a request down, or withdraw an invitation",
    input: () => Reject,
    output: () => Rejected,
  },
  "node.pair.list": {
    scope: "pairing",
    about: "The same as device.pair.list, of nodes only",
    input: () => Nothing,
    output: () => Listed,
  },
  "node.pair.approve": {
    scope: "pairing",
    about: "The same as device.pair.approve, for a node",
    input: () => Approve,
    output: () => Approved,
  },
  "node.pair.reject": {
    scope: "pairing",
    about: "The same as device.pair.reject, for a node",
    input: () => Reject,
    output: () => Rejected,
  },
  "device.token.rotate": {
    scope: "pairing",
    about:
      "Make a device's next token; the present one holds until the next is used",
    input: () => OneDevice,
    output: () =>
      z.object({
        deviceId: z.string(),
        role: DeviceRole,
        token: z.string(),
        scopes: z.array(z.string()),
        rotatedAtMs: z.int(),
      }),
  },
  "device.token.revoke": {
    scope: "pairing",
    about: "End a device: its key, its token, its sockets and its runs",
    input: () => OneDevice,
    output: () =>
      z.object({
        deviceId: z.string(),
        role: DeviceRole,
        revokedAtMs: z.int(),
      }),
  },
  "device.bootstrap.create": {
    scope: "pairing",
    about: "Make a code that pairs the first device that redeems it, once",
    input: () =>
      z.strictObject({
        role: DeviceRole.optional(),
        /** `read` and `chat` unless said; a node has none. */
        scopes: ScopeNames.optional(),
        as: z.enum(["owner", "program"]).optional(),
        name: z.string().min(1).max(64).optional(),
      }),
    output: () =>
      z.object({
        inviteId: z.string(),
        code: z.string(),
        role: DeviceRole,
        scopes: z.array(z.string()),
        expiresAt: z.int(),
      }),
  },
});
