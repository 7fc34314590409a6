/**
 * How the owner logs in at an MCP server that asks for it: which hosts its
 * authorization may be at, and as which client.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import { type Need, need } from "../../core/needs.ts";
import { SecretField } from "../../core/secret.ts";
import type { HostRule } from "../../egress/egress.ts";

/** Where the browser is sent back to, unless the configuration says. */
export const REDIRECT_PORT_DEFAULT = 18_797;

/** A place: host as the URL parser writes it, and port. */
interface Place {
  host: string;
  port: number;
}

function readPlace(text: string): Place | undefined {
  const url = URL.parse(`https://${text}/`);
  if (url === null || url.pathname !== "/" || text.includes("*")) return;
  if (url.host !== text && `${url.hostname}:443` !== text) return;
  return { host: url.hostname, port: Number(url.port) || 443 };
}

const HostText = z.string().min(1).max(253).refine(
  (text) => readPlace(text) !== undefined,
  'write a host like "auth.example.com", with a port if it has one of its own, without scheme or path',
);

/** `mcp.servers.NAME.oauth` */
export const McpOAuth = z.strictObject({
  hosts: z.array(HostText).max(8).default([]).describe(
    "The hosts of its authorization server, where that is not its own",
  ),
  clientId: z.string().min(1).max(512).optional().describe(
    "The client to be; without it one is registered",
  ),
  clientSecret: SecretField.optional().describe("That client's secret"),
  scopes: z.array(z.string().regex(/^[\x21\x23-\x5B\x5D-\x7E]{1,128}$/))
    .max(32).optional().describe(
      "What to ask for; without it what the server says it needs",
    ),
  redirectPort: z.int().min(1_024).max(65_535).default(REDIRECT_PORT_DEFAULT)
    .describe("The loopback port a browser is sent back to"),
}).refine(
  ({ clientId, clientSecret }) =>
    clientSecret === undefined || clientId !== undefined,
  { path: ["clientId"], error: "a secret is some client's: name its clientId" },
);
export type McpOAuth = z.infer<typeof McpOAuth>;

/** The hosts for which http is enough: it does not leave this machine. */
export function isExactLoopback(hostname: string): boolean {
  return /^(127\.0\.0\.1|\[::1\]|localhost)$/.test(hostname);
}

function portOf(url: URL): number {
  return Number(url.port) || (url.protocol === "http:" ? 80 : 443);
}

/** What an authorization's hosts need of the sandbox. */
export function oauthNeeds(server: string, { hosts }: McpOAuth): Need[] {
  return hosts.flatMap((text) => {
    const place = readPlace(text);
    if (place === undefined) return [];
    const line = `mcp.servers.${server}.oauth.hosts`;
    return [need("net", `${place.host}:${place.port}`, line)];
  });
}

/** The address a browser is sent back to (RFC 8252, section 7.3). */
export function redirectUriOf({ redirectPort }: McpOAuth): string {
  return `http://127.0.0.1:${redirectPort}/mcp/callback`;
}

/** Where a server's authorization may be. */
export class OAuthPlaces {
  readonly #server: string;
  readonly #places: readonly Place[];

  constructor(server: string, url: URL, { hosts }: McpOAuth) {
    this.#server = server;
    this.#places = [
      { host: url.hostname, port: portOf(url) },
      ...hosts.flatMap((text) => readPlace(text) ?? []),
    ];
  }

  /** As rules of the door out. */
  rules(): HostRule[] {
    return this.#places.flatMap((place) => [
      { ...place, scheme: "https" as const },
      ...isExactLoopback(place.host)
        ? [{ ...place, scheme: "http" as const }]
        : [],
    ]);
  }

  /**
   * An address out of a document, if a line of the configuration names it.
   *
   * @throws {AppError} `forbidden` with the line to add
   */
  check(text: string, what: string): URL {
    const refuse = (why: string, hint: string) =>
      new AppError(
        "forbidden",
        `Cannot log in to "${this.#server}": its ${what} ${why}`,
        { hint },
      );
    const url = URL.parse(text);
    if (url === null || url.username !== "" || url.password !== "") {
      throw refuse("is not a plain address", "The server has to mend that");
    }
    const isSafe = url.protocol === "https:" ||
      url.protocol === "http:" && isExactLoopback(url.hostname);
    const shown = url.host.slice(0, 253);
    if (!isSafe) {
      throw refuse(
        `is at "${shown}" without https`,
        "Only loopback may be reached in the clear",
      );
    }
    const port = portOf(url);
    const isNamed = this.#places.some((place) =>
      place.host === url.hostname && place.port === port
    );
    if (isNamed) return url;
    throw refuse(
      `is at "${shown}", which no line of the configuration names`,
      `If that is right, add "${shown}" to mcp.servers.${this.#server}.oauth.hosts`,
    );
  }
}
