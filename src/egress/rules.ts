/**
 * Which URLs a caller may ask for. A URL is parsed once, by the platform's
 * WHATWG parser, and everything is decided on what that parser made of it: no
 * check ever looks at the text a caller wrote.
 *
 * Never: a URL with user info, a scheme but http(s), or a wildcard over http.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";

/** One place a caller may reach. */
export interface HostRule {
  /** A host name, an address, or `*.example.com` for exactly one level. */
  host: string;
  scheme: "https" | "http";
  /** @default 443, or 80 for http */
  port?: number;
  /** @default any */
  methods?: readonly string[];
  /** `/v1` allows `/v1` and what is below it. @default any path */
  pathPrefix?: string;
}

/** Why a request was not let out. */
export type Refusal =
  | "url"
  | "scheme"
  | "userinfo"
  | "host"
  | "port"
  | "method"
  | "path"
  | "name"
  | "address"
  | "closed"
  | "downgrade"
  | "sandbox";

/** A URL that may be asked for, and by which rule; or why it may not. */
export type RuleVerdict =
  | { kind: "named"; rule: string }
  | { kind: "public" }
  | {
    kind: "refused";
    why: Refusal;
    text: string;
    hint: string;
    /** The rule that let it out, when something behind the rules refused. */
    rule?: string;
  };

/** A refusal on its way to becoming a verdict. */
export type Refused = Extract<RuleVerdict, { kind: "refused" }>;

/** Shorthand for a refusal. */
export function refused(why: Refusal, text: string, hint: string): Refused {
  return { kind: "refused", why, text, hint };
}

/** A method, path and host to match; what rules and credentials share. */
interface Place {
  wildcard: boolean;
  /** As the WHATWG parser writes it; for a wildcard what follows the `*`. */
  host: string;
  methods: ReadonlySet<string> | undefined;
  pathPrefix: string | undefined;
}

/** A rule made ready for matching. */
export interface ParsedRule extends Place {
  /** `http:` or `https:`, as in `URL.protocol`. */
  protocol: string;
  port: number;
  /** How the rule is shown: `*.example.com:443`. */
  text: string;
}

const PORT_DEFAULT: Readonly<Record<string, number>> = {
  "https:": 443,
  "http:": 80,
};

/** The port a URL means. */
export function portOf(url: URL): number {
  return url.port === "" ? PORT_DEFAULT[url.protocol] ?? 0 : Number(url.port);
}

/**
 * A host as the URL parser writes it (lower case, punycode, IPv6 in brackets).
 *
 * @throws {AppError} `bad_input` when it is more or less than a host
 */
