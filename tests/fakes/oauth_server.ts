/**
 * A fake authorization server and an MCP server that asks for its tokens, each
 * on a real socket. It checks what a strict one checks: the client, the redirect
 * address, PKCE with S256, the resource, that a code and a refresh token count
 * once; a spent one ends the whole family (RFC 9700, section 4.14.2).
 */
import { type FakeMcp, fakeMcp, type FakeMcpTool } from "./mcp.ts";

/** One request as it came in. */
export interface Seen {
  method: string;
  /** Path and query. */
  path: string;
  headers: Headers;
  body: string;
}

interface Grant {
  client: string;
  redirectUri: string;
  challenge: string;
  resource: string;
  scope: string;
}

interface Family {
  client: string;
  resource: string;
  scope: string;
  isOver: boolean;
}

/** A running authorization server. */
export interface FakeAuthorization extends AsyncDisposable {
  /** Its issuer: an origin without a slash behind it. */
  readonly issuer: string;
  readonly port: number;
  readonly seen: Seen[];
  /** Clients by id: their redirect addresses, and a secret if they have one. */
  readonly clients: Map<string, { redirectUris: string[]; secret?: string }>;
  /** Access tokens that are good, and for which resource. */
  readonly access: Map<string, Family>;
  /** Refresh tokens that are good. */
  readonly refresh: Map<string, Family>;
  /** Tokens that were revoked, in order. */
  readonly revoked: string[];
  /** How many tokens were given for refresh tokens. */
  renewals: number;
  /** @default 3600 */
  expiresIn: number;
  /** Whether a refresh token is replaced by each use. @default true */
  rotates: boolean;
  /** What it says of itself, changed. */
  change(metadata: Record<string, unknown>): Record<string, unknown>;
  /** Answers a token request with this, when set. */
  answerToken: (() => Response | Promise<Response>) | undefined;
  /** Every access token ends now. */
  endAccess(): void;
  /** The owner's browser, which agrees: the address it is sent back to. */
  browse(url: string): Promise<string>;
}

const json = (value: unknown, status = 200) =>
  Response.json(value, { status, headers: { "cache-control": "no-store" } });
const refuse = (error: string, status = 400) =>
  json({ error, error_description: "the fake's own words" }, status);
const text = () => crypto.randomUUID().replaceAll("-", "");

async function s256(verifier: string): Promise<string> {
  const bytes = new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier)),
  );
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

