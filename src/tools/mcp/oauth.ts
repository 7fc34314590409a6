/**
 * The owner's login at one MCP server: begun, finished, kept, renewed, ended.
 *
 * Never: a token goes anywhere but to the server's own address it was given for,
 * or along a redirect; an answer of the browser counts twice; a login moves to
 * another authorization server than the one the owner agreed to.
 *
 * @module
 */
import { AppError, errorText } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { isSameSecret, type Secret, verifySecret } from "../../core/secret.ts";
import type { Clock } from "../../core/time.ts";
import type { Journal } from "../../store/journal.ts";
import type { McpClient, McpToken, McpTokens } from "../../store/mcp_tokens.ts";
import { endsLogin, type Found, type Given, OAuthWire } from "./oauth_wire.ts";
import type { McpHttpServer } from "./config.ts";
import type { Egress } from "../../egress/egress.ts";

/** Bounds of a login. */
export const LOGIN_LIMITS = {
  /** How long a browser's answer is waited for. */
  pendingMs: 600_000,
  /** A token that ends sooner is renewed before it is used. */
  renewBeforeMs: 30_000,
} as const;

/** How a login stands, as the owner is shown it. */
export interface LoginView {
  isNeeded: boolean;
  why?: string | undefined;
  issuer?: string | undefined;
  scopes: string[];
  expiresAt?: number | undefined;
  /** Whether it goes on by itself when it expires. */
  renews: boolean;
}

/** What the owner's browser is sent to, and comes back to. */
export interface LoginBegun {
  url: string;
  redirectUri: string;
  issuer: string;
  scopes: string[];
  expiresAt: number;
}

/** What the browser came back with: its whole address, or its parts. */
export interface LoginAnswer {
  url?: string | undefined;
  state?: string | undefined;
  code?: string | undefined;
  iss?: string | undefined;
}

/** What a login is made of. */
export interface McpLoginDeps {
  name: string;
  config: McpHttpServer & { oauth: NonNullable<McpHttpServer["oauth"]> };
  egress: Egress;
  /** A door to the server's own address that puts this on each request. */
  door(token: Secret): typeof fetch;
  tokens: McpTokens;
  journal: Journal;
  clock: Clock;
  log: Log;
}

/** A login that waits for its browser. */
interface Pending {
  state: string;
  verifier: Secret;
  found: Found;
  client: McpClient;
  expiresAt: number;
}

/** The login of one server. */
export class McpLogin {
  readonly #deps: McpLoginDeps;
  readonly #wire: OAuthWire;
  #row: McpToken | undefined;
  #opening: Promise<void> | undefined;
  #pending: Pending | undefined;
  /** A client that was registered for a login nobody finished. */
  #spare: { issuer: string; client: McpClient } | undefined;
  #renewing: Promise<Secret> | undefined;
  #door: { token: Secret; fetch: typeof fetch } | undefined;
  #made = Promise.withResolvers<void>();

