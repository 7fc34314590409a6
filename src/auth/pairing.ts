/**
 * How a device comes to be paired: it asks and somebody approves, or it brings
 * a code that somebody made for it.
 *
 * Never: a pairing gives more than was shown when it was approved, or more than
 * its maker has; a code is redeemed twice, by two keys, or after its time.
 *
 * @module
 */
import { type Authority, Scopes } from "../core/authority.ts";
import {
  type DeviceRole,
  DEVICES,
  type NodeAbilities,
  type OpenInvite,
  type PairedDevice,
  type PairRequest,
} from "../core/methods/device.ts";
import { AppError } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import type { ConnectParams } from "../core/protocol.ts";
import type { Clock } from "../core/time.ts";
import type { DeviceRow, InviteRow, PendingRow } from "../store/devices.ts";
import type { Row } from "../store/journal.ts";
import type { Store } from "../store/store.ts";
import type { ProvenDevice } from "./device_proof.ts";
import { type Devices, told } from "./devices.ts";
import { canonicalAddress } from "./limiter.ts";
import { checkMayEnd, narrowed } from "./minting.ts";
import { deviceCredential } from "./principal.ts";
import { hashToken, makeTokenText } from "./secret_text.ts";

/** What is told to whoever may pair. */
export type PairEvent =
  | { kind: "requested"; request: PairRequest }
  | {
    kind: "resolved";
    requestId: string;
    deviceId: string;
    role: DeviceRole;
    decision: "approved" | "rejected";
    ts: number;
  };

/** How a credential stands: `undefined` when it is over. */
export type Standing = { expiresAt?: number; revision: number } | undefined;

export interface PairingDeps {
  store: Pick<Store, "devices" | "journal" | "audit">;
  devices: Devices;
  clock: Clock;
  /** Of the credential that approves or invites. */
  standing(credential: string): Promise<Standing>;
  onEvent(event: PairEvent): void;
}

const DEFAULT_SCOPES = ["read", "chat"];
/** A key that changes its mind sooner than this is not heard: each is a write. */
const REPLACE_MS = 5_000;

/** Requests, approvals and invitations of one store. */
export class Pairing {
  readonly #on: PairingDeps;

  constructor(deps: PairingDeps) {
    this.#on = deps;
  }

  /**
   * Keeps a request to be paired, and tells of it once. The same wish of the
   * same key is the same request; another wish replaces it under another id.
   *
   * @returns nothing when there is no place for it
   */
  request(
    device: ProvenDevice,
    asked: { params: ConnectParams; address: string; via?: string },
  ): Promise<PendingRow | undefined> {
    const { store, devices, clock } = this.#on;
    return devices.alone(async () => {
      const now = clock.now();
      const row = await this.#wish(device, asked, now);
      const all = await store.devices.pending();
      const open = all.filter(({ expiresAt }) => expiresAt > now);
      const own = open.find((one) =>
        one.deviceId === row.deviceId && one.role === row.role
      );
      if (
        own !== undefined &&
        (isSameWish(own, row) || now - own.createdAt < REPLACE_MS)
      ) return own;
      const others = open.filter((one) => one !== own);
      const near = others.filter(({ address }) => address === row.address);
      if (
        others.length >= DEVICES.pendingMax ||
        near.length >= DEVICES.pendingPerAddressMax
      ) return undefined;
      const gone = all.filter((one) => one === own || one.expiresAt <= now);
      await store.journal.commit([
        ...gone.slice(0, 100).map((one) => store.devices.deletePendingRow(one)),
        store.devices.pendingRow(row),
      ]);
      this.#on.onEvent({ kind: "requested", request: toRequest(row) });
      return row;
    });
  }

