/**
 * What a start prints: where it listens, how to get in, which model and why,
 * what the sandbox holds, what to type next.
 *
 * @module
 */

/** The facts of a start. */
export interface BannerFacts {
  version: string;
  address: string;
  /** The new token's text; only given for a terminal. */
  token?: string;
  /** The file that holds the command line's copy. */
  tokenFile?: string;
  /** Set when the token came from the environment. */
  isTokenFromEnv: boolean;
  model: { model: string; because: string };
  /** What may be spent. */
  budget: string;
  /** How to get a real model, when this is a stand-in. */
  setupHint?: string;
  posture: { tried: number; refused: number; isOff: boolean };
  grants: Readonly<Record<string, readonly string[]>>;
  /** How many programs the launcher runs on request. */
  programs: number;
  stateDir: string;
  /** Why the agents are off. */
  safeMode?: string;
  resumed: number;
  color: boolean;
}

function count(list: readonly string[] | undefined, noun: string): string {
  const n = list?.length ?? 0;
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function sandboxLine(facts: BannerFacts): string {
  const { posture, grants } = facts;
  if (posture.isOff) {
    return "OFF (--unsafe-sandbox-off): everything this user may do, it may do";
  }
  const files = new Set([...grants["read"] ?? [], ...grants["write"] ?? []]);
  const net = grants["net"]?.includes("any")
    ? "any public host"
    : count(grants["net"], "host");
  const programs = facts.programs === 0
    ? "no programs"
    : `${count(Array(facts.programs), "program")} by its launcher, unsandboxed`;
  return `may use ${net}, ${count([...files], "path")}, ${programs}; ` +
    `${posture.tried} forbidden acts tried, ${posture.refused} refused`;
}

function tokenLines(facts: BannerFacts): string[] {
  if (facts.token !== undefined) {
    return [
      facts.token,
      `shown this once; the command line has its own copy in ${facts.tokenFile}`,
    ];
  }
  if (facts.isTokenFromEnv) return ["the one in CARAPACE_TOKEN"];
  return facts.tokenFile === undefined
    ? ["as before; a new one: deno task carapace token create NAME"]
    : [`in ${facts.tokenFile}`];
}

/** The whole text, ending in a line break. */
export function banner(facts: BannerFacts): string {
  const bold = (text: string) => facts.color ? `\x1b[1m${text}\x1b[0m` : text;
  const dim = (text: string) => facts.color ? `\x1b[2m${text}\x1b[0m` : text;
  const warn = (text: string) => facts.color ? `\x1b[33m${text}\x1b[0m` : text;
  const rows: [string, string][] = [["address", facts.address]];
  tokenLines(facts).forEach((line, n) => rows.push([n ? "" : "token", line]));
  const { model, because } = facts.model;
  rows.push(["model", `${model}, because ${because}`]);
  if (facts.setupHint !== undefined) {
    rows.push([
      "",
      warn(`a scripted stand-in, not a model: ${facts.setupHint}`),
    ]);
  }
  rows.push(["budget", facts.budget]);
  const line = sandboxLine(facts);
  rows.push(["sandbox", facts.posture.isOff ? warn(line) : line]);
  rows.push(["state", facts.stateDir]);
  if (facts.resumed > 0) {
    rows.push(["resumed", `${facts.resumed} unfinished turns`]);
  }
  if (facts.safeMode !== undefined) {
    rows.push(["SAFE MODE", warn(facts.safeMode)]);
    rows.push(["next", "deno task carapace config validate"]);
  } else {
    rows.push(["next", "deno task chat"]);
    rows.push(["", dim("deno task carapace --help")]);
  }
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, text]) =>
    `  ${bold(name.padEnd(width))}  ${text}`
  );
  return `\n${bold("Carapace")} ${facts.version}\n\n${lines.join("\n")}\n\n`;
}