  constructor(deps: McpLoginDeps) {
    const { name, config, egress } = deps;
    this.#deps = deps;
    this.#wire = new OAuthWire({
      name,
      url: new URL(config.url),
      oauth: config.oauth,
      egress,
    });
  }

  /** Reads what is kept; a login for another address or client is none. */
  async open(): Promise<void> {
    this.#opening ??= this.#load();
    await this.#opening;
  }

  view(): LoginView {
    const row = this.#row;
    const isNeeded = row?.access === undefined;
    return {
      isNeeded,
      why: row?.why,
      issuer: row?.issuer,
      scopes: isNeeded ? [] : [...row.scopes],
      expiresAt: isNeeded ? undefined : row.expiresAt,
      renews: row?.refresh !== undefined,
    };
  }

  /** Resolves with the next login. */
  get made(): Promise<void> {
    return this.#made.promise;
  }

  /**
   * Begins a login; an earlier one that was not finished is over.
   *
   * @throws {AppError} `conflict` when the server names another authorization
   * server than the one that was agreed to, unless `issuer` names it
   */
  async start(
    { issuer }: { issuer?: string | undefined } = {},
  ): Promise<LoginBegun> {
    await this.open();
    const { name, clock } = this.#deps;
    this.#pending = undefined;
    const found = await this.#wire.find();
    const before = this.#row?.issuer;
    const isAgreed = before === undefined || before === found.issuer;
    if (issuer === undefined ? !isAgreed : issuer !== found.issuer) {
      throw new AppError(
        "conflict",
        `Cannot log in to "${name}": its authorization server is "${found.issuer}", not "${
          issuer ?? before
        }"`,
        {
          hint:
            `If that is right: carapace mcp login ${name} --issuer ${found.issuer}`,
        },
      );
    }
    const client = await this.#wire.client(found, this.#knownClient(found));
    if (client.isRegistered) this.#spare = { issuer: found.issuer, client };
    const state = randomText();
    const { url, verifier } = await this.#wire.begin(found, { client, state });
    const expiresAt = clock.now() + LOGIN_LIMITS.pendingMs;
    this.#pending = { state, verifier, found, client, expiresAt };
    return {
      url: url.href,
      redirectUri: this.#wire.redirectUri,
      issuer: found.issuer,
      scopes: [...found.scopes],
      expiresAt,
    };
  }

  /**
   * Takes what the browser came back with.
   *
   * @throws {AppError} `forbidden` for an answer of no login, of another issuer
   * or too late; `upstream` when the code is not taken
   */
  async finish(answer: LoginAnswer): Promise<LoginView> {
    const { name, clock } = this.#deps;
    const refuse = (why: string) =>
      new AppError("forbidden", `Cannot log in to "${name}": ${why}`, {
        hint: `Begin again: carapace mcp login ${name}`,
      });
    const { state, code, iss, error } = this.#read(answer);
    const pending = this.#pending;
    const isOurs = pending !== undefined && state !== undefined &&
      await verifySecret(state, pending.state) && this.#pending === pending;
    if (!isOurs) throw refuse("this answer belongs to no login that was begun");
    this.#pending = undefined; // one use, however it ends
    if (clock.now() >= pending.expiresAt) {
      throw refuse("it took longer than ten minutes");
    }
    const { found, client, verifier } = pending;
    if (iss === undefined ? found.saysIssuer : iss !== found.issuer) {
      throw refuse("this answer is not that authorization server's");
    }
    if (error !== undefined) {
      throw refuse(`the authorization server says "${error}"`);
    }
    if (code === undefined) throw refuse("this answer has no code");
    this.#spare = undefined; // should it not be taken, the next is another
    const given = await this.#wire.exchange(found, { client, code, verifier });
    await this.#keep(found, { client, given });
    return this.view();
  }

  /** Forgets the login; `revoked` says whether the server was told and took it. */
  async logout(): Promise<{ revoked: boolean }> {
    await this.open();
    const { name, tokens, journal, log } = this.#deps;
    const row = this.#row;
    this.#pending = undefined;
    this.#spare = undefined;
    this.#set(undefined);
    await journal.commit(tokens.deletion(name));
    if (row === undefined) return { revoked: false };
    let revoked = false;
    try {
      if (row.refresh !== undefined) {
        revoked = await this.#wire.revoke(row, row.refresh, "refresh_token");
      }
      if (row.access !== undefined) {
        revoked = await this.#wire.revoke(row, row.access, "access_token") ||
          revoked;
      }
    } catch (error) {
      log("warn", "mcp.not_revoked", { server: name, error: errorText(error) });
    }
    log("info", "mcp.logged_out", { server: name, revoked });
    return { revoked };
  }

  /** A `fetch` with the login on it; renewed once when the server wants that. */
  readonly fetch: typeof fetch = async (input, init) => {
    const token = await this.#fresh();
    const first = await this.#send(token, input, init);
    if (first.status !== 401) return this.#checked(first);
    await first.body?.cancel();
    const next = await this.#renewed(token);
    const second = await this.#send(next, input, init);
    if (second.status !== 401) return this.#checked(second);
    await second.body?.cancel();
    if (this.#row?.access === next) await this.#drop(await this.#whyRefused());
    throw this.needed();
  };

  async #load(): Promise<void> {
    const { name, config, tokens } = this.#deps;
    const row = await tokens.find(name);
    if (row === undefined) return;
    const { clientId } = config.oauth;
    const isClient = row.client.isRegistered
      ? clientId === undefined
      : clientId === row.client.id;
    // What was given for one address is not said to another.
    if (row.url !== config.url) return;
    this.#set(
      isClient ? row : { ...row, access: undefined, refresh: undefined },
    );
    const { clientSecret } = config.oauth;
    if (this.#row !== undefined && !row.client.isRegistered) {
      // The configuration's secret is the configuration's, also when it changes.
      const client = { ...row.client, secret: clientSecret };
      this.#set({ ...this.#row, client });
    }
  }

  #set(row: McpToken | undefined): void {
    this.#row = row;
    this.#door = undefined;
  }

  /** A client that is good there, as far as is known, unless its secret ended. */
  #knownClient({ issuer }: Found): McpClient | undefined {
    const row = this.#row;
    // A login that ended may have ended because its client is no more.
    const held = row?.issuer === issuer && row.access !== undefined
      ? row.client
      : this.#spare?.issuer === issuer
      ? this.#spare.client
      : undefined;
    const endsAt = held?.secretExpiresAt ?? Infinity;
    return endsAt <= this.#deps.clock.now() ? undefined : held;
  }

  /** The parts of an answer; an address counts only where we sent the browser. */
  #read(answer: LoginAnswer): LoginAnswer & { error?: string | undefined } {
    if (answer.url === undefined) return answer;
    const url = URL.parse(answer.url.trim());
    const meant = new URL(this.#wire.redirectUri);
    const isThere = url !== null && url.origin === meant.origin &&
      url.pathname === meant.pathname;
    if (!isThere) {
      throw new AppError(
        "bad_input",
        `Cannot use this address: it does not begin with ${meant.href}`,
        { hint: "Paste the whole address the browser ended at" },
      );
    }
    const one = (name: string) => {
      const all = url.searchParams.getAll(name);
      return all.length === 1 ? all[0]?.slice(0, 8_192) : undefined;
    };
    const error = one("error")?.replaceAll(/[^\w.-]/g, "").slice(0, 64);
    return { state: one("state"), code: one("code"), iss: one("iss"), error };
  }

  async #keep(
    found: Found,
    { client, given }: { client: McpClient; given: Given },
  ): Promise<void> {
    const { name, config, clock, log } = this.#deps;
    const { metadata, issuer, resource } = found;
    const { access, refresh, expiresInMs, scopes } = given;
    const now = clock.now();
    const revocation = (metadata as Record<string, unknown>)[
      "revocation_endpoint"
    ];
    await this.#store({
      server: name,
      url: config.url,
      resource,
      issuer,
      tokenEndpoint: metadata.token_endpoint,
      ...(typeof revocation === "string"
        ? { revocationEndpoint: revocation }
        : {}),
      authMethods: [...metadata.token_endpoint_auth_methods_supported ?? []],
      client,
      access,
      refresh,
      ...(expiresInMs === undefined ? {} : { expiresAt: now + expiresInMs }),
      scopes: [...scopes],
      obtainedAt: now,
    });
    log("info", "mcp.logged_in", { server: name, issuer, scopes });
    this.#made.resolve();
    this.#made = Promise.withResolvers<void>();
  }

  /** Stored first, used then: what is used is there after a crash. */
  async #store(row: McpToken): Promise<void> {
    const { tokens, journal } = this.#deps;
    // The configuration's secret stays the configuration's.
    const client = row.client.isRegistered
      ? row.client
      : { ...row.client, secret: undefined };
    await journal.commit(tokens.rows({ ...row, client }));
    this.#set(row);
  }

  /** The token as it may be used now. @throws {AppError} `unauthorized` */
  async #fresh(): Promise<Secret> {
    await this.open();
    const { clock } = this.#deps;
    const row = this.#row;
    if (row?.access === undefined) throw this.needed();
    const { access, refresh, expiresAt = Infinity } = row;
    const leftMs = expiresAt - clock.now();
    if (leftMs > LOGIN_LIMITS.renewBeforeMs || refresh === undefined) {
      return access;
    }
    try {
      return await this.#renewed(access);
    } catch (error) {
      // It is good for a little longer, whatever keeps the other from us.
      if (leftMs > 0 && this.#row?.access === access) return access;
      throw error;
    }
  }

  /** Another token than one that is no longer taken; asked for once at a time. */
  async #renewed(old: Secret): Promise<Secret> {
    const now = this.#row?.access;
    if (now === undefined) throw this.needed();
    if (now !== old) return now;
    this.#renewing ??= this.#renew().finally(() => this.#renewing = undefined);
    return await this.#renewing;
  }

  async #renew(): Promise<Secret> {
    const { clock, log, name } = this.#deps;
    const row = this.#row;
    if (row?.refresh === undefined) {
      await this.#drop("it has expired");
      throw this.needed();
    }
    let given: Given;
    try {
      given = await this.#wire.renew(row, row.refresh);
    } catch (error) {
      log("warn", "mcp.not_renewed", { server: name, error: errorText(error) });
      if (this.#row !== row || !endsLogin(error)) throw error;
      await this.#drop("its authorization server does not renew it any more");
      throw this.needed();
    }
    // A logout or a new login came first: what was just given is nobody's.
    if (this.#row !== row) throw this.needed();
    const { access, refresh = row.refresh, expiresInMs, scopes } = given;
    const { expiresAt: _, ...rest } = row;
    const now = clock.now();
    await this.#store({
      ...rest,
      access,
      refresh,
      ...(expiresInMs === undefined ? {} : { expiresAt: now + expiresInMs }),
      scopes: [...scopes],
      obtainedAt: now,
    });
    return access;
  }

  /** Ends a login for a reason; where and as whom it was is kept. */
  async #drop(why: string): Promise<void> {
    const row = this.#row;
    if (row === undefined) return;
    this.#deps.log("warn", "mcp.login_ended", { server: this.#deps.name, why });
    const { access: _, refresh: __, expiresAt: ___, ...rest } = row;
    await this.#store({ ...rest, why });
  }

  /** A server that takes no token may have moved to another authorization. */
  async #whyRefused(): Promise<string> {
    const agreed = this.#row?.issuer;
    try {
      const { issuer } = await this.#wire.find();
      if (issuer !== agreed) {
        return `its authorization server is now "${issuer}", not "${agreed}"`;
      }
    } catch (error) {
      if (error instanceof AppError && error.code === "forbidden") {
        return error.message;
      }
    }
    return "it takes no token that it was just given";
  }

  /** What a call is told that needs a login first. */
  needed(): AppError {
    const { name } = this.#deps;
    const why = this.#row?.why;
    return new AppError(
      "unauthorized",
      `Cannot use "${name}": it needs a login${
        why === undefined ? "" : ` (${why})`
      }`,
      { hint: `The owner runs: carapace mcp login ${name}` },
    );
  }

  async #send(
    token: Secret,
    input: Parameters<typeof fetch>[0],
    init: RequestInit = {},
  ): Promise<Response> {
    let door = this.#door;
    if (door === undefined || !isSameSecret(door.token, token)) {
      door = this.#door = { token, fetch: this.#deps.door(token) };
    }
    return await door.fetch(input, { ...init, redirect: "manual" });
  }

  async #checked(answer: Response): Promise<Response> {
    const { name } = this.#deps;
    if (answer.status >= 300 && answer.status < 400 && answer.status !== 304) {
      await answer.body?.cancel();
      throw new AppError(
        "upstream",
        `Cannot follow "${name}": a login is not carried along a redirect`,
        { hint: `Write the address it is at to mcp.servers.${name}.url` },
      );
    }
    return answer;
  }
}

/** 256 random bits, base64url. */
function randomText(): string {
  return crypto.getRandomValues(new Uint8Array(32))
    .toBase64({ alphabet: "base64url", omitPadding: true });
}
