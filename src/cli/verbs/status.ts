/**
 * `carapace status`: what the gateway says of itself.
 *
 * @module
 */
import type { StatusPayload } from "../../core/methods.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { positionalsMax, readArgs } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printableLine } from "../printable.ts";
import {
  agoText,
  durationText,
  makePaint,
  type Paint,
  pairs,
  sizeText,
  table,
} from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const status: Verb = {
  name: "status",
  about: "Show what runs, for how long, and under which sandbox",
  usage: ["carapace status [--json]"],
  examples: ["carapace status", "carapace status --json | jq .runs"],
  needs: "gateway",
  run: runStatus,
};

async function runStatus(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {});
  positionalsMax(positionals, 0);
  using client = await openGateway(io, { roof });
  const payload = await client.call("status", {});
  if (values.json === true) io.out(jsonLine(payload));
  else {
    const paint = makePaint(io);
    io.out(statusText(payload, { paint, now: io.clock.now() }));
    io.out(await pendingText(client, paint));
  }
  return EXIT.ok;
}

/** Devices that wait for an answer, for whoever may give it. */
async function pendingText(
  client: GatewayClient,
  paint: Paint,
): Promise<string> {
  const may = client.hello.features.methods.includes("device.pair.list");
  if (!may) return "";
  const { pending } = await client.call("device.pair.list", {});
  if (pending.length === 0) return "";
  const ask = pending.length === 1
    ? "1 device asks"
    : `${pending.length} devices ask`;
  return `\n${paint("yellow", `${ask} to be paired: carapace device list`)}\n`;
}

/** The status as people read it. */
export function statusText(
  payload: StatusPayload,
  options: { paint: Paint; now: number },
): string {
  const { paint, now } = options;
  const { runtime, runs, sessions, posture, model, safeMode } = payload;
  const channels = Object.keys(payload.channels);
  const head = safeMode === undefined
    ? ""
    : `${paint("red", `safe mode: ${printableLine(safeMode)}`)}\n`;
  const sandbox = posture.sandboxOff
    ? paint("red", "OFF: the program can do what you can do")
    : `on, ${posture.refused} of ${posture.tried} forbidden acts refused`;
  const body = pairs([
    ["version", `${payload.version} (${runtime.name} ${runtime.version})`],
    ["up", `${durationText(payload.uptimeMs)}, process ${runtime.pid}`],
    ["memory", sizeText(runtime.rssBytes)],
    ["model", `${model.id} (${model.because})`],
    ["runs", `${runs.running} running, ${runs.queued} waiting`],
    ["channels", channels.length === 0 ? "none" : channels.join(", ")],
    ["sessions", String(sessions.count)],
  ], paint);
  const recent = sessions.recent.length === 0 ? "" : `\n${
    table(
      ["SESSION", "USED", "MODEL"],
      sessions.recent.map((session) => [
        session.key,
        agoText(session.updatedAt, now),
        session.model ?? "",
      ]),
      paint,
    )
  }`;
  return `${head}${body}${paint("dim", "sandbox ")}  ${sandbox}\n${recent}`;
}
