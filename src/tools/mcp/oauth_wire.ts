/**
 * What is said to an authorization server: discovery (RFC 9728, RFC 8414),
 * registration (RFC 7591), exchange and renewal (RFC 6749, RFC 7636, RFC 8707),
 * revocation (RFC 7009). The wire is the SDK's; what may be believed of an
 * answer is decided here.
 *
 * Never: a host that no line names; a server's own words in an error, which may
 * hold what it was sent.
 *
 * @module
 */
import type {
  AuthorizationServerMetadata,
  OAuthClientInformationMixed,
} from "@modelcontextprotocol/sdk/shared/auth.js";
import { AppError, ignore } from "../../core/errors.ts";
import { Secret } from "../../core/secret.ts";
import type { Egress } from "../../egress/egress.ts";
import type { McpClient, McpToken } from "../../store/mcp_tokens.ts";
import { VERSION } from "../../core/version.ts";
import { type McpOAuth, OAuthPlaces, redirectUriOf } from "./oauth_config.ts";

/** What discovery found, every address of it checked. */
export interface Found {
  resource: string;
  issuer: string;
  scopes: readonly string[];
  metadata: AuthorizationServerMetadata;
  /** Whether the browser's answer has to name the issuer (RFC 9207). */
  saysIssuer: boolean;
}

/** What an authorization server gave. */
export interface Given {
  access: Secret;
  refresh?: Secret | undefined;
  expiresInMs?: number | undefined;
  scopes: readonly string[];
}

/** Loaded with the first request that needs it. */
async function loadSdk() {
  const [client, errors, resources, types] = await Promise.all([
    import("@modelcontextprotocol/sdk/client/auth.js"),
    import("@modelcontextprotocol/sdk/server/auth/errors.js"),
    import("@modelcontextprotocol/sdk/shared/auth-utils.js"),
    import("@modelcontextprotocol/sdk/types.js"),
  ]);
  return { ...client, ...errors, ...resources, ...types };
}
type Sdk = Awaited<ReturnType<typeof loadSdk>>;

/** Refusals after which a login has to be made anew. */
const ENDED = ["invalid_grant", "invalid_client", "unauthorized_client"];

/** Whether an authorization server said that a login is over. */
export function endsLogin(error: unknown): boolean {
  return error instanceof AppError &&
    ENDED.includes(String(error.details?.["refused"]));
}

const LIST = /^[\x21\x23-\x5B\x5D-\x7E]{1,256}$/;

function scopesOf(text: string | undefined): string[] {
  const list = (text ?? "").split(" ").filter((one) => LIST.test(one));
  return [...new Set(list)].slice(0, 64);
}

/** One server's authorization, over its own door. */
export class OAuthWire {
  readonly places: OAuthPlaces;
  readonly redirectUri: string;
  readonly #name: string;
  readonly #url: URL;
  readonly #oauth: McpOAuth;
  readonly #door: typeof fetch;

