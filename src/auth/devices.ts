/**
 * Paired devices: their records, their tokens, and how they end. How one comes
 * to be paired is in `pairing.ts`.
 *
 * Never: a device's token works without its key; a record that was ended comes
 * back by itself.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import type { DeviceRole } from "../core/methods/device.ts";
import { AppError, errorText, ignore } from "../core/errors.ts";
import { verifySecret } from "../core/secret.ts";
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { AuditEntry } from "../store/audit.ts";
import type { DeviceRow } from "../store/devices.ts";
import type { Row } from "../store/journal.ts";
import type { Store } from "../store/store.ts";
import { Endings, type EndListener } from "./endings.ts";
import { checkCovers, checkMayEnd } from "./minting.ts";
import { deviceCredential } from "./principal.ts";
import { hashToken, makeTokenText } from "./secret_text.ts";

/** What devices are kept with. */
export interface DevicesDeps {
  store: Pick<Store, "devices" | "journal" | "audit">;
  clock: Clock;
  log: Log;
}

/** A device's last use is stored this often at most. */
const TOUCH_MS = 60_000;

/** The devices of one store. One writer: changes wait for each other. */
export class Devices {
  readonly #store: DevicesDeps["store"];
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #listeners: Endings;
  /** Ended in this process up to a revision, whatever the disk says. */
  readonly #dead = new Map<string, number>();
  readonly #touchedAt = new Map<string, number>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(deps: DevicesDeps) {
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#listeners = new Endings(deps.log);
  }

  /** Runs what reads and then writes, after what came before it. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#last.then(work, work);
    this.#last = run.catch(ignore("whoever asked hears of it"));
    return run;
  }

  /** Calls with a credential when it, or a text of it, ends; until disposed. */
  onEnded(listener: EndListener): Disposable {
    return this.#listeners.on(listener);
  }

  /** The record of a device that may be used now. */
  async find(id: string, role: DeviceRole): Promise<DeviceRow | undefined> {
    const row = await this.#store.devices.find(id, role);
    return row === undefined || this.isOver(row) ? undefined : row;
  }

  /** Whether there was ever such a device, also one that was ended. */
  async isKnown(id: string, role: DeviceRole): Promise<boolean> {
    return await this.#store.devices.find(id, role) !== undefined;
  }

  /** Those that may be used now, oldest first. */
  async list(): Promise<DeviceRow[]> {
    const rows = await this.#store.devices.list();
    return rows.filter((row) => !this.isOver(row));
  }

  isOver(row: DeviceRow): boolean {
    return row.revokedAt !== undefined ||
      row.revision <= (this.#dead.get(deviceCredential(row)) ?? -1) ||
      row.expiresAt !== undefined && row.expiresAt <= this.#clock.now();
  }

  /** Whether a credential of ours stands as it did at a revision. */
  async isLive(credential: string, revision: number): Promise<boolean> {
    const row = await this.#byCredential(credential);
    return row !== undefined && row.revision === revision;
  }

  /** When a device's record ends by itself; `undefined` for one that is over. */
  async standing(
    credential: string,
  ): Promise<{ expiresAt?: number; revision: number } | undefined> {
    const row = await this.#byCredential(credential);
    if (row === undefined) return undefined;
    const { expiresAt, revision } = row;
    return { revision, ...(expiresAt === undefined ? {} : { expiresAt }) };
  }

  async #byCredential(credential: string): Promise<DeviceRow | undefined> {
    const [, role, id] = /^(device|node):([0-9a-f]{64})$/.exec(credential) ??
      [];
    if (id === undefined) return undefined;
    return await this.find(id, role === "node" ? "node" : "operator");
  }

  /** Notes a use without waiting; losing one costs nothing. */
  touch(row: DeviceRow): void {
    const now = this.#clock.now();
    const credential = deviceCredential(row);
    if (now - (this.#touchedAt.get(credential) ?? 0) < TOUCH_MS) return;
    this.#touchedAt.set(credential, now);
    this.#store.journal.commit([this.#store.devices.usedRow(row, now)])
      .catch(ignore("a device's last use was not stored"));
  }

  /** A device's first token; nothing when it has one. */
  issue(device: DeviceRow): Promise<string | undefined> {
    return this.alone(async () => {
      const row = await this.find(device.id, device.role);
      if (row === undefined || row.token !== undefined) return undefined;
      const text = makeTokenText("card");
      const next = {
        ...row,
        token: hashToken(text),
        tokenNumber: row.tokenNumber + 1,
      };
      await this.#commit(next, told("device.token.issue", row));
      return text;
    });
  }

  /**
   * The number of a device's token, when the text is one. The first use of the
   * next one ends the present one and the sockets that came by it.
   */
  acceptToken(device: DeviceRow, text: string): Promise<number | undefined> {
    return this.alone(async () => {
      const row = await this.find(device.id, device.role);
      const sha256 = hashToken(text);
      if (row === undefined) return undefined;
      if (await isSame(row.token, sha256)) return row.tokenNumber;
      if (!await isSame(row.nextToken, sha256)) return undefined;
      const { nextToken, ...kept } = row;
      const number = row.tokenNumber + 1;
      await this.#commit(
        { ...kept, token: nextToken, tokenNumber: number },
        told("device.token.rotated", row),
      );
      this.#listeners.tell(deviceCredential(row), number);
      return number;
    });
  }

  /** Whether a text is a token of a device; it is not used by being asked. */
  async holds(
    device: { id: string; role: DeviceRole },
    text: string,
  ): Promise<boolean> {
    const row = await this.find(device.id, device.role);
    const sha256 = hashToken(text);
    return await isSame(row?.token, sha256) ||
      await isSame(row?.nextToken, sha256);
  }

  /**
   * Gives a device another name.
   *
   * @throws {AppError} `not_found`; `forbidden` when the device may do what
   * `by` may not
   */
  rename(
    device: { id: string; role: DeviceRole },
    displayName: string,
    by: Authority,
  ): Promise<void> {
    return this.alone(async () => {
      const row = await this.#get(device);
      this.#check(row, by, "rename");
      await this.#commit(
        { ...row, displayName },
        told("device.rename", row, by),
      );
    });
  }

  /**
   * Makes a device's next token; its text is in the answer and nowhere else.
   *
   * @throws {AppError} `not_found`; `forbidden` when the device may do what
   * `by` may not
   */
  rotate(
    device: { id: string; role: DeviceRole },
    by: Authority,
  ): Promise<{ token: string; row: DeviceRow; at: number }> {
    return this.alone(async () => {
      const row = await this.#get(device);
      this.#check(row, by, "rotate the token of");
      const token = makeTokenText("card");
      const next = { ...row, nextToken: hashToken(token) };
      await this.#commit(next, told("device.token.rotate", row, by));
      return { token, row, at: this.#clock.now() };
    });
  }

  /**
   * Ends a device: at once for every door of this process, then on disk.
   *
   * @throws {AppError} `not_found`; `forbidden` when the device may do what
   * `by` may not; `unavailable` when the disk failed, and then it is ended
   * until this process ends
   */
  revoke(
    device: { id: string; role: DeviceRole },
    by: Authority,
  ): Promise<{ row: DeviceRow; at: number }> {
    return this.alone(async () => {
      const row = await this.#get(device);
      const held = { ...row, credential: deviceCredential(row) };
      checkMayEnd(by, held, { act: `revoke ${named(row)}` });
      this.end(row);
      const at = this.#clock.now();
      const { token: _, nextToken: __, ...kept } = row;
      const entry = told("device.revoke", row, by);
      try {
        await this.#commit({ ...kept, revokedAt: at }, entry);
      } catch (error) {
        // What must end does not wait for the audit log.
        this.#log("error", "auth.audit.failed", {
          event: entry.event,
          reason: errorText(error),
        });
        await this.#store.journal.commit([
          this.#store.devices.row({ ...kept, revokedAt: at }),
        ]);
      }
      return { row, at };
    });
  }

  /** Ends, for this process, a record as it was read. */
  end(row: DeviceRow): void {
    const credential = deviceCredential(row);
    const before = this.#dead.get(credential) ?? -1;
    this.#dead.set(credential, Math.max(before, row.revision));
    this.#listeners.tell(credential);
  }

  /** Tells listeners of devices whose time has come since the last call. */
  async endExpired(): Promise<string[]> {
    const now = this.#clock.now();
    const due = (await this.#store.devices.list()).filter((row) =>
      row.revokedAt === undefined && row.expiresAt !== undefined &&
      row.expiresAt <= now &&
      row.revision > (this.#dead.get(deviceCredential(row)) ?? -1)
    );
    for (const row of due) this.end(row);
    return due.map(deviceCredential);
  }

  async #get(device: { id: string; role: DeviceRole }): Promise<DeviceRow> {
    const row = await this.find(device.id, device.role);
    if (row !== undefined) return row;
    throw new AppError(
      "not_found",
      `Cannot find device "${device.id.slice(0, 12)}…" as ${device.role}`,
      { hint: "`carapace device list` shows those that are paired" },
    );
  }

  #check(row: DeviceRow, by: Authority, act: string): void {
    checkCovers(by, row, { act: `${act} ${named(row)}` });
  }

  /** Stores a record with its audit row. */
  async #commit(row: DeviceRow, entry: AuditEntry): Promise<void> {
    const rows: Row[] = [this.#store.devices.row(row)];
    await this.#store.journal.commit([
      ...rows,
      this.#store.audit.row(entry),
    ]);
  }
}

function named({ id }: Pick<DeviceRow, "id">): string {
  return `device "${id.slice(0, 12)}…"`;
}

/** What the audit log is told of a device. */
export function told(
  event: string,
  row: Pick<DeviceRow, "id" | "role" | "kind" | "scopes" | "integrity">,
  by?: Authority,
): AuditEntry {
  return {
    event,
    fields: {
      device: row.id,
      role: row.role,
      kind: row.kind,
      scopes: [...row.scopes],
      integrity: row.integrity,
      ...(by === undefined ? {} : { by: by.credential }),
    },
  };
}

async function isSame(
  kept: string | undefined,
  sha256: string,
): Promise<boolean> {
  return kept !== undefined && await verifySecret(kept, sha256);
}
