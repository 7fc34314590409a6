/**
 * `carapace token`: makes, lists, rotates and revokes tokens.
 *
 * @module
 */
import { type KeyBudget, Scope, toScope } from "../../core/authority.ts";
import { dollars, NANO } from "../../core/cost.ts";
import type { MethodOutput } from "../../core/methods.ts";
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
    "carapace token create NAME [--scopes LIST] [--expires DURATION] [--agents LIST] [--models LIST] [--tools LIST] [--budget AMOUNTS] [--integrity owner|untrusted] [--json]",
    "carapace token list [--json]",
    "carapace token rotate NAME|ID [--json]",
    "carapace token revoke ID [--json]",
  ],
  examples: [
    "carapace token create phone --scopes read,chat --expires 30d",
    "carapace token create ci --scopes chat --agents work --models openai:gpt-5",
    "carapace token create bot --budget 2usd,500000tokens  # a day, by UTC",
    "carapace token create me --scopes write --integrity owner  # its words are yours",
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
    budget: { type: "string" },
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
        budget: values.budget === undefined
          ? undefined
          : parseBudget(values.budget),
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

const AMOUNT = /^(\$)?(\d{1,15}(?:\.\d{1,6})?)(usd|tokens)?$/i;

/** `2usd`, `$2`, `2`, `500000tokens`, or one of each. */
export function parseBudget(text: string): KeyBudget {
  const budget: KeyBudget = {};
  for (const word of names(text)) {
    const [, sign, digits, unit = "usd"] = AMOUNT.exec(word) ?? [];
    const meter = unit.toLowerCase() === "tokens"
      ? "tokensPerDay"
      : "usdPerDay";
    const amount = Number(digits);
    const isWrong = digits === undefined || budget[meter] !== undefined ||
      (meter === "tokensPerDay"
        ? sign !== undefined || !Number.isSafeInteger(amount)
        : amount > 1_000_000);
    if (isWrong) throw budgetError(word);
    budget[meter] = amount;
  }
  if (Object.keys(budget).length === 0) throw budgetError(text);
  return budget;
}

function budgetError(text: string) {
  return usageError(
    `Cannot use --budget "${text.slice(0, 40)}"`,
    "It is dollars a day, tokens a day, or both: 2usd,500000tokens",
  );
}

interface Wanted {
  name: string;
  budget: KeyBudget | undefined;
  integrity: "owner" | "untrusted" | undefined;
  scopes: string[];
  expiresInMs: number | undefined;
  allowed: { agents?: string[]; models?: string[]; tools?: string[] };
  json: boolean;
}

function createCall(io: Io, wanted: Wanted): Call {
  return async (client) => {
    const { name, scopes, expiresInMs, allowed, integrity, json } = wanted;
    const { budget } = wanted;
    const made = await client.call("token.create", {
      name,
      scopes,
      ...allowed,
      ...(integrity === undefined ? {} : { integrity }),
      ...(budget === undefined ? {} : { budget }),
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
  const { budgets } = await client.call("usage.budget", {});
  const spent = (id: string, meter: Standing["meter"]) =>
    budgets.find((one) =>
      one.scope === "key" && one.name === id && one.meter === meter
    )?.spent ?? 0;
  const rows = payload.tokens.map((row) => [
    row.id,
    row.name,
    // Admin holds all the others.
    row.scopes.includes("admin") ? "admin" : row.scopes.join(","),
    onlyText(row),
    budgetText(row.budget, (meter) => spent(row.id, meter)),
    row.integrity ?? "",
    row.lastUsedAt === undefined ? "never" : agoText(row.lastUsedAt, now),
    row.expiresAt === undefined
      ? "never"
      : row.expiresAt <= now
      ? "expired"
      : agoText(row.expiresAt, now),
  ]);
  io.out(
    table(
      [
        ...["ID", "NAME", "SCOPES", "ONLY", "BUDGET A DAY"],
        ...["INTEGRITY", "USED", "EXPIRES"],
      ],
      rows,
      makePaint(io),
    ),
  );
}

type Standing = MethodOutput<"usage.budget">["budgets"][number];
type TokenItem = MethodOutput<"token.list">["tokens"][number];

/** What a key is held to, list by list; nothing when it may use any. */
function onlyText(row: TokenItem): string {
  return (["agents", "models", "tools"] as const).flatMap((list) => {
    const held = row[list];
    if (held === undefined || held === "any") return [];
    return [`${list}=${held.length === 0 ? "none" : held.join(",")}`];
  }).join(" ");
}

/** What is spent of a key's budget; of none, nothing. */
function budgetText(
  budget: KeyBudget | undefined,
  spent: (meter: Standing["meter"]) => number,
): string {
  const { usdPerDay, tokensPerDay } = budget ?? {};
  const money = (usd: number) => dollars(Math.round(usd * NANO));
  const count = (n: number) => n.toLocaleString("en-US");
  return [
    ...usdPerDay === undefined
      ? []
      : [`${money(spent("usd"))} of ${money(usdPerDay)}`],
    ...tokensPerDay === undefined
      ? []
      : [`${count(spent("tokens"))} of ${count(tokensPerDay)} tokens`],
  ].join(", ");
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
