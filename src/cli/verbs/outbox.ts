/**
 * `carapace outbox`: messages that are on their way, and those that wait for the
 * owner: dead letters, and those nobody knows were sent.
 *
 * @module
 */
import type { OutboxSummary } from "../../core/methods/channel.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printable, printableLine } from "../printable.ts";
import { agoText, makePaint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const STATES = ["queued", "failed", "sending", "dead", "unknown"] as const;

export const outbox: Verb = {
  name: "outbox",
  about: "List, show, retry and drop messages that are not sent",
  usage: [
    `carapace outbox list [--state ${STATES.join("|")}] [--json]`,
    "carapace outbox show ID [--json]",
    "carapace outbox retry ID [--json]",
    "carapace outbox drop ID [--json]",
  ],
  examples: [
    "carapace outbox list --state unknown",
    "carapace outbox retry out_01jabc",
  ],
  needs: "gateway",
  run: runOutbox,
};

async function runOutbox(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    state: { type: "string" },
  });
  const [action, id = ""] = positionals;
  positionalsMax(positionals, action === "list" ? 1 : 2);
  const json = values.json === true;
  const state = STATES.find((one) => one === values.state);
  if (values.state !== undefined && state === undefined) {
    throw usageError(
      `There is no state "${values.state}": ${STATES.join(", ")}`,
    );
  }
  const acts: Record<string, (client: GatewayClient) => Promise<void>> = {
    list: (client) => list(io, client, { state, json }),
    show: (client) => show(io, client, { id, json }),
    retry: async (client) => {
      const done = await client.call("outbox.retry", { id });
      io.out(json ? jsonLine(done) : `${done.id}: ${done.state}\n`);
    },
    drop: async (client) => {
      const done = await client.call("outbox.drop", { id });
      io.out(json ? jsonLine(done) : `dropped ${printableLine(id)}\n`);
    },
  };
  const act = acts[action ?? ""];
  if (act === undefined) {
    throw usageError("Say what to do: list, show, retry or drop");
  }
  if (action !== "list" && id === "") {
    throw usageError("The argument ID is missing");
  }
  using client = await openGateway(io, { roof });
  await act(client);
  return EXIT.ok;
}

async function list(
  io: Io,
  client: GatewayClient,
  { state, json }: { state: typeof STATES[number] | undefined; json: boolean },
): Promise<void> {
  const said = await client.call(
    "outbox.list",
    state === undefined ? {} : { state },
  );
  if (json) return io.out(jsonLine(said));
  const now = io.clock.now();
  const rows = said.messages.map((row: OutboxSummary) => [
    row.id,
    row.to,
    row.state,
    String(row.attempts),
    agoText(row.createdAt, now),
    row.lastError ?? "",
  ]);
  io.out(
    table(["ID", "TO", "STATE", "TRIES", "SINCE", "WHY"], rows, makePaint(io)),
  );
}

async function show(
  io: Io,
  client: GatewayClient,
  { id, json }: { id: string; json: boolean },
): Promise<void> {
  const said = await client.call("outbox.show", { id });
  if (json) return io.out(jsonLine(said));
  const { message, parts } = said;
  const facts = [
    ["to", message.to],
    ["state", `${message.state} after ${message.attempts} tries`],
    ["by", message.by],
    ...message.lastError === undefined ? [] : [["why", message.lastError]],
  ];
  for (const [name = "", value = ""] of facts) {
    io.out(`${name.padEnd(6)} ${printableLine(value)}\n`);
  }
  for (const { text, integrity, secrecy } of parts) {
    const whose = secrecy.length === 0 ? "public" : secrecy.join(", ");
    io.out(`\n(${integrity}; ${printableLine(whose)})\n${printable(text)}\n`);
  }
}
