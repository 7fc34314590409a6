/**
 * `carapace policy`: why a call is allowed, asked about or refused, what a
 * recorded session would be under other rules, and what answers are remembered.
 *
 * @module
 */
import { parse, type ParseError } from "jsonc-parser";
import { readText } from "../../config/files.ts";
import { decodeUtf8, readBytes } from "../../core/bounded.ts";
import { errorText } from "../../core/errors.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { openGateway } from "../gateway.ts";
import { rulesFile } from "./policy_file.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { agoText, makePaint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const policy: Verb = {
  name: "policy",
  about: "Explain decisions, replay a session, list remembered answers",
  usage: [
    "carapace policy explain TOOL [--args JSON] [--session KEY] [--unattended] [--json]",
    "carapace policy replay SESSION [--policy FILE|JSON|-] [--json]",
    "carapace policy list [--json]",
    "carapace policy revoke ID [--json]",
  ],
  examples: [
    'carapace policy explain web_fetch --args \'{"url":"https://a.test/"}\'',
    "carapace policy replay agent:main:main",
    'carapace policy replay agent:main:main --policy \'{"policy":[{"verdict":"deny","tool":"group:web"}]}\'',
    "carapace policy replay agent:main:main --policy stricter.jsonc",
    "carapace policy revoke pol_01jabc",
  ],
  needs: "gateway",
  run: runPolicy,
};

const RULES_BYTES_MAX = 1_048_576;

async function runPolicy(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    args: { type: "string" },
    session: { type: "string" },
    policy: { type: "string" },
    unattended: { type: "boolean" },
  });
  const [action, subject] = positionals;
  positionalsMax(positionals, action === "list" ? 1 : 2);
  const rules = values.policy === undefined
    ? undefined
    : await readRules(io, values.policy);
  const json = values.json === true;
  const call = ((): (client: GatewayClient) => Promise<void> => {
    switch (action) {
      case "explain":
        return explainCall(io, {
          tool: required(subject, "TOOL"),
          args: values.args === undefined
            ? {}
            : readJson(values.args, "--args"),
          session: values.session,
          attended: values.unattended !== true,
          json,
        });
      case "replay":
        return replayCall(io, {
          session: required(subject, "SESSION"),
          guard: rules === undefined ? undefined : readJson(rules, "--policy"),
          json,
        });
      case "list":
        return (client) => list(io, client, json);
      case "revoke":
        return async (client) => {
          const id = required(subject, "ID");
          const done = await client.call("policy.revoke", { id });
          io.out(json ? jsonLine(done) : `forgotten ${printableLine(id)}\n`);
        };
      default:
        throw usageError(
          "Say what to do with the policy: explain, replay, list or revoke",
        );
    }
  })();
  using client = await openGateway(io, { roof });
  await call(client);
  return EXIT.ok;
}

/** The rules as `--policy` names them. */
async function readRules(io: Io, named: string): Promise<string> {
  if (named === "-") {
    return decodeUtf8(await readBytes(io.stdin, RULES_BYTES_MAX));
  }
  const file = rulesFile(named);
  if (file === undefined) return named;
  try {
    return await readText(file, RULES_BYTES_MAX);
  } catch (error) {
    const why = error instanceof Deno.errors.NotFound
      ? "there is no such file"
      : errorText(error);
    throw usageError(`Cannot read the policy ${JSON.stringify(named)}: ${why}`);
  }
}

function required(value: string | undefined, name: string): string {
  if (value !== undefined && value !== "") return value;
  throw usageError(`The argument ${name} is missing`);
}

type Json = ReturnType<typeof JSON.parse>;

function readJson(text: string, option: string): Json {
  const errors: ParseError[] = [];
  const value = parse(text, errors, { allowTrailingComma: true });
  if (errors.length > 0) throw usageError(`The value of ${option} is no JSON`);
  return value;
}

function explainCall(
  io: Io,
  asked: {
    tool: string;
    args: Json;
    session: string | undefined;
    attended: boolean;
    json: boolean;
  },
) {
  return async (client: GatewayClient) => {
    const { tool, args, attended, json } = asked;
    const sessionKey = asked.session ??
      client.hello.snapshot.sessionDefaults.mainSessionKey;
    const said = await client.call("policy.explain", {
      tool,
      args,
      sessionKey,
      attended,
    });
    if (json) return io.out(jsonLine(said));
    io.out(
      `${said.verdict}: ${printableLine(said.reason)}\n` +
        `effect ${said.effect}, in a conversation whose words are ${said.integrity}\n\n`,
    );
    const rows = said.trace.map(({ rule, says, why }) => [rule, says, why]);
    io.out(table(["RULE", "SAYS", "WHY"], rows, makePaint(io)));
  };
}

function replayCall(
  io: Io,
  asked: { session: string; guard: Json; json: boolean },
) {
  return async (client: GatewayClient) => {
    const { session: sessionKey, guard, json } = asked;
    const said = await client.call("policy.replay", {
      sessionKey,
      ...(guard === undefined ? {} : { guard: guard.guard ?? guard }),
    });
    if (json) return io.out(jsonLine(said));
    const rows = said.calls.map(({ seq, tool, then, verdict, reason }) => [
      String(seq),
      tool,
      then,
      verdict,
      reason,
    ]);
    io.out(table(["SEQ", "TOOL", "THEN", "NOW", "WHY"], rows, makePaint(io)));
  };
}

async function list(
  io: Io,
  client: GatewayClient,
  json: boolean,
): Promise<void> {
  const said = await client.call("policy.list", {});
  if (json) return io.out(jsonLine(said));
  const now = io.clock.now();
  const rows = said.lines.map((line) => [
    line.id,
    line.for,
    line.agent,
    line.tool,
    line.places.join(", "),
    line.sources.join(", "),
    agoText(line.createdAt, now),
  ]);
  io.out(
    table(
      ["ID", "FOR", "AGENT", "TOOL", "TO", "AFTER", "GIVEN"],
      rows,
      makePaint(io),
    ),
  );
}