  async #wish(
    device: ProvenDevice,
    asked: { params: ConnectParams; address: string; via?: string },
    now: number,
  ): Promise<PendingRow> {
    const { params, via } = asked;
    const role = params.role ?? "operator";
    const scopes = role === "node"
      ? []
      : Scopes.of(params.scopes ?? DEFAULT_SCOPES).list();
    const before = await this.#on.store.devices.find(device.id, role);
    return {
      requestId: makeId("pair", now),
      deviceId: device.id,
      publicKey: device.publicKey,
      role,
      scopes,
      ...said(params),
      abilities: abilitiesOf(params),
      address: canonicalAddress(asked.address),
      ...(via === undefined ? {} : { via }),
      isRepair: before !== undefined,
      createdAt: now,
      expiresAt: now + DEVICES.pendingMs,
    };
  }

  /** Everything, as it is shown. */
  async list(role?: DeviceRole): Promise<{
    pending: PairRequest[];
    paired: PairedDevice[];
    invites: OpenInvite[];
  }> {
    const { store, devices, clock } = this.#on;
    const now = clock.now();
    const isShown = (row: { role: DeviceRole }) =>
      role === undefined || row.role === role;
    const pending = await store.devices.pending();
    const paired = await devices.list();
    const invites = await store.devices.invites();
    return {
      pending: pending.filter((row) => isShown(row) && row.expiresAt > now)
        .map(toRequest),
      paired: paired.filter(isShown).map(toPaired),
      invites: invites.filter((row) => isShown(row) && isOpen(row, now))
        .map(toInvite),
    };
  }

  /**
   * Pairs a device: what it asked for and was shown, and `by` has.
   *
   * @throws {AppError} `not_found`; `forbidden` for more than was asked for, or
   * for what only an owner can give; `conflict` when there are too many
   */
  approve(
    by: Authority,
    wish: {
      requestId: string;
      role?: DeviceRole;
      scopes?: readonly string[] | undefined;
      as?: "owner" | "program" | undefined;
    },
  ): Promise<DeviceRow> {
    const { store, devices } = this.#on;
    return devices.alone(async () => {
      const pending = await this.#getPending(wish.requestId, wish.role);
      const shown = Scopes.of(pending.scopes);
      const wanted = Scopes.of(wish.scopes ?? pending.scopes);
      if (!shown.covers(wanted)) {
        throw new AppError(
          "forbidden",
          "Cannot pair the device: it did not ask for all of these scopes",
          { hint: `It asked for: ${shown.list().join(", ") || "nothing"}` },
        );
      }
      const kind = kindFor(by, { role: pending.role, as: wish.as });
      const { purses } = by.toRecord();
      const { scopes, agents, models, tools, integrity } = by.narrow({
        scopes: shown.intersect(wanted).list(),
        integrity: kind === "owner" ? "owner" : "untrusted",
      }).toRecord();
      const { deviceId: id, publicKey, role } = pending;
      // A pairing takes the place of the one before it: that one ends.
      const before = await devices.find(id, role);
      if (before !== undefined) {
        const held = { ...before, credential: deviceCredential(before) };
        checkMayEnd(by, held, { act: "pair the device anew" });
      }
      const row = await this.#makeRow({ id, publicKey }, {
        granted: {
          role,
          kind,
          scopes,
          agents,
          models,
          tools,
          integrity,
          ...(purses === undefined ? {} : { purses }),
        },
        said: pending,
        abilities: pending.abilities,
        approvedBy: by.credential,
        expiresAt: (await this.#makerOf(by)).expiresAt,
      });
      await this.#store(row, [
        store.devices.deletePendingRow(pending),
        store.audit.row(told("device.approve", row, by)),
      ]);
      this.#resolved(pending, "approved");
      return row;
    });
  }

  /**
   * Turns a request down, or withdraws an invitation of this id.
   *
   * @throws {AppError} `not_found`; `forbidden` for an invitation to more than
   * `by` may itself
   */
  reject(
    by: Authority,
    wish: { requestId: string; role?: DeviceRole },
  ): Promise<{ deviceId: string }> {
    const { store, devices } = this.#on;
    return devices.alone(async () => {
      const invites = await store.devices.invites();
      const invite = invites.find(({ id, role }) =>
        id === wish.requestId && role === (wish.role ?? role)
      );
      if (invite !== undefined) {
        const held = { ...invite, credential: invite.createdBy };
        checkMayEnd(by, held, { act: "withdraw the invitation" });
        await store.journal.commit([
          store.devices.deleteInviteRow(invite),
          store.audit.row(invitation("device.invite.withdraw", invite, by)),
        ]);
        return { deviceId: "" };
      }
      const pending = await this.#getPending(wish.requestId, wish.role);
      await store.journal.commit([
        store.devices.deletePendingRow(pending),
        store.audit.row({
          event: "device.reject",
          fields: { device: pending.deviceId, by: by.credential },
        }),
      ]);
      this.#resolved(pending, "rejected");
      return { deviceId: pending.deviceId };
    });
  }

  /**
   * Makes a code that pairs whoever redeems it first; its text is in the answer
   * and nowhere else.
   *
   * @throws {AppError} `forbidden` naming what is wider than `by` has,
   * `conflict` when there are too many
   */
  invite(
    by: Authority,
    wish: {
      role?: DeviceRole | undefined;
      scopes?: readonly string[] | undefined;
      as?: "owner" | "program" | undefined;
      name?: string | undefined;
    },
  ): Promise<{ row: InviteRow; code: string }> {
    const { store, devices, clock } = this.#on;
    return devices.alone(async () => {
      const now = clock.now();
      const { role = "operator", name } = wish;
      const maker = await this.#makerOf(by);
      const open = (await store.devices.invites())
        .filter((row) => isOpen(row, now));
      if (open.length >= DEVICES.invitesMax) {
        throw new AppError(
          "conflict",
          `Cannot invite a device: ${DEVICES.invitesMax} codes are open`,
          { hint: "Withdraw one: `carapace device reject ID`" },
        );
      }
      const kind = kindFor(by, { role, as: wish.as });
      const granted = narrowed({
        kind,
        scopes: role === "node" ? [] : wish.scopes ?? DEFAULT_SCOPES,
        integrity: kind === "owner" ? "owner" : "untrusted",
      }, { by, what: "an invitation" });
      const code = makeTokenText("cari");
      const row: InviteRow = {
        sha256: hashToken(code),
        id: makeId("inv", now),
        role,
        kind,
        ...granted,
        ...(name === undefined ? {} : { name }),
        createdBy: by.credential,
        createdByRevision: maker.revision,
        createdAt: now,
        expiresAt: now + DEVICES.inviteMs,
        ...(maker.expiresAt === undefined
          ? {}
          : { deviceExpiresAt: maker.expiresAt }),
      };
      await store.journal.commit([
        ...store.devices.inviteRows(row),
        store.audit.row(invitation("device.invite", row, by)),
      ]);
      return { row, code };
    });
  }

  /**
   * The device behind a code: paired now when it is the first, found again when
   * the same key asks again (its answer may have been lost). Nothing for a code
   * that is unknown, late, withdrawn, of another role, another key's, or made
   * by a credential that is over.
   */
  redeem(
    code: string,
    device: ProvenDevice,
    params: ConnectParams,
  ): Promise<DeviceRow | undefined> {
    const { store, devices, clock } = this.#on;
    return devices.alone(async () => {
      const now = clock.now();
      const invite = await store.devices.findInvite(hashToken(code));
      const role = params.role ?? "operator";
      if (
        invite === undefined || invite.role !== role ||
        invite.expiresAt <= now
      ) return undefined;
      if (invite.redeemedBy !== undefined) {
        return invite.redeemedBy === device.id
          ? await devices.find(device.id, role)
          : undefined;
      }
      const maker = await this.#on.standing(invite.createdBy);
      if (maker?.revision !== invite.createdByRevision) return undefined;
      const { kind, scopes, agents, models, tools, integrity } = invite;
      const { name, purses } = invite;
      const row = await this.#makeRow(device, {
        granted: {
          role,
          kind,
          scopes,
          agents,
          models,
          tools,
          integrity,
          ...(purses === undefined ? {} : { purses }),
        },
        said: {
          ...said(params),
          ...(name === undefined ? {} : { displayName: name }),
        },
        abilities: abilitiesOf(params),
        approvedBy: invite.createdBy,
        expiresAt: invite.deviceExpiresAt,
      });
      const asking = (await store.devices.pending()).filter((one) =>
        one.deviceId === row.id && one.role === role
      );
      try {
        await this.#store(row, [
          ...store.devices.inviteRows({ ...invite, redeemedBy: row.id }),
          ...asking.map((one) => store.devices.deletePendingRow(one)),
          store.audit.row(told("device.redeem", row)),
        ]);
      } catch (error) {
        if (error instanceof AppError && error.code === "conflict") return;
        throw error;
      }
      for (const one of asking) this.#resolved(one, "approved");
      return row;
    });
  }

  async #getPending(
    requestId: string,
    role: DeviceRole | undefined,
  ): Promise<PendingRow> {
    const { store, clock } = this.#on;
    const found = (await store.devices.pending()).find((one) =>
      one.requestId === requestId && one.expiresAt > clock.now() &&
      (role === undefined || one.role === role)
    );
    if (found !== undefined) return found;
    throw new AppError(
      "not_found",
      `Cannot find the request "${requestId}": it is over, or was changed by the device`,
      { hint: "`carapace device list` shows what is asked now" },
    );
  }

  /** @throws {AppError} `forbidden` when the credential is over */
  async #makerOf(by: Authority): Promise<NonNullable<Standing>> {
    const standing = await this.#on.standing(by.credential);
    if (standing?.revision === by.revision) return standing;
    throw new AppError(
      "forbidden",
      "Cannot pair a device: the credential you use is over",
    );
  }

  async #makeRow(
    device: ProvenDevice,
    made: {
      granted: Pick<
        DeviceRow,
        | "role"
        | "kind"
        | "scopes"
        | "agents"
        | "models"
        | "tools"
        | "integrity"
        | "purses"
      >;
      said: Said;
      abilities: NodeAbilities;
      approvedBy: string;
      expiresAt: number | undefined;
    },
  ): Promise<DeviceRow> {
    const { store, devices, clock } = this.#on;
    const { role } = made.granted;
    const before = await store.devices.find(device.id, role);
    const paired = await devices.list();
    const isNew = !paired.some((one) =>
      one.id === device.id && one.role === role
    );
    if (isNew && paired.length >= DEVICES.pairedMax) {
      throw new AppError(
        "conflict",
        `Cannot pair the device: there are ${DEVICES.pairedMax} already`,
        { hint: "Revoke one nobody uses: `carapace device list`" },
      );
    }
    const { displayName, platform, deviceFamily, clientId, clientMode } =
      made.said;
    return {
      id: device.id,
      publicKey: device.publicKey,
      ...made.granted,
      ...(displayName === undefined ? {} : { displayName }),
      platform,
      ...(deviceFamily === undefined ? {} : { deviceFamily }),
      clientId,
      clientMode,
      abilities: made.abilities,
      revision: before === undefined ? 0 : before.revision + 1,
      createdAt: clock.now(),
      approvedBy: made.approvedBy,
      ...(made.expiresAt === undefined ? {} : { expiresAt: made.expiresAt }),
      tokenNumber: before?.tokenNumber ?? 0,
    };
  }

  /** Stores a record; what an earlier one let in is over. */
  async #store(row: DeviceRow, more: Row[]): Promise<void> {
    const { store, devices } = this.#on;
    const before = await devices.find(row.id, row.role);
    await store.journal.commit([store.devices.row(row), ...more]);
    if (before !== undefined) devices.end(before);
  }

  #resolved(
    { requestId, deviceId, role }: PendingRow,
    decision: "approved" | "rejected",
  ): void {
    const ts = this.#on.clock.now();
    this.#on.onEvent({
      kind: "resolved",
      requestId,
      deviceId,
      role,
      decision,
      ts,
    });
  }
}

