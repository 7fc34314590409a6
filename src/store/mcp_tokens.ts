/**
 * What an owner's login at an MCP server gave: tokens, and where and as which
 * client they were given. Always sealed.
 *
 * @module
 */
import { z } from "zod";
import { Secret } from "../core/secret.ts";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

const Token = z.string().min(1).max(16_384);
const Url = z.string().min(1).max(2_048);

/** The client this house is at an authorization server. */
const Client = z.strictObject({
  id: z.string().min(1).max(2_048),
  secret: Token.optional(),
  /** How it proves itself, as the registration answered. */
  method: z.string().max(64).optional(),
  /** When its secret ends. */
  secretExpiresAt: z.int().optional(),
  redirectUri: Url,
  /** Registered by us (RFC 7591), not named by the configuration. */
  isRegistered: z.boolean(),
});

const Stored = z.strictObject({
  server: z.string().min(1).max(64),
  /** The server's address then: a token for it goes nowhere else. */
  url: Url,
  /** The resource indicator the tokens were asked for (RFC 8707). */
  resource: Url,
  /** The authorization server the owner agreed to, with its endpoints. */
  issuer: Url,
  tokenEndpoint: Url,
  revocationEndpoint: Url.optional(),
  authMethods: z.array(z.string().max(64)).max(32),
  client: Client,
  access: Token.optional(),
  refresh: Token.optional(),
  expiresAt: z.int().optional(),
  scopes: z.array(z.string().max(256)).max(128),
  obtainedAt: z.int(),
  /** Why there is no token any more. */
  why: z.string().max(500).optional(),
});
type Stored = z.infer<typeof Stored>;

/** As {@linkcode Stored}, its secrets typed as such. */
export type McpClient = Omit<Stored["client"], "secret"> & {
  secret?: Secret | undefined;
};
export type McpToken =
  & Omit<Stored, "access" | "refresh" | "client">
  & {
    access?: Secret | undefined;
    refresh?: Secret | undefined;
    client: McpClient;
  };

/** The `mcp_token` collection. */
export class McpTokens {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(server: string): Promise<McpToken | undefined> {
    const row = await this.#values.find(makeKey("mcp_token", server), Stored);
    if (row?.server !== server) return undefined;
    const { access, refresh, client, ...rest } = row;
    const { secret, ...plain } = client;
    const hidden = (text: string | undefined, what: string) =>
      text === undefined ? undefined : new Secret(text, `${what} of ${server}`);
    return {
      ...rest,
      access: hidden(access, "access token"),
      refresh: hidden(refresh, "refresh token"),
      client: { ...plain, secret: hidden(secret, "client secret") },
    };
  }

  /** The row that stores a login: what was there before is gone with it. */
  rows(token: McpToken): Row[] {
    const { access, refresh, client, ...rest } = token;
    const { secret, ...plain } = client;
    const open = (name: string, one: Secret | undefined) =>
      one === undefined ? {} : { [name]: one.reveal() };
    const value = Stored.parse({
      ...rest,
      ...open("access", access),
      ...open("refresh", refresh),
      client: { ...plain, ...open("secret", secret) },
    });
    return [{ key: makeKey("mcp_token", value.server), value }];
  }

  /** The row that forgets one. */
  deletion(server: string): Row[] {
    return [{ key: makeKey("mcp_token", server), value: undefined }];
  }
}