/** Starts one. */
export function fakeAuthorization(): FakeAuthorization {
  const codes = new Map<string, Grant>();
  const spent = new Map<string, Family>();
  const fake = {
    seen: [] as Seen[],
    clients: new Map() as FakeAuthorization["clients"],
    access: new Map<string, Family>(),
    refresh: new Map<string, Family>(),
    revoked: [] as string[],
    renewals: 0,
    expiresIn: 3_600,
    rotates: true,
    change: (metadata: Record<string, unknown>) => metadata,
    answerToken: undefined as FakeAuthorization["answerToken"],
    endAccess: () => fake.access.clear(),
  };
  let issuer = "";
  const give = (family: Family, refresh?: string) => {
    const access_token = `at-${text()}`;
    fake.access.set(access_token, family);
    const refresh_token = refresh ?? `rt-${text()}`;
    fake.refresh.set(refresh_token, family);
    return json({
      access_token,
      refresh_token,
      token_type: "Bearer",
      expires_in: fake.expiresIn,
      scope: family.scope,
    });
  };
  const end = (family: Family) => {
    family.isOver = true;
    for (const kept of [fake.access, fake.refresh]) {
      for (const [token, one] of kept) if (one === family) kept.delete(token);
    }
  };
  /** The client of a form, if it proves to be it. */
  const clientOf = (form: URLSearchParams, headers: Headers) => {
    const [id, proof] = headers.get("authorization")?.startsWith("Basic ")
      ? atob(headers.get("authorization")?.slice(6) ?? "").split(":")
      : [form.get("client_id") ?? "", form.get("client_secret") ?? undefined];
    const client = fake.clients.get(id ?? "");
    return client !== undefined && client.secret === proof ? id : undefined;
  };
  const authorize = (query: URLSearchParams): Response => {
    const one = (name: string) => query.get(name) ?? "";
    const client = fake.clients.get(one("client_id"));
    if (client?.redirectUris.includes(one("redirect_uri")) !== true) {
      return refuse("invalid_request");
    }
    const isWhole = one("response_type") === "code" && one("state") !== "" &&
      one("code_challenge_method") === "S256" &&
      one("code_challenge").length === 43 && one("resource") !== "";
    if (!isWhole) return refuse("invalid_request");
    const code = `code-${text()}`;
    codes.set(code, {
      client: one("client_id"),
      redirectUri: one("redirect_uri"),
      challenge: one("code_challenge"),
      resource: one("resource"),
      scope: one("scope"),
    });
    const back = new URL(one("redirect_uri"));
    back.searchParams.set("code", code);
    back.searchParams.set("state", one("state"));
    back.searchParams.set("iss", issuer);
    return new Response(null, {
      status: 302,
      headers: { location: back.href },
    });
  };
  const exchange = async (form: URLSearchParams, client: string) => {
    const code = form.get("code") ?? "";
    const grant = codes.get(code);
    codes.delete(code);
    const isOurs = grant?.client === client &&
      grant.redirectUri === form.get("redirect_uri") &&
      grant.resource === form.get("resource") &&
      grant.challenge === await s256(form.get("code_verifier") ?? "");
    if (grant === undefined || !isOurs) return refuse("invalid_grant");
    const { resource, scope } = grant;
    return give({ client, resource, scope, isOver: false });
  };
  const renew = (form: URLSearchParams, client: string) => {
    const token = form.get("refresh_token") ?? "";
    const family = fake.refresh.get(token);
    const used = spent.get(token);
    if (used !== undefined) end(used);
    const isOurs = family?.client === client &&
      family.resource === form.get("resource");
    if (family === undefined || !isOurs) return refuse("invalid_grant");
    fake.renewals++;
    if (!fake.rotates) return give(family, token);
    fake.refresh.delete(token);
    spent.set(token, family);
    return give(family);
  };
  const serve = async (seen: Seen): Promise<Response> => {
    const url = new URL(seen.path, issuer);
    const form = new URLSearchParams(seen.body);
    switch (`${seen.method} ${url.pathname}`) {
      case "GET /.well-known/oauth-authorization-server":
        return json(fake.change({
          issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          registration_endpoint: `${issuer}/register`,
          revocation_endpoint: `${issuer}/revoke`,
          response_types_supported: ["code"],
          grant_types_supported: ["authorization_code", "refresh_token"],
          code_challenge_methods_supported: ["S256"],
          token_endpoint_auth_methods_supported: [
            "none",
            "client_secret_basic",
          ],
          authorization_response_iss_parameter_supported: true,
        }));
      case "POST /register": {
        const { redirect_uris, ...rest } = JSON.parse(seen.body);
        const client_id = `client-${text()}`;
        fake.clients.set(client_id, { redirectUris: redirect_uris });
        return json({ ...rest, redirect_uris, client_id }, 201);
      }
      case "GET /authorize":
        return authorize(url.searchParams);
      case "POST /token": {
        if (fake.answerToken !== undefined) return await fake.answerToken();
        const client = clientOf(form, seen.headers);
        if (client === undefined) return refuse("invalid_client", 401);
        return form.get("grant_type") === "refresh_token"
          ? renew(form, client)
          : await exchange(form, client);
      }
      case "POST /revoke": {
        const token = form.get("token") ?? "";
        fake.revoked.push(token);
        const family = fake.refresh.get(token) ?? fake.access.get(token);
        if (family !== undefined) end(family);
        return new Response(null, { status: 200 });
      }
      default:
        return new Response("no", { status: 404 });
    }
  };
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
  }, async (request) => {
    const { pathname, search } = new URL(request.url);
    const seen = {
      method: request.method,
      path: pathname + search,
      headers: request.headers,
      body: await request.text(),
    };
    fake.seen.push(seen);
    return await serve(seen);
  });
  const { port } = server.addr;
  issuer = `http://127.0.0.1:${port}`;
  return Object.assign(fake, {
    issuer,
    port,
    browse: async (url: string) => {
      const answer = await fetch(url, { redirect: "manual" });
      await answer.body?.cancel();
      const location = answer.headers.get("location");
      if (location !== null) return location;
      throw new TypeError(`the fake refused: ${answer.status}`);
    },
    [Symbol.asyncDispose]: () => server.shutdown(),
  });
}

/** An MCP server behind a login. */
export interface GuardedMcp extends FakeMcp {
  /** Whose tokens it takes, which its metadata names. */
  authorization: FakeAuthorization;
  /** What its metadata says, changed. */
  change(metadata: Record<string, unknown>): Record<string, unknown>;
  /** Every request: its path, and what it carried as Authorization. */
  readonly asked: { path: string; authorization: string | null }[];
  /** Answers a request with a good token otherwise, when set. */
  instead: FakeMcp["guard"];
}

/** Starts one; its resource is its own address. */
export function guardedMcp(
  authorization: FakeAuthorization,
  tools: FakeMcpTool[] = [],
): GuardedMcp {
  const fake: GuardedMcp = Object.assign(fakeMcp(tools), {
    authorization,
    change: (metadata: Record<string, unknown>) => metadata,
    asked: [],
    instead: undefined,
  });
  const origin = new URL(fake.url).origin;
  const where = `${origin}/.well-known/oauth-protected-resource/mcp`;
  fake.guard = (request) => {
    const { pathname } = new URL(request.url);
    const authorization = request.headers.get("authorization");
    fake.asked.push({ path: pathname, authorization });
    if (pathname === "/.well-known/oauth-protected-resource/mcp") {
      return json(fake.change({
        resource: fake.url,
        authorization_servers: [fake.authorization.issuer],
        scopes_supported: ["read", "write"],
      }));
    }
    if (pathname !== "/mcp") return new Response("no", { status: 404 });
    const token = authorization?.replace(/^Bearer /, "") ?? "";
    const family = fake.authorization.access.get(token);
    if (family?.resource === fake.url) return fake.instead?.(request);
    return new Response("no", {
      status: 401,
      headers: {
        "www-authenticate":
          `Bearer error="invalid_token", resource_metadata="${where}", scope="read"`,
      },
    });
  };
  return fake;
}