  constructor(options: {
    name: string;
    url: URL;
    oauth: McpOAuth;
    egress: Egress;
  }) {
    const { name, url, oauth, egress } = options;
    this.places = new OAuthPlaces(name, url, oauth);
    this.redirectUri = redirectUriOf(oauth);
    this.#name = name;
    this.#url = url;
    this.#oauth = oauth;
    // No credential hangs on this door: an access token never goes this way.
    this.#door = egress.door({
      caller: `mcp:${name}:oauth`,
      hosts: this.places.rules(),
      limits: {
        answerMs: 15_000,
        totalMs: 30_000,
        responseBytesMax: 262_144,
        redirectsMax: 0,
      },
      fix: (host) => `Add "${host}" to mcp.servers.${name}.oauth.hosts`,
    });
  }

  /**
   * Finds the authorization server and reads what it says of itself.
   *
   * @throws {AppError} `forbidden` for an address no line names, `upstream`
   */
  async find(): Promise<Found> {
    return await this.#ask("find its authorization server", async (sdk) => {
      const asked = await this.#knock(sdk);
      const { resource, issuers, scopes } = await this.#resource(sdk, asked);
      const named = issuers[0] ?? this.#url.origin;
      this.places.check(named, "authorization server");
      const metadata = await sdk.discoverAuthorizationServerMetadata(named, {
        fetchFn: this.#send,
      });
      if (metadata === undefined) {
        throw this.#fail("its authorization server does not describe itself");
      }
      return {
        resource,
        issuer: this.#believe(named, metadata),
        scopes: this.#oauth.scopes ??
          (asked.scope === undefined
            ? scopesOf(scopes?.join(" "))
            : scopesOf(asked.scope)),
        metadata,
        saysIssuer: (metadata as Record<string, unknown>)[
          "authorization_response_iss_parameter_supported"
        ] === true,
      };
    });
  }

  /** The client this house is there: the configured one, a known one, a new one. */
  async client(found: Found, known?: McpClient): Promise<McpClient> {
    const { clientId, clientSecret } = this.#oauth;
    const { redirectUri } = this;
    if (clientId !== undefined) {
      return {
        id: clientId,
        secret: clientSecret,
        redirectUri,
        isRegistered: false,
      };
    }
    if (known?.isRegistered && known.redirectUri === redirectUri) return known;
    if (found.metadata["registration_endpoint"] === undefined) {
      throw this.#fail(
        "its authorization server registers no clients by itself",
        `Register one there with the redirect address ${redirectUri}, and write mcp.servers.${this.#name}.oauth.clientId`,
      );
    }
    return await this.#ask("register there", async (sdk) => {
      const scope = found.scopes.join(" ");
      const made = await sdk.registerClient(found.issuer, {
        metadata: found.metadata,
        clientMetadata: {
          client_name: "Carapace",
          redirect_uris: [redirectUri],
          grant_types: ["authorization_code", "refresh_token"],
          response_types: ["code"],
          token_endpoint_auth_method: "none",
          software_version: VERSION,
        },
        ...(scope === "" ? {} : { scope }),
        fetchFn: this.#send,
      });
      const ends = made.client_secret_expires_at ?? 0;
      return {
        id: made.client_id,
        ...(made.client_secret === undefined ? {} : {
          secret: new Secret(made.client_secret, "client registration"),
        }),
        ...(made.token_endpoint_auth_method === undefined
          ? {}
          : { method: made.token_endpoint_auth_method }),
        ...(ends > 0 ? { secretExpiresAt: ends * 1_000 } : {}),
        redirectUri,
        isRegistered: true,
      };
    });
  }

  /** Where the owner's browser is to go, and what proves that it was us. */
  async begin(
    found: Found,
    { client, state }: { client: McpClient; state: string },
  ): Promise<{ url: URL; verifier: Secret }> {
    return await this.#ask("begin", async (sdk) => {
      const scope = found.scopes.join(" ");
      const begun = await sdk.startAuthorization(found.issuer, {
        metadata: found.metadata,
        clientInformation: toSdk(client),
        redirectUrl: this.redirectUri,
        ...(scope === "" ? {} : { scope }),
        state,
        resource: found.resource,
      });
      const verifier = new Secret(begun.codeVerifier, "PKCE verifier");
      return { url: begun.authorizationUrl, verifier };
    });
  }

  /** A code for tokens. @throws {AppError} `upstream`; {@linkcode endsLogin} */
  async exchange(
    found: Found,
    held: { client: McpClient; code: string; verifier: Secret },
  ): Promise<Given> {
    return await this.#ask("exchange the code", async (sdk) => {
      const tokens = await sdk.exchangeAuthorization(found.issuer, {
        metadata: found.metadata,
        clientInformation: toSdk(held.client),
        authorizationCode: held.code,
        codeVerifier: held.verifier.reveal(),
        redirectUri: this.redirectUri,
        resource: found.resource,
        fetchFn: this.#send,
      });
      return this.#given(tokens, found.scopes);
    });
  }

  /** New tokens for a refresh token, where they were given and nowhere else. */
  async renew(token: McpToken, refresh: Secret): Promise<Given> {
    this.places.check(token.tokenEndpoint, "token endpoint");
    return await this.#ask("renew the login", async (sdk) => {
      const tokens = await sdk.refreshAuthorization(token.issuer, {
        metadata: endpointsOf(token),
        clientInformation: toSdk(token.client),
        refreshToken: refresh.reveal(),
        resource: token.resource,
        fetchFn: this.#send,
      });
      return this.#given(tokens, token.scopes);
    });
  }

  /** Ends a token at the server; answers whether the server takes that. */
  async revoke(
    token: McpToken,
    secret: Secret,
    hint: string,
  ): Promise<boolean> {
    const { revocationEndpoint, client } = token;
    if (revocationEndpoint === undefined) return false;
    const url = this.places.check(revocationEndpoint, "revocation endpoint");
    return await this.#ask("revoke the token", async (sdk) => {
      const body = new URLSearchParams({
        token: secret.reveal(),
        token_type_hint: hint,
      });
      const headers = new Headers({
        "content-type": "application/x-www-form-urlencoded",
      });
      const method = sdk.selectClientAuthMethod(
        toSdk(client),
        token.authMethods,
      );
      const proof = client.secret?.reveal() ?? "";
      if (method === "client_secret_basic") {
        headers.set("authorization", `Basic ${btoa(`${client.id}:${proof}`)}`);
      } else {
        body.set("client_id", client.id);
        if (method === "client_secret_post") body.set("client_secret", proof);
      }
      const answer = await this.#send(url, {
        method: "POST",
        headers,
        body: body.toString(),
      });
      await answer.body?.cancel();
      return answer.ok;
    });
  }

  /** The first request of any client, without a token: the 401 says where to go. */
  async #knock(
    sdk: Sdk,
  ): Promise<{ metadataUrl?: URL; scope?: string | undefined }> {
    const answer = await this.#send(this.#url, {
      method: "POST",
      redirect: "manual",
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
      },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 0,
        method: "initialize",
        params: {
          protocolVersion: sdk.LATEST_PROTOCOL_VERSION,
          capabilities: {},
          clientInfo: { name: "carapace", version: VERSION },
        },
      }),
    });
    await answer.body?.cancel().catch(ignore("only its head was wanted"));
    if (answer.status !== 401) return {};
    const { resourceMetadataUrl, scope } = sdk.extractWWWAuthenticateParams(
      answer,
    );
    if (resourceMetadataUrl === undefined) return { scope };
    this.places.check(resourceMetadataUrl.href, "resource metadata");
    return { metadataUrl: resourceMetadataUrl, scope };
  }

  /** Which authorization servers the server names; its own host without any. */
  async #resource(
    sdk: Sdk,
    { metadataUrl }: { metadataUrl?: URL },
  ): Promise<{
    resource: string;
    issuers: readonly string[];
    scopes?: readonly string[] | undefined;
  }> {
    const own = sdk.resourceUrlFromServerUrl(this.#url);
    let isThere = true;
    const probe: typeof fetch = async (input, init) => {
      const answer = await this.#send(input, init);
      isThere = answer.status < 400 || answer.status > 499;
      return answer;
    };
    try {
      const found = await sdk.discoverOAuthProtectedResourceMetadata(
        this.#url,
        metadataUrl === undefined ? {} : { resourceMetadataUrl: metadataUrl },
        probe,
      );
      const isOwn = URL.canParse(found.resource) && sdk.checkResourceAllowed({
        requestedResource: own,
        configuredResource: found.resource,
      });
      if (!isOwn) {
        throw this.#fail("its metadata speaks of another server than itself");
      }
      return {
        resource: found.resource,
        issuers: found.authorization_servers ?? [],
        scopes: found.scopes_supported,
      };
    } catch (error) {
      // Servers of the first specification: the authorization is on their host.
      if (!isThere && metadataUrl === undefined) {
        return { resource: own.href, issuers: [] };
      }
      throw error;
    }
  }

  /** What an authorization server says of itself, as far as it may be believed. */
  #believe(named: string, metadata: AuthorizationServerMetadata): string {
    const { issuer } = metadata;
    const isSame = URL.parse(issuer)?.href === new URL(named).href;
    if (!isSame) {
      throw this.#fail(
        "its authorization server says it is another one than was asked",
      );
    }
    const { places } = this;
    places.check(metadata.authorization_endpoint, "authorization endpoint");
    places.check(metadata.token_endpoint, "token endpoint");
    for (const what of ["registration", "revocation"] as const) {
      const endpoint = (metadata as Record<string, unknown>)[
        `${what}_endpoint`
      ];
      if (typeof endpoint === "string") {
        places.check(endpoint, `${what} endpoint`);
      }
    }
    // The specification of MCP: without it a client must not go on.
    if (!metadata.code_challenge_methods_supported?.includes("S256")) {
      throw this.#fail(
        "its authorization server does not offer PKCE with S256",
      );
    }
    return issuer;
  }

  #given(
    tokens: {
      access_token: string;
      token_type: string;
      refresh_token?: string | undefined;
      expires_in?: number | undefined;
      scope?: string | undefined;
    },
    asked: readonly string[],
  ): Given {
    if (tokens.token_type.toLowerCase() !== "bearer") {
      throw this.#fail("it was given a token of a kind that is not Bearer");
    }
    const { refresh_token, expires_in, scope } = tokens;
    return {
      access: new Secret(tokens.access_token, `access token of ${this.#name}`),
      refresh: refresh_token === undefined
        ? undefined
        : new Secret(refresh_token, `refresh token of ${this.#name}`),
      expiresInMs: expires_in !== undefined && expires_in >= 0
        ? Math.min(expires_in, 315_360_000) * 1_000
        : undefined,
      scopes: scope === undefined ? [...asked] : scopesOf(scope),
    };
  }

  /** The door; a form or a body is never sent along a redirect. */
  readonly #send = async (
    input: string | URL | Request,
    init?: RequestInit,
  ): Promise<Response> => {
    // The door takes text: what it is handed is what it may have to send twice.
    const { body } = init ?? {};
    return await this.#door(input, {
      ...init,
      redirect: "manual",
      ...(body instanceof URLSearchParams ? { body: body.toString() } : {}),
    });
  };

  #fail(why: string, hint?: string): AppError {
    return new AppError(
      "upstream",
      `Cannot log in to "${this.#name}": ${why}`,
      {
        ...(hint === undefined ? {} : { hint }),
      },
    );
  }

  /** Runs one exchange; what a server answered is never quoted. */
  async #ask<T>(what: string, run: (sdk: Sdk) => Promise<T>): Promise<T> {
    const sdk = await loadSdk();
    try {
      return await run(sdk);
    } catch (error) {
      if (error instanceof AppError) throw error;
      const refused = error instanceof sdk.OAuthError
        ? String((error as { errorCode?: unknown }).errorCode)
        : undefined;
      throw new AppError(
        "upstream",
        `Cannot ${what} for "${this.#name}": ${
          refused === undefined
            ? "its answer is not one that is understood"
            : `the authorization server says "${refused.slice(0, 64)}"`
        }`,
        refused === undefined ? {} : { details: { refused } },
      );
    }
  }
}

function toSdk(client: McpClient): OAuthClientInformationMixed {
  const { id, secret, method } = client;
  const info = {
    client_id: id,
    ...(secret === undefined ? {} : { client_secret: secret.reveal() }),
    ...(method === undefined ? {} : { token_endpoint_auth_method: method }),
  };
  return info as OAuthClientInformationMixed;
}

/** As much of the metadata as a renewal needs. */
function endpointsOf(token: McpToken): AuthorizationServerMetadata {
  return {
    issuer: token.issuer,
    authorization_endpoint: token.issuer,
    token_endpoint: token.tokenEndpoint,
    response_types_supported: ["code"],
    token_endpoint_auth_methods_supported: token.authMethods,
  };
}