type Said = Pick<
  PendingRow,
  "displayName" | "platform" | "deviceFamily" | "clientId" | "clientMode"
>;

function said({ client }: ConnectParams): Said {
  const { displayName, platform, deviceFamily } = client;
  return {
    ...(displayName === undefined ? {} : { displayName }),
    platform,
    ...(deviceFamily === undefined ? {} : { deviceFamily }),
    clientId: client.id,
    clientMode: client.mode,
  };
}

/**
 * What a node declares, in order, so that one wish has one form.
 *
 * @throws {AppError} `bad_input` when it is more than people can read
 */
export function abilitiesOf(params: ConnectParams): NodeAbilities {
  if (params.role !== "node") {
    return { caps: [], commands: [], permissions: {} };
  }
  const { caps = [], commands = [], permissions = {} } = params;
  const named = Object.entries(permissions);
  const words = [...caps, ...commands, ...named.map(([name]) => name)];
  if (
    caps.length > DEVICES.capsMax || commands.length > DEVICES.commandsMax ||
    named.length > DEVICES.permissionsMax ||
    words.some((word) => word.length > DEVICES.wordCharsMax)
  ) {
    throw new AppError(
      "bad_input",
      "Cannot connect the node: it declares more than can be shown",
    );
  }
  return {
    caps: [...new Set(caps)].sort(),
    commands: [...new Set(commands)].sort(),
    permissions: Object.fromEntries(named.sort(([a], [b]) => a < b ? -1 : 1)),
  };
}

