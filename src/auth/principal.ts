/**
 * Who acts. The one place where a principal is built, and where a stored record
 * becomes an authority again.
 *
 * Never: anything a caller says is an argument here; only rows the server wrote.
 *
 * @module
 */
import {
  type Authority,
  type AuthorityRecord,
  grantAuthority,
  type Principal,
  Scopes,
} from "../core/authority.ts";
import { peerSegment } from "../core/ids.ts";
import type { DeviceRow } from "../store/devices.ts";
import type { TokenRow } from "../store/tokens.ts";
import { tailnetCredential, type TailnetUser } from "./tailnet.ts";

/** The principal behind a token, from the server's record of it. */
export function principalOf(row: TokenRow): Principal {
  const id = row.kind === "owner" ? "owner" : `token:${row.id}`;
  const authority = grantAuthority({
    principal: id,
    kind: row.kind,
    credential: row.id,
    revision: row.revision,
    scopes: Scopes.of(row.scopes).list(),
    agents: row.agents,
    models: row.models,
    tools: row.tools,
    integrity: row.integrity,
    ...(row.purses === undefined ? {} : { purses: row.purses }),
  });
  const { kind, name, generation = 0 } = row;
  return Object.freeze({ id, kind, name, authority, generation });
}

/** The credential of whoever knows the password. */
export const PASSWORD_CREDENTIAL = "password";

/**
 * Who knows the password: the owner, without the means to make credentials.
 *
 * @param number Which password it was
 */
export function passwordPrincipal(number: number): Principal {
  const kind = "owner";
  const authority = grantAuthority({
    principal: "owner",
    kind,
    credential: PASSWORD_CREDENTIAL,
    revision: number,
    scopes: Scopes.of(["read", "write", "chat", "approvals"]).list(),
    agents: "any",
    models: "any",
    tools: "any",
    integrity: "owner",
  });
  return Object.freeze({
    id: "owner",
    kind,
    name: "password",
    authority,
    generation: number,
  });
}

/** The principal behind a login of the tailnet, from the owner's line about it. */
export function tailnetPrincipal(
  login: string,
  user: TailnetUser,
  revision: number,
): Principal {
  const credential = tailnetCredential(login);
  const kind = user.as;
  const id = kind === "owner" ? "owner" : credential;
  const authority = grantAuthority({
    principal: id,
    kind,
    credential,
    revision,
    scopes: Scopes.of(user.scopes).list(),
    agents: user.agents,
    models: user.models,
    tools: user.tools,
    integrity: kind,
    ...(user.budget === undefined
      ? {}
      : { purses: [{ key: credential, ...user.budget }] }),
  });
  return Object.freeze({ id, kind, name: login, authority });
}

/** The name of a device's credential; one key has one for each role. */
export function deviceCredential(
  { id, role }: Pick<DeviceRow, "id" | "role">,
): string {
  return role === "node" ? `node:${id}` : `device:${id}`;
}

/** The principal behind a device, from the server's record of it. */
export function devicePrincipal(row: DeviceRow): Principal {
  const credential = deviceCredential(row);
  const id = row.kind === "owner" ? "owner" : credential;
  const isNode = row.role === "node";
  const authority = grantAuthority({
    principal: id,
    kind: row.kind,
    credential,
    revision: row.revision,
    scopes: isNode ? [] : Scopes.of(row.scopes).list(),
    agents: isNode ? [] : row.agents,
    models: isNode ? [] : row.models,
    tools: isNode ? [] : row.tools,
    integrity: isNode ? "untrusted" : row.integrity,
    ...(row.purses === undefined ? {} : { purses: row.purses }),
  });
  const name = row.displayName ?? row.clientId;
  return Object.freeze({ id, kind: row.kind, name, authority });
}

/** Whom the server's own records name: a line of the configuration, or a grant. */
export interface KnownSender {
  network: string;
  account: string;
  id: string;
  /** @default "peer" */
  as?: "peer" | "owner";
}

/**
 * What a sender of a chat network may do once let in. A peer may talk and use
 * what peers may; the owner there may answer what is asked, and configures
 * nothing.
 */
export function senderGrant(
  as: "peer" | "owner",
): Omit<AuthorityRecord, "principal" | "credential" | "revision"> {
  return {
    kind: as,
    scopes: as === "owner" ? ["read", "write", "chat", "approvals"] : ["chat"],
    agents: "any",
    models: "any",
    tools: "any",
    integrity: as,
  };
}

/** The authority of a sender of a chat network, as it was let in. */
export async function peerAuthority(
  { network, account, id, as = "peer" }: KnownSender,
): Promise<Authority> {
  const segments = await Promise.all([
    peerSegment(network, "", account),
    peerSegment(network, account, id),
  ]);
  const name = `${network}:${segments.join(":")}`;
  return grantAuthority({
    ...senderGrant(as),
    principal: as === "owner" ? "owner" : `peer:${name}`,
    // Each ends with its own grant: what lets somebody talk in a group does
    // not keep alive what they were as the owner.
    credential: as === "owner" ? `peer-owner:${name}` : `peer:${name}`,
    revision: 0,
  });
}

/** What a plugin acts as when nobody's turn is behind it: its grants are its own. */
export function pluginAuthority(id: string): Authority {
  return grantAuthority({
    principal: `plugin:${id}`,
    kind: "program",
    credential: `plugin:${id}`,
    revision: 0,
    scopes: ["chat"],
    agents: [],
    models: [],
    tools: "any",
    integrity: "untrusted",
  });
}

/**
 * The authority a run was stored with, for going on after a restart. Whether its
 * credential still stands is `Tokens.isLive`'s to say; ask it first.
 */
export function authorityFromRun(record: AuthorityRecord): Authority {
  return grantAuthority(record);
}

/** The credential of what the owner's configuration does by itself. */
export const CONFIG_CREDENTIAL = "configuration";

/**
 * What a line of the owner's configuration acts as when nobody asks (the
 * heartbeat): the owner's, without what only a person is there to use.
 */
export function configAuthority(): Authority {
  return grantAuthority({
    principal: "owner",
    kind: "owner",
    credential: CONFIG_CREDENTIAL,
    revision: 0,
    scopes: ["read", "chat", "tools", "write"],
    agents: "any",
    models: "any",
    tools: "any",
    integrity: "owner",
  });
}