function canonicalHost(host: string): string {
  const text = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  const url = URL.parse(`https://${text}/`);
  if (
    url === null || url.hostname === "" || url.host !== url.hostname ||
    url.username !== "" || url.password !== "" || url.pathname !== "/" ||
    url.search !== "" || url.hash !== "" || /[\s\\/?#@]/.test(host)
  ) {
    throw new AppError(
      "bad_input",
      `Cannot use ${
        JSON.stringify(host)
      } as a host: it is not a host name or address alone`,
      { hint: 'Write it like "api.example.com", without scheme, port or path' },
    );
  }
  return url.hostname;
}

/** Whether a star stands in it where a rule, and the sandbox, can have none. */
export function isMisplacedStar(host: string): boolean {
  if (!host.includes("*")) return false;
  const base = host.slice("*.".length);
  return !host.startsWith("*.") || base.includes("*") || !base.includes(".") ||
    /^[\d.]+$|^\[/.test(base);
}

/** Makes a place ready for matching; a host may be `*.x`. */
export function parsePlace(
  place: {
    host: string;
    methods?: readonly string[];
    pathPrefix?: string;
  },
): Place {
  const wildcard = place.host.startsWith("*.");
  const host = canonicalHost(wildcard ? place.host.slice(2) : place.host);
  if (isMisplacedStar(wildcard ? `*.${host}` : host)) {
    throw new AppError(
      "bad_input",
      `Cannot use "${place.host}" as a host: a wildcard stands before at least two labels of a name`,
      { hint: 'Write it like "*.example.com"' },
    );
  }
  return {
    wildcard,
    host: wildcard ? `.${host}` : host,
    methods: place.methods === undefined
      ? undefined
      : new Set(place.methods.map((method) => method.toUpperCase())),
    pathPrefix: place.pathPrefix === "/" ? undefined : place.pathPrefix,
  };
}

/**
 * Makes a rule ready for matching.
 *
 * @throws {AppError} `bad_input` for a host that is none, or a wildcard over http
 */
function parseRule(rule: HostRule): ParsedRule {
  const place = parsePlace(rule);
  const protocol = `${rule.scheme}:`;
  if (place.wildcard && rule.scheme === "http") {
    throw new AppError(
      "bad_input",
      `Cannot allow "${rule.host}" over http: only an exact host and port may be reached without TLS`,
      { hint: "Name the host exactly, or use https" },
    );
  }
  const port = rule.port ?? PORT_DEFAULT[protocol] ?? 0;
  return { ...place, protocol, port, text: `${rule.host}:${port}` };
}

function isHost(place: Place, hostname: string): boolean {
  if (!place.wildcard) return place.host === hostname;
  const level = hostname.slice(0, -place.host.length);
  return hostname.endsWith(place.host) && level !== "" && !level.includes(".");
}

function isPath(place: Place, pathname: string): boolean {
  const prefix = place.pathPrefix;
  if (prefix === undefined) return true;
  // A server may undo these after us and land outside the prefix.
  if (/%2f|%5c|%2e|%00|\/\//i.test(pathname)) return false;
  return pathname === prefix ||
    pathname.startsWith(prefix.endsWith("/") ? prefix : `${prefix}/`);
}

/** Whether a request is at this place. */
export function isAt(place: Place, url: URL, method: string): boolean {
  return isHost(place, url.hostname) &&
    (place.methods === undefined || place.methods.has(method)) &&
    isPath(place, url.pathname);
}

/** A caller's rules, made once when its door is. */
export class Rules {
  readonly #rules: readonly ParsedRule[];
  readonly #public: boolean;
  readonly #open: boolean;
  readonly #fix: (host: string) => string;

  constructor(
    hosts: readonly (HostRule | "public")[],
    options: { open: boolean; fix?: (host: string) => string },
  ) {
    this.#fix = options.fix ?? ((host) => `Add "${host}" to egress.hosts`);
    this.#rules = hosts.filter((host) => host !== "public").map(parseRule);
    this.#public = hosts.includes("public");
    this.#open = options.open;
  }

  /** The rules, for whoever looks over a door. */
  get list(): readonly ParsedRule[] {
    return this.#rules;
  }

  /** Whether this request may go out, and by which route. */
  check(url: URL, method: string): RuleVerdict {
    if (url.protocol !== "https:" && url.protocol !== "http:") {
      return refused(
        "scheme",
        `"${url.protocol}" is not http or https`,
        "Only http and https leave this program",
      );
    }
    if (url.username !== "" || url.password !== "") {
      return refused(
        "userinfo",
        "the URL holds a user name or password",
        "Take the user name and password out of the URL",
      );
    }
    if (/^(CONNECT|TRACE|TRACK)$/.test(method)) {
      return refused(
        "method",
        `${method} is never sent`,
        "Use another method",
      );
    }
    return this.#checkListed(url, method) ?? this.#checkPublic(url);
  }

  #checkListed(url: URL, method: string): RuleVerdict | undefined {
    const port = portOf(url);
    let nearest: Refused | undefined;
    for (const rule of this.#rules) {
      if (!isHost(rule, url.hostname)) continue;
      if (rule.protocol !== url.protocol) {
        nearest ??= refused(
          "scheme",
          `it is allowed over ${rule.protocol.slice(0, -1)} only`,
          `Use ${rule.protocol}//${url.hostname}`,
        );
      } else if (rule.port !== port) {
        nearest = refused(
          "port",
          `it is allowed on port ${rule.port} only`,
          `Leave the port at ${rule.port}`,
        );
      } else if (!(rule.methods?.has(method) ?? true)) {
        nearest = refused(
          "method",
          `${method} is not among ${[...rule.methods ?? []].join(", ")}`,
          `Grant ${method} for "${rule.text}"`,
        );
      } else if (!isPath(rule, url.pathname)) {
        nearest = refused(
          "path",
          `the path is not below "${rule.pathPrefix}"`,
          `Stay below "${rule.pathPrefix}", without encoded dots or slashes`,
        );
      } else return { kind: "named", rule: rule.text };
    }
    return nearest;
  }

  #checkPublic(url: URL): RuleVerdict {
    const fix = this.#fix(url.hostname);
    if (!this.#public) {
      return refused("host", "no line of the configuration names it", fix);
    }
    if (!this.#open) {
      return refused(
        "closed",
        "no line of the configuration names it and egress.open is false",
        `${fix}, or set egress.open`,
      );
    }
    if (url.protocol !== "https:") {
      return refused(
        "scheme",
        "a host that no configuration line names is reached by https only",
        `Use https://${url.hostname}`,
      );
    }
    if (portOf(url) !== 443) {
      return refused(
        "port",
        "a host that no configuration line names is reached on port 443 only",
        "Leave the port out",
      );
    }
    return { kind: "public" };
  }
}
