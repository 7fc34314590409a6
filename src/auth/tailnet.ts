/**
 * Who a tailnet says is calling, as far as it can be said without asking: the
 * owner's lines, which addresses are a tailnet's, and what an answer of
 * tailscaled means.
 *
 * The shapes are those of tailscale's `client/tailscale/apitype` (WhoIsResponse),
 * `tailcfg` (Node, Hostinfo, UserProfile) and `ipn/ipnstate` (Status).
 *
 * Never: a name is compared in another spelling than its own; an answer that is
 * not understood names anybody.
 *
 * @module
 */
import { createHash } from "node:crypto";
import ipaddr from "ipaddr.js";
import { z } from "zod";
import { Allowed, KeyBudget } from "../core/authority.ts";
import { canonicalJson } from "../core/canonical.ts";
import type { Need } from "../core/needs.ts";
import { localSocketNeeds } from "../egress/local_socket.ts";

/** Where tailscaled listens on Linux. */
const SOCKET_DEFAULT = "/var/run/tailscale/tailscaled.sock";
/** A Unix socket's path is not longer than this on any system. */
const SOCKET_CHARS_MAX = 103;
/** Logins that the configuration may name. */
const USERS_MAX = 100;

/** A path that can stand in a permission: whole, plain, without a way back. */
const SocketPath = z.string().max(SOCKET_CHARS_MAX).regex(
  /^(\/(?!\.{1,2}(\/|$))[A-Za-z0-9._@+-]+)+$/,
  "write the socket's whole path, of letters, digits and ._@+-",
);

const Login = z.string().max(200).regex(
  /^[\x21-\x7e]+@[\x21-\x7e]+$/,
  "not a login as Tailscale writes it: name@example.com, plain ASCII",
);

/** What one login may do. It makes no credentials: those would outlive the line. */
export const TailnetUser = z.strictObject({
  as: z.enum(["owner", "peer"]).default("peer").describe(
    "The owner, or somebody beside the owner with sessions of their own",
  ),
  scopes: z.array(
    z.enum(["read", "chat", "tools", "write", "approvals", "metrics"]),
  ).max(6).describe(
    "What the login may ask for; it makes no tokens and pairs no devices",
  ),
  agents: Allowed.default("any").describe("Agents it may use"),
  models: Allowed.default("any").describe("Models it may use"),
  tools: Allowed.default("any").describe("Tools it may use"),
  budget: KeyBudget.optional().describe("What it may spend in a day, by UTC"),
});
export type TailnetUser = z.infer<typeof TailnetUser>;

export const TailscaleConfig = z.strictObject({
  socket: SocketPath.default(SOCKET_DEFAULT).describe(
    "The socket of this machine's tailscaled",
  ),
  users: z.record(Login, TailnetUser).refine(
    (users) => Object.keys(users).length <= USERS_MAX,
    `at most ${USERS_MAX} logins`,
  ).describe("What each login may do, by its name exactly as Tailscale has it"),
});
export type TailscaleConfig = z.infer<typeof TailscaleConfig>;

/** What asking tailscaled needs of the sandbox. */
export function tailscaleNeeds(config: TailscaleConfig | undefined): Need[] {
  if (config === undefined) return [];
  return localSocketNeeds(config.socket, "gateway.tailscale.socket");
}

/** The other end of a connection, where it is a tailnet's address. */
export interface TailnetPeer {
  address: string;
  port: number;
}

const RANGES = ["100.64.0.0/10", "fd7a:115c:a1e0::/48"].map((range) =>
  ipaddr.parseCIDR(range)
);

/** An address of a tailnet in its one spelling; `undefined` for any other. */
export function tailnetAddress(text: string): string | undefined {
  if (!text.includes(":") && !ipaddr.IPv4.isValidFourPartDecimal(text)) {
    return undefined;
  }
  if (text.includes("%") || !ipaddr.isValid(text)) return undefined;
  const address = ipaddr.process(text);
  const isInside = RANGES.some(([network, bits]) =>
    network.kind() === address.kind() && address.match(network, bits)
  );
  return isInside ? address.toString() : undefined;
}

/** `IP:PORT`, an IPv6 address in brackets. */
export function peerText({ address, port }: TailnetPeer): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The name of a login's credential. */
export function tailnetCredential(login: string): string {
  return `tailscale:${login}`;
}

/** A number that is another one whenever a line says something else. */
export function revisionOf(user: TailnetUser): number {
  const hash = createHash("sha256").update(canonicalJson(user)).digest("hex");
  return Number.parseInt(hash.slice(0, 12), 16);
}

const Id = z.number().nonnegative();

/** As much of a WhoIsResponse as is looked at. */
const WhoIs = z.object({
  Node: z.object({
    StableID: z.string().min(1).max(256),
    User: Id,
    /** Set on a node that somebody of another tailnet shared with this one. */
    Sharer: Id.optional(),
    Tags: z.array(z.string()).nullish(),
    Addresses: z.array(z.string().max(64)).max(64),
    /** `ShareeNode`: it is seen because ours was shared with its user. */
    Hostinfo: z.object({ ShareeNode: z.boolean().optional() }).nullish(),
  }),
  UserProfile: z.object({ ID: Id, LoginName: z.string() }),
});

/** As much of a Status as is looked at. */
const Status = z.object({
  BackendState: z.string().max(64),
  Self: z.object({ ID: z.string().max(256) }).nullish(),
  TailscaleIPs: z.array(z.string().max(64)).max(64).nullish(),
});
export type TailnetStatus = z.infer<typeof Status>;

/** What tailscaled says of itself; `undefined` for what is not understood. */
export function readStatus(text: string): TailnetStatus | undefined {
  return parse(Status, text);
}

/** Why somebody is nobody. */
export type Nobody =
  | "malformed"
  | "tagged"
  | "shared"
  | "own_machine"
  | "other_address";

/**
 * The login behind an answer about an address.
 *
 * This machine itself is nobody: it may have many users and programs, and none
 * of them is known by reaching its own address.
 */
export function readWhoIs(
  text: string,
  { address, self }: { address: string; self: TailnetStatus },
): { login: string } | { nobody: Nobody } {
  const found = parse(WhoIs, text);
  if (found === undefined) return { nobody: "malformed" };
  const { Node: node, UserProfile: user } = found;
  if ((node.Tags ?? []).length > 0) return { nobody: "tagged" };
  if ((node.Sharer ?? 0) !== 0 || node.Hostinfo?.ShareeNode === true) {
    return { nobody: "shared" };
  }
  if (node.User !== user.ID) return { nobody: "malformed" };
  const isSelf = node.StableID === self.Self?.ID ||
    (self.TailscaleIPs ?? []).some((own) => tailnetAddress(own) === address);
  if (isSelf) return { nobody: "own_machine" };
  const isIts = node.Addresses.some((own) =>
    tailnetAddress(own.replace(/\/(32|128)$/, "")) === address
  );
  return isIts ? { login: user.LoginName } : { nobody: "other_address" };
}

function parse<T>(schema: z.ZodType<T>, text: string): T | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
