/**
 * `carapace token`: makes, lists, rotates and revokes tokens.
 *
 * @module
 */
import { Scope, toScope } from "../../core/authority.ts";
import {
  parseDuration,
  positionalsMax,
  readArgs,
  usageError,
} from "../args.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { openGateway } from "../gateway.ts";
import { didYouMean } from "../help.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { agoText, makePaint, table, timeText } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const SCOPES_DEFAULT = "read,chat";

export const token: Verb = {
  name: "token",
  about: "Make, list, rotate and revoke tokens",
  usage: [
    "carapace token create NAME [--scopes LIST] [--expires DURATION] [--agents LIST] [--models LIST] [--tools LIST] [--integrity owner|untrusted] [--json]",
    "carapace token list [--json]",
    "carapace token rotate NAME|ID [--json]",
    "carapace token revoke ID [--json]",
  ],
  examples: [
    "carapace token create phone --scopes read,chat --expires 30d",
    "carapace token create ci --scopes chat --agents work --models openai:gpt-5",
    "carapace token list",
    "carapace token rotate phone",
    "carapace token revoke tok_01jabc",
  ],
  needs: "gateway",
  run: runToken,
};

type Call = (client: GatewayClient) => Promise<void>;

async function runToken(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    scopes: { type: "string" },
    expires: { type: "string" },
    agents: { type: "string" },
    models: { type: "string" },
    tools: { type: "string" },
    integrity: { type: "string" },
  });
  const [action, subject] = positionals;
  positionalsMax(positionals, action === "list" ? 1 : 2);
  const json = values.json === true;
  let call: Call;
  switch (action) {
    case "create":
      call = createCall(io, {
        name: required(subject, "NAME"),
        scopes: parseScopes(values.scopes ?? SCOPES_DEFAULT),
        expiresInMs: values.expires === undefined
          ? undefined
          : parseDuration(values.expires),
        integrity: parseIntegrity(values.integrity),
        allowed: {
          ...listed("agents", values.agents),
          ...listed("models", values.models),
          ...listed("tools", values.tools),
        },
        json,
      });
      break;
    case "list":
      call = (client) => list(io, client, { json });
      break;
    case "rotate":
      call = rotateCall(io, { id: required(subject, "NAME or ID"), json });
      break;
    case "revoke":
      call = revokeCall(io, { id: required(subject, "ID"), json });
      break;
    case undefined:
      throw usageError(
        "Say what to do with tokens: create, list, rotate or revoke",
      );
    default:
      throw usageError(`Unknown action "${action}" of "carapace token"`);
  }
  using client = await openGateway(io, { roof });
  await call(client);
  return EXIT.ok;
}

function required(value: string | undefined, name: string): string {
  if (value !== undefined && value !== "") return value;
  throw usageError(`The argument ${name} is missing`);
}

function names(text: string): string[] {
  return text.split(",").map((name) => name.trim()).filter((name) =>
    name !== ""
  );
}

function listed(
  key: "agents" | "models" | "tools",
  text: string | undefined,
): { agents?: string[]; models?: string[]; tools?: string[] } {
  return text === undefined ? {} : { [key]: names(text) };
}

/** Scopes by name; a mistyped one must not quietly be none. */
export function parseScopes(text: string): string[] {
  return names(text).map((name) => {
    const scope = toScope(name);
    if (scope !== undefined) return scope;
    const meant = didYouMean(name, Scope.options);
    throw usageError(
      `Unknown scope "${name}"`,
      meant === undefined
        ? `The scopes are ${Scope.options.join(", ")}`
        : `Did you mean "${meant}"?`,
    );
  });
}

function parseIntegrity(
  text: string | undefined,
): "owner" | "untrusted" | undefined {
  if (text === undefined || text === "owner" || text === "untrusted") {
    return text;
  }
  throw usageError(`Unknown integrity "${text}"`, "It is owner or untrusted");
}

interface Wanted {
  name: string;
  integrity: "owner" | "untrusted" | undefined;
  scopes: string[];
  expiresInMs: number | undefined;
  allowed: { agents?: string[]; models?: string[]; tools?: string[] };
  json: boolean;
}

function createCall(io: Io, wanted: Wanted): Call {
  return async (client) => {
    const { name, scopes, expiresInMs, allowed, integrity, json } = wanted;
    const made = await client.call("token.create", {
      name,
      scopes,
      ...allowed,
      ...(integrity === undefined ? {} : { integrity }),
      ...(expiresInMs === undefined ? {} : { expiresInMs }),
    });
    if (json) return io.out(jsonLine(made));
    // The token alone on standard output, so that it can be piped.
    io.out(`${printableLine(made.token)}\n`);
    const until = expiresInMs === undefined
      ? "does not expire"
      : `expires ${timeText(io.clock.now() + expiresInMs)}`;
    io.err(
      `${printableLine(made.id)} "${printableLine(name)}" may ${
        scopes.join(", ") || "nothing"
      } and ${until}. It is shown this once.\n`,
    );
  };
}

async function list(
  io: Io,
  client: GatewayClient,
  options: { json: boolean },
): Promise<void> {
  const payload = await client.call("token.list", {});
  if (options.json) return io.out(jsonLine(payload));
  const now = io.clock.now();
  const rows = payload.tokens.map((row) => [
    row.id,
    row.name,
    // Admin holds all the others.
    row.scopes.includes("admin") ? "admin" : row.scopes.join(","),
    row.lastUsedAt === undefined ? "never" : agoText(row.lastUsedAt, now),
    row.expiresAt === undefined
      ? "never"
      : row.expiresAt <= now
      ? "expired"
      : agoText(row.expiresAt, now),
  ]);
  io.out(
    table(["ID", "NAME", "SCOPES", "USED", "EXPIRES"], rows, makePaint(io)),
  );
}

function rotateCall(io: Io, options: { id: string; json: boolean }): Call {
  return async (client) => {
    const made = await client.call("token.rotate", { id: options.id });
    if (options.json) return io.out(jsonLine(made));
    io.out(`${printableLine(made.token)}\n`);
    io.err(
      `The next text of ${
        printableLine(made.id)
      }: it works now, the present one until this one is first used. It is shown this once.\n`,
    );
  };
}

function revokeCall(io: Io, options: { id: string; json: boolean }): Call {
  return async (client) => {
    const done = await client.call("token.revoke", { id: options.id });
    if (options.json) return io.out(jsonLine(done));
    io.out(
      `revoked ${
        printableLine(done.id)
      }; its connections and runs have ended\n`,
    );
  };
}
