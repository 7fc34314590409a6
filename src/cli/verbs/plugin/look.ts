/**
 * `carapace plugin list`, `info`, `logs` and `call`: looking at installed
 * plugins, and running their tools.
 *
 * @module
 */
import { AppError } from "../../../core/errors.ts";
import type { PluginSummary } from "../../../core/methods/plugin.ts";
import { usageError } from "../../args.ts";
import { idOf, type PluginAsked } from "./asked.ts";
import { openLink, type PluginLink } from "./link.ts";
import { jsonLine, printable, printableLine } from "../../printable.ts";
import { makePaint, table, timeText } from "../../term.ts";
import { EXIT } from "../../verb.ts";

/** Prints how a plugin stands; failing when it should run and does not. */
export async function show(
  { io, json }: PluginAsked,
  link: PluginLink,
  id: string,
): Promise<number> {
  const { plugins } = await link.call("plugins.list", {});
  const view = plugins.find((one) => one.id === id);
  if (view === undefined) return EXIT.failed;
  if (json) io.out(jsonLine(view));
  else io.out(`${standing(view)}\n`);
  const isBad = view.state === "blocked" || view.state === "stopped";
  return isBad ? EXIT.failed : EXIT.ok;
}

function standing(view: PluginSummary): string {
  const why = view.why === undefined || view.why === ""
    ? ""
    : `: ${printableLine(view.why)}`;
  const tools = view.tools.map(({ name }) => name).join(", ");
  const offers = view.state !== "ready" || tools === ""
    ? ""
    : `; tools: ${tools}`;
  return `${view.id} ${
    printableLine(view.version)
  } is ${view.state}${why}${offers}`;
}

/** Every installed plugin, a line each. */
export async function list({ io, roof, json }: PluginAsked): Promise<number> {
  await using link = await openLink(io, roof);
  const { plugins } = await link.call("plugins.list", {});
  if (json) {
    io.out(jsonLine({ plugins }));
    return EXIT.ok;
  }
  if (plugins.length === 0) {
    io.err('No plugins: try "carapace plugin install plugins/qr"\n');
    return EXIT.ok;
  }
  const rows = plugins.map((view) => [
    view.id,
    view.version,
    view.state,
    view.trusted ? view.publisher : "nobody",
    view.tools.map(({ name }) => name).join(" "),
  ]);
  io.out(
    table(["ID", "VERSION", "STATE", "TRUSTED", "TOOLS"], rows, makePaint(io)),
  );
  return EXIT.ok;
}

/** All there is to know of one plugin. */
export async function info(
  { io, roof, json }: PluginAsked,
  id: string,
): Promise<number> {
  await using link = await openLink(io, roof);
  const { plugins } = await link.call("plugins.list", {});
  const view = plugins.find((one) => one.id === id);
  if (view === undefined) {
    throw new AppError("not_found", `There is no plugin "${id}"`, {
      hint: 'Run "carapace plugin list"',
    });
  }
  if (json) {
    io.out(jsonLine(view));
    return EXIT.ok;
  }
  const lines = [
    standing(view),
    view.description,
    view.trusted
      ? `signed by "${view.publisher}"`
      : `says it is by "${view.publisher}"; nobody you trust vouches for it`,
    `installed ${timeText(view.installedAt)} from ${view.source}`,
    `module ${view.sha256}`,
    ...view.tools.map((tool) => `tool ${tool.name}: ${tool.description}`),
    ...view.webhooks.map((path) => `webhook ${path}`),
    ...view.hooks.map((point) => `hook ${point}`),
    ...view.channel ? ["channel"] : [],
    ...view.wants.map((words) => `wants to ${words}`),
    ...view.missing.map((words) => `was not granted to ${words}`),
  ];
  io.out(lines.map((line) => `${printableLine(line)}\n`).join(""));
  return EXIT.ok;
}

/** Runs a tool and prints what it says. */
export async function callTool(
  { io, roof, json }: PluginAsked,
  id: string,
  call: { tool: string; json: string | undefined },
): Promise<number> {
  let args: unknown;
  try {
    args = JSON.parse(call.json ?? "{}");
  } catch {
    throw usageError("The arguments of a tool are JSON", `Like '{"text":"a"}'`);
  }
  if (typeof args !== "object" || args === null || Array.isArray(args)) {
    throw usageError("The arguments of a tool are a JSON object");
  }
  await using link = await openLink(io, roof);
  const result = await link.call("plugins.call", {
    id: idOf(id),
    tool: call.tool,
    args: args as Record<string, unknown>,
  });
  if (json) io.out(jsonLine(result));
  else io.out(`${printable(result.output).replace(/\n$/, "")}\n`);
  return EXIT.ok;
}

/** The last lines of a plugin's log. */
export async function logs(
  { io, roof, json }: PluginAsked,
  id: string,
  limit: string | undefined,
): Promise<number> {
  const count = Number(limit ?? 100);
  if (!Number.isInteger(count) || count < 1 || count > 1000) {
    throw usageError(`Cannot show "${limit}" lines: say a number up to 1000`);
  }
  await using link = await openLink(io, roof);
  const { lines } = await link.call("plugins.logs", {
    id: idOf(id),
    limit: count,
  });
  if (json) io.out(jsonLine({ lines }));
  else {
    for (const { at, level, text } of lines) {
      io.out(`${timeText(at)} ${level} ${printableLine(text)}\n`);
    }
  }
  return EXIT.ok;
}