/** What a node declares now, as far as it was approved. */
export function withinApproved(
  declared: NodeAbilities,
  approved: NodeAbilities,
): NodeAbilities {
  return {
    caps: declared.caps.filter((name) => approved.caps.includes(name)),
    commands: declared.commands.filter((name) =>
      approved.commands.includes(name)
    ),
    permissions: Object.fromEntries(
      Object.entries(declared.permissions).map((
        [name, isOn],
      ) => [name, isOn && approved.permissions[name] === true]),
    ),
  };
}

/** What kind of actor `by` may make of a device. */
function kindFor(
  by: Authority,
  wish: { role: DeviceRole; as: "owner" | "program" | undefined },
): DeviceRow["kind"] {
  const isOwner = by.kind === "owner" && by.integrity === "owner";
  if (wish.role === "node") {
    if (isOwner) return "node";
    throw new AppError("forbidden", "Cannot pair a node: only an owner may");
  }
  const as = wish.as ?? (isOwner ? "owner" : "program");
  if (as === "program" || isOwner) return as;
  throw new AppError(
    "forbidden",
    "Cannot pair the device as an owner's: only an owner may",
    { hint: 'Pair it as "program"' },
  );
}

function isOpen(row: InviteRow, now: number): boolean {
  return row.redeemedBy === undefined && row.expiresAt > now;
}

