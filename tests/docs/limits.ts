/**
 * `docs/limits.md`: every bound of the program, room by room, read out of the
 * source with what its comment says of it, and the bounds of the configuration.
 *
 * @module
 */
import { toJsonSchema } from "../../src/config/schema.ts";
import { Settings } from "../../src/settings.ts";
import { markdownTable } from "./markdown.ts";

/** One bound. */
export interface LimitRow {
  /** The room's folder. */
  room: string;
  /** `path:NAME` or `path:TABLE.key`. */
  where: string;
  name: string;
  value: number;
  unit: string;
  /** What it bounds and what happens at it; empty when nobody said. */
  about: string;
  /** Whether it stands in a table of limits, where a description is a must. */
  isTable: boolean;
}

const source = new URL("../../src/", import.meta.url);

async function* files(dir: URL): AsyncGenerator<URL> {
  const entries = await Array.fromAsync(Deno.readDir(dir));
  for (const { name, isDirectory } of entries.sort(byName)) {
    if (isDirectory) yield* files(new URL(`${name}/`, dir));
    else if (/(?<!_test)\.ts$/.test(name)) yield new URL(name, dir);
  }
}

function byName(a: { name: string }, b: { name: string }): number {
  return a.name < b.name ? -1 : 1;
}

/** `64 * 1024` and `1_048_576`; nothing else is a number to us. */
function toNumber(text: string): number | undefined {
  if (!/^[\d_.]+(\s*\*\s*[\d_.]+)*$/.test(text.trim())) return undefined;
  return text.split("*").map((part) => Number(part.replaceAll("_", "").trim()))
    .reduce((product, one) => product * one, 1);
}

function commentText(lines: readonly string[]): string {
  return lines.join(" ").replaceAll(/\/\*\*|\*\/|(^|\s)\*(?=\s)/g, " ")
    .replaceAll(/\{@linkcode ([^}]+)\}/g, "`$1`").replaceAll(/\s+/g, " ")
    .trim();
}

const UNITS: readonly (readonly [RegExp, string])[] = [
  [/PerSecond$|_PER_SECOND$/, "a second"],
  [/Mb$/, "MB"],
  [/Pages(Max)?$/, "pages"],
  [/Bytes(Max|Min|Fail|Warn)?$|_BYTES(_MAX)?$|BYTES_|Bytes/, "bytes"],
  [/Chars|CHARS/, "characters"],
  [/Tokens|TOKENS/, "tokens"],
  [/Ms$|_MS$|MS_/, "ms"],
  [/Seconds$|_S$/, "s"],
  [/Hours$/, "h"],
  [/Days$|_DAYS$/, "days"],
  [/Share$/, "of all"],
];

/** In a table that is not called limits, what is called like one. */
const BOUND =
  /(Max|Min|Ms|Free|Share|PerSecond|Bytes|Chars|Tokens|Seconds|Days)$|^free$/;

function unitOf(name: string): string {
  return UNITS.find(([pattern]) => pattern.test(name))?.[1] ?? "";
}

