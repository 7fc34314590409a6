/**
 * Devices: those that are paired, those that ask to be, and codes that enrol
 * one. A device has one record for each role, under its key's hash.
 *
 * Never: a token's or a code's text; a private key.
 *
 * @module
 */
import { z } from "zod";
import { Allowed, PrincipalKind, Purse, Scope } from "../core/authority.ts";
import { DeviceRole, NodeAbilities } from "../core/methods/device.ts";
import { idSchema } from "../core/ids.ts";
import { Integrity } from "../core/label.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const Text = z.string().max(256);

const What = {
  role: DeviceRole,
  scopes: z.array(Scope),
  agents: Allowed,
  models: Allowed,
  tools: Allowed,
  integrity: Integrity,
  /** Budgets of the keys it was made with. */
  purses: z.array(Purse).optional(),
  kind: PrincipalKind,
};

/** What a device says of itself; shown to people, trusted by nobody. */
const Said = {
  displayName: Text.optional(),
  platform: Text,
  deviceFamily: Text.optional(),
  clientId: Text,
  clientMode: Text,
};

/** A device that is, or was, paired. */
export const DeviceRow = z.strictObject({
  id: Sha256,
  /** The raw Ed25519 key, base64url. */
  publicKey: z.string().length(43),
  ...What,
  ...Said,
  /** A node's, as they were shown when it was approved. */
  abilities: NodeAbilities,
  /** Counts up with every pairing: runs of an earlier one are over. */
  revision: z.int().nonnegative(),
  createdAt: z.int(),
  /** The credential it was approved or invited by. */
  approvedBy: Text,
  expiresAt: z.int().optional(),
  revokedAt: z.int().optional(),
  /** The SHA-256 of its token, once it has one, and how many there were. */
  token: Sha256.optional(),
  tokenNumber: z.int().nonnegative(),
  /** The token that takes over when it is first used. */
  nextToken: Sha256.optional(),
  /** Kept in a row of its own; joined in by `list`. */
  lastUsedAt: z.int().optional(),
});
export type DeviceRow = z.infer<typeof DeviceRow>;

/** A device that asks. It never changes: another wish is another request. */
export const PendingRow = z.strictObject({
  requestId: idSchema("pair"),
  deviceId: Sha256,
  publicKey: z.string().length(43),
  role: DeviceRole,
  scopes: z.array(Scope),
  ...Said,
  abilities: NodeAbilities,
  address: z.string().max(128),
  /** The credential it came with. */
  via: Text.optional(),
  isRepair: z.boolean(),
  createdAt: z.int(),
  expiresAt: z.int(),
});
export type PendingRow = z.infer<typeof PendingRow>;

/** A code, bound at its making to all it can ever give. */
export const InviteRow = z.strictObject({
  sha256: Sha256,
  id: idSchema("inv"),
  ...What,
  name: z.string().max(64).optional(),
  createdBy: Text,
  createdByRevision: z.int(),
  createdAt: z.int(),
  expiresAt: z.int(),
  /** What the device's own record may not outlive. */
  deviceExpiresAt: z.int().optional(),
  redeemedBy: Sha256.optional(),
});
export type InviteRow = z.infer<typeof InviteRow>;

const Used = z.strictObject({ at: z.int() });
/** How long a code that was redeemed is remembered, and a dead request kept. */
const KEPT_MS = 86_400_000;

/** The `device` collections. */
export class DeviceRows {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(id: string, role: DeviceRole): Promise<DeviceRow | undefined> {
    const row = await this.#values.find(makeKey("device", id, role), DeviceRow);
    return row?.id === id && row.role === role ? row : undefined;
  }

  /** Every device, oldest first; those that were revoked too. */
  async list(): Promise<DeviceRow[]> {
    const used = new Map<string, number>();
    const uses = { prefix: makeKey("device_used") };
    for await (const { key, value } of this.#values.list(uses, Used)) {
      used.set(`${String(key[2])} ${String(key[3])}`, value.at);
    }
    const rows: DeviceRow[] = [];
    const prefix = makeKey("device");
    for await (
      const { key, value } of this.#values.list({ prefix }, DeviceRow)
    ) {
      if (value.id !== key[2] || value.role !== key[3]) {
        this.#values.skip(key, new TypeError("it is not its key's"));
        continue;
      }
      const lastUsedAt = used.get(`${value.id} ${value.role}`);
      rows.push(lastUsedAt === undefined ? value : { ...value, lastUsedAt });
    }
    return rows.sort((a, b) => a.createdAt - b.createdAt);
  }

  /** The row that stores a device. */
  row(next: DeviceRow): Row {
    const { lastUsedAt: _, ...value } = DeviceRow.parse(next);
    return { key: makeKey("device", value.id, value.role), value };
  }

  /** The row that notes a use; it cannot undo a revocation. */
  usedRow({ id, role }: Pick<DeviceRow, "id" | "role">, at: number): Row {
    return { key: makeKey("device_used", id, role), value: { at } };
  }

  /** The rows that forget a device. */
  deleteRows({ id, role }: Pick<DeviceRow, "id" | "role">): Row[] {
    return [
      { key: makeKey("device", id, role), value: undefined },
      { key: makeKey("device_used", id, role), value: undefined },
    ];
  }

  /** Who asks to be paired, oldest first; those too late too. */
  async pending(): Promise<PendingRow[]> {
    const rows: PendingRow[] = [];
    const prefix = makeKey("device_pending");
    for await (const { value } of this.#values.list({ prefix }, PendingRow)) {
      rows.push(value);
    }
    return rows.sort((a, b) => a.requestId < b.requestId ? -1 : 1);
  }

  pendingRow(next: PendingRow): Row {
    const value = PendingRow.parse(next);
    const key = makeKey("device_pending", value.requestId);
    return { key, value, expireInMs: KEPT_MS };
  }

  deletePendingRow({ requestId }: Pick<PendingRow, "requestId">): Row {
    return { key: makeKey("device_pending", requestId), value: undefined };
  }

  /** A code by the hash of its text. */
  async findInvite(sha256: string): Promise<InviteRow | undefined> {
    const key = makeKey("device_invite", sha256);
    const row = await this.#values.find(key, InviteRow);
    return row?.sha256 === sha256 ? row : undefined;
  }

  /** Every code that is kept, oldest first. */
  async invites(): Promise<InviteRow[]> {
    const rows: InviteRow[] = [];
    const prefix = makeKey("device_invite");
    for await (const { value } of this.#values.list({ prefix }, InviteRow)) {
      rows.push(value);
    }
    return rows.sort((a, b) => a.id < b.id ? -1 : 1);
  }

  /**
   * The rows that store a code. One that was redeemed leaves a mark that must
   * not exist yet, so that of two who redeem it the store takes one.
   */
  inviteRows(next: InviteRow): Row[] {
    const value = InviteRow.parse(next);
    const key = makeKey("device_invite", value.sha256);
    const rows: Row[] = [{ key, value, expireInMs: KEPT_MS }];
    if (value.redeemedBy !== undefined) {
      rows.push({
        key: makeKey("device_invite_mark", value.id),
        value: { by: value.redeemedBy },
        absent: true,
        expireInMs: 2 * KEPT_MS,
      });
    }
    return rows;
  }

  deleteInviteRow({ sha256 }: Pick<InviteRow, "sha256">): Row {
    return { key: makeKey("device_invite", sha256), value: undefined };
  }
}
