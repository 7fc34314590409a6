/**
 * `carapace memory`: what the agents remember, and from whose words.
 *
 * @module
 */
import type { MemoryItem } from "../../core/methods/tool.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printable, printableLine } from "../printable.ts";
import { agoText, makePaint, table, timeText } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const memory: Verb = {
  name: "memory",
  about: "List, search, show, export and delete what agents remember",
  usage: [
    "carapace memory list [--space NAME] [--tag TAG] [--limit N] [--offset N] [--json]",
    "carapace memory search WORDS [--space NAME] [--limit N] [--json]",
    "carapace memory show ID [--space NAME] [--json]",
    "carapace memory delete ID [--space NAME] [--json]",
    "carapace memory delete --all [--space NAME] [--json]",
    "carapace memory export [--space NAME]     (JSON lines on standard output)",
    "carapace memory spaces [--json]",
  ],
  examples: [
    "carapace memory list",
    'carapace memory search "train to Graz"',
    "carapace memory export > memories.jsonl",
  ],
  needs: "gateway",
  run: runMemory,
};

const PAGE = 50;

interface Asked {
  io: Io;
  client: GatewayClient;
  json: boolean;
  space: { space?: string };
}

async function runMemory(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    space: { type: "string" },
    tag: { type: "string" },
    limit: { type: "string", short: "n" },
    offset: { type: "string" },
    all: { type: "boolean" },
  });
  const [action, subject] = positionals;
  positionalsMax(positionals, 2);
  const limit = count(values.limit, "limit", PAGE) ?? 20;
  const offset = count(values.offset, "offset", 1_000_000) ?? 0;
  const act = ((): (asked: Asked) => Promise<void> => {
    switch (action) {
      case "list": {
        const tag = values.tag === undefined ? {} : { tag: values.tag };
        return (asked) => list(asked, { limit, offset, ...tag });
      }
      case "search":
        return (asked) =>
          search(asked, { query: need(subject, "WORDS"), limit });
      case "show":
        return (asked) => show(asked, need(subject, "ID"));
      case "delete":
        if ((subject === undefined) === (values.all !== true)) {
          throw usageError("Say which memory to delete, or --all");
        }
        return (asked) => remove(asked, subject);
      case "export":
        return exportAll;
      case "spaces":
        return spaces;
      default:
        throw usageError(
          "Say what to do: list, search, show, delete, export or spaces",
        );
    }
  })();
  using client = await openGateway(io, { roof });
  const space = values.space === undefined ? {} : { space: values.space };
  await act({ io, client, json: values.json === true, space });
  return EXIT.ok;
}

function need(value: string | undefined, name: string): string {
  if (value !== undefined && value !== "") return value;
  throw usageError(`The argument ${name} is missing`);
}

function count(
  text: string | undefined,
  name: string,
  most: number,
): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,7}$/.test(text) && Number(text) <= most) return Number(text);
  throw usageError(`--${name} is a number up to ${most}`);
}

function rows(io: Io, memories: readonly MemoryItem[]): string {
  const now = io.clock.now();
  return table(
    ["ID", "WHEN", "FROM", "TEXT"],
    memories.map((one) => [
      one.id,
      agoText(one.updatedAt, now),
      `${one.label.integrity}${one.pinned ? ", pinned" : ""}`,
      brief(one),
    ]),
    makePaint(io),
  );
}

function brief({ text, tags }: MemoryItem): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  const cut = line.length > 60 ? `${line.slice(0, 59)}…` : line;
  return [cut, ...tags.map((tag) => `#${tag}`)].join(" ");
}

async function list(
  { io, client, json, space }: Asked,
  query: { limit: number; offset: number; tag?: string },
): Promise<void> {
  const found = await client.call("memory.list", { ...space, ...query });
  if (json) return io.out(jsonLine(found));
  if (found.count === 0) return io.err("nothing is remembered\n");
  io.out(rows(io, found.memories));
  const shown = query.offset + found.memories.length;
  if (shown < found.count) {
    io.err(`${shown} of ${found.count}; more with --offset ${shown}\n`);
  }
}

async function search(
  { io, client, json, space }: Asked,
  query: { query: string; limit: number },
): Promise<void> {
  const found = await client.call("memory.search", { ...space, ...query });
  if (json) return io.out(jsonLine(found));
  if (found.memories.length === 0) return io.err("nothing found\n");
  io.out(rows(io, found.memories));
}

async function show(
  { io, client, json, space }: Asked,
  id: string,
): Promise<void> {
  const found = await client.call("memory.get", { ...space, id });
  if (json) return io.out(jsonLine(found));
  const { label } = found;
  const from = label.origins.map(({ kind, ref }) => `${kind} ${ref}`.trim());
  io.out(
    [
      printable(found.text),
      "",
      `id:    ${printableLine(found.id)}, ${timeText(found.updatedAt)}`,
      `from:  ${label.integrity}: ${printableLine(from.join(", "))}`,
      `tags:  ${printableLine(found.tags.join(", ")) || "none"}${
        found.pinned ? ", pinned" : ""
      }`,
      "",
    ].join("\n"),
  );
}

async function remove(
  { io, client, json, space }: Asked,
  id: string | undefined,
): Promise<void> {
  const done = await client.call("memory.delete", {
    ...space,
    ...(id === undefined ? { all: true as const } : { id }),
  });
  io.out(json ? jsonLine(done) : `forgotten: ${done.deleted}\n`);
}

async function exportAll({ io, client, space }: Asked): Promise<void> {
  for (let offset = 0;; offset += PAGE) {
    // Ends with the last page.
    const page = { ...space, limit: PAGE, offset };
    const { memories, count } = await client.call("memory.list", page);
    for (const one of memories) io.out(jsonLine(one));
    if (memories.length === 0 || offset + PAGE >= count) return;
  }
}

async function spaces({ io, client, json }: Asked): Promise<void> {
  const found = await client.call("memory.spaces", {});
  if (json) return io.out(jsonLine(found));
  if (found.spaces.length === 0) io.err("nothing is remembered\n");
  for (const name of found.spaces) io.out(`${printableLine(name)}\n`);
}