/** The rows of one file's text. Pure. */
export function limitsIn(path: string, text: string): LimitRow[] {
  const room = path.includes("/") ? path.split("/")[0] ?? "" : "house";
  const rows: LimitRow[] = [];
  let table: string | undefined;
  let comment: string[] = [];
  let about = "";
  for (const line of text.split("\n")) {
    const trimmed = line.trim();
    const opens =
      /^(?:export )?const ([A-Z][A-Z_]*)\b[^={]*=\s*(?:Object\.freeze\()?\{$/
        .exec(line);
    const entry = /^ {2}(\w+): ([\d_.]+(?: \* [\d_.]+)*),$/.exec(line);
    const single =
      /^(?:export )?const ([A-Z][A-Z0-9_]*) = ([\d_.]+(?: \* [\d_.]+)*);$/
        .exec(line);
    if (opens?.[1] !== undefined) {
      table = opens[1];
      about = "";
    } else if (table !== undefined && /^\}/.test(line)) table = undefined;
    else if (/^\/\*\*|^\*/.test(trimmed)) {
      comment.push(trimmed);
      continue;
    } else if (table !== undefined && entry !== null) {
      // Keys that stand together share what was said above the first.
      if (comment.length > 0) about = commentText(comment);
      const [, key = "", number = ""] = entry;
      comment = [];
      const isBound = /LIMITS$/.test(table) || BOUND.test(key);
      if (!isBound || toNumber(number) === 0) continue;
      rows.push({
        room,
        where: `${path}:${table}.${key}`,
        name: key,
        value: toNumber(number) ?? NaN,
        unit: unitOf(key),
        about,
        isTable: true,
      });
    } else if (table === undefined && single !== null && comment.length > 0) {
      const [, name = "", number = ""] = single;
      if (/_(MAX|MS|BYTES|CHARS|TOKENS|DAYS)$|_MAX_/.test(name)) {
        rows.push({
          room,
          where: `${path}:${name}`,
          name,
          value: toNumber(number) ?? NaN,
          unit: unitOf(name),
          about: commentText(comment),
          isTable: false,
        });
      }
    }
    comment = [];
  }
  return rows;
}

/** Every bound of the source. */
export async function findLimits(): Promise<LimitRow[]> {
  const rows: LimitRow[] = [];
  for await (const url of files(source)) {
    const path = url.href.slice(source.href.length);
    rows.push(...limitsIn(path, await Deno.readTextFile(url)));
  }
  return rows;
}

interface Schema {
  type?: string | string[];
  default?: unknown;
  minimum?: number;
  maximum?: number;
  description?: string;
  properties?: Record<string, Schema>;
  anyOf?: Schema[];
  $ref?: string;
}

/** The numbers of the configuration that have a default. */
function settingRows(schema: Schema, path = ""): string[][] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, value]) => {
    const here = path === "" ? key : `${path}.${key}`;
    if (value.properties !== undefined) return settingRows(value, here);
    if (typeof value.default !== "number") return [];
    const range = [value.minimum ?? "", value.maximum ?? ""].map((bound) =>
      typeof bound === "number" ? number(bound) : "…"
    );
    return [[
      `\`${here}\``,
      number(value.default),
      range.join(" to "),
      value.description ?? "",
    ]];
  });
}

function number(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: 4 });
}

const INTRO = `# Limits

Every bound of this program, made from its source by \`deno task docs\`: a queue, a
body, a stream or a wait without one does not exist. The first table is yours to
set; the others are fixed. What is over a limit is refused or cut, never half
done, and the refusal says which limit it was.

## Too many at once

\`429\` and \`503\` carry \`Retry-After\` (WebSocket: \`retryAfterMs\`). When much is in
flight the gateway refuses in this order: sockets of strangers (from three quarters
of \`inFlightMax\`), then what begins a model or tool call, every \`POST\` and such
methods (from seven eighths), then everything that reads (when it is full). Never
for load: \`/health/live\`, \`/health/ready\`, \`health\`, \`status\`, stopping
(\`chat.abort\`), approvals (\`approval.list\`, \`approval.resolve\`,
\`exec.approval.resolve\`) and \`token.revoke\`. Those last have a bucket of their own,
so that who has used up its requests can still stop what it began.

Answers to an authenticated request say how the buckets stand that it was charged
to, as structured fields of the IETF draft
[RateLimit header fields for HTTP](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/)
(revision 08 and later; compared with 11):

\`\`\`http
RateLimit-Policy: "requests";q=20000;w=1, "turns";q=120;w=2
RateLimit: "requests";r=19999;t=1, "turns";r=119;t=1
\`\`\`

\`q\` is the size of the bucket, \`w\` the seconds in which it fills, \`r\` what is left,
\`t\` the seconds until it is full again or, when \`r\` is 0, until there is one (then it
is \`Retry-After\`). Buckets are a token's, not a socket's: \`requests\` counts every
request, \`turns\` those that begin one, \`models\` those passed on to a model. The
older \`RateLimit-Limit\`, \`-Remaining\` and \`-Reset\` can speak of one bucket only and
are not sent.

What the gateway cannot see, the runtime bounds: a head over about 64 KiB or 200
fields is a bare \`400\`, a WebSocket frame over 64 MiB closes its socket. A
connection that sends nothing is not visible at all: off loopback, put a proxy in
front.
`;

/** The whole document. */
export async function makeLimitsDoc(): Promise<string> {
  const rows = await findLimits();
  const rooms = [...new Set(rows.map(({ room }) => room))];
  const sections = rooms.map((room) => {
    const own = rows.filter((row) => row.room === room);
    return `## ${room}\n\n${
      markdownTable(
        ["limit", "value", "unit", "what, and what happens at it", "source"],
        own.map(({ name, value, unit, about, where }) => [
          `\`${name}\``,
          number(value),
          unit,
          about,
          `\`${where.split(":")[0]}\``,
        ]),
      )
    }`;
  });
  const settings = settingRows(toJsonSchema(Settings) as Schema);
  return `${INTRO}
## Yours to set

${markdownTable(["key", "default", "range", "what"], settings)}

${sections.join("\n\n")}
`;
}