function isSameWish(a: PendingRow, b: PendingRow): boolean {
  const wish = (row: PendingRow) => {
    const { requestId: _, createdAt: __, expiresAt: ___, ...rest } = row;
    return JSON.stringify(Object.entries(rest).sort());
  };
  return wish(a) === wish(b);
}

function invitation(event: string, row: InviteRow, by: Authority) {
  return {
    event,
    fields: {
      invite: row.id,
      role: row.role,
      kind: row.kind,
      scopes: [...row.scopes],
      by: by.credential,
    },
  };
}

function toRequest(row: PendingRow): PairRequest {
  const { address, createdAt, abilities, ...rest } = row;
  return { ...rest, ...abilities, remoteIp: address, ts: createdAt };
}

/** A device as it is shown. */
export function toPaired(row: DeviceRow): PairedDevice {
  const { id, role, kind, displayName, platform, scopes, abilities } = row;
  return {
    deviceId: id,
    role,
    kind,
    ...(displayName === undefined ? {} : { displayName }),
    platform,
    scopes,
    ...abilities,
    hasToken: row.token !== undefined,
    createdAtMs: row.createdAt,
    approvedBy: row.approvedBy,
    ...(row.expiresAt === undefined ? {} : { expiresAt: row.expiresAt }),
    ...(row.lastUsedAt === undefined ? {} : { lastUsedAtMs: row.lastUsedAt }),
  };
}

function toInvite(row: InviteRow): OpenInvite {
  const { id, role, scopes, name, createdBy, createdAt, expiresAt } = row;
  return {
    inviteId: id,
    role,
    scopes,
    ...(name === undefined ? {} : { name }),
    createdBy,
    createdAtMs: createdAt,
    expiresAt,
  };
}
