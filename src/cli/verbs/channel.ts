/**
 * `carapace channel`: how channels stand, and who may write through them.
 *
 * @module
 */
import { positionalsMax, readArgs, usageError } from "../args.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { agoText, makePaint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const channel: Verb = {
  name: "channel",
  about: "Show and check channels; let senders in",
  usage: [
    "carapace channel list|status [--json]",
    "carapace channel test CHANNEL [--json]",
    "carapace channel pair list [--json]",
    "carapace channel pair approve CODE [--as owner] [--json]",
    "carapace channel pair reject CODE [--json]",
    "carapace channel pair revoke CHANNEL ACCOUNT KIND CONVERSATION SENDER [--json]",
  ],
  examples: [
    "carapace channel status",
    "carapace channel pair list",
    "carapace channel pair approve 7KQ2MXPA",
    "carapace channel pair revoke plugin:ntfy default direct words words",
  ],
  needs: "gateway",
  run: runChannel,
};

type Act = (client: GatewayClient) => Promise<void>;

async function runChannel(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    as: { type: "string" },
  });
  const json = values.json === true;
  const [form, first = ""] = positionals;
  const act = ((): Act => {
    switch (form) {
      case "list":
      case "status":
        positionalsMax(positionals, 1);
        return (client) => status(io, client, json);
      case "test":
        positionalsMax(positionals, 2);
        if (first === "") throw usageError("The argument CHANNEL is missing");
        return async (client) => {
          const done = await client.call("channels.test", { channel: first });
          io.out(json ? jsonLine(done) : `${printableLine(first)} works\n`);
        };
      case "pair":
        return pairAct(io, positionals.slice(1), { as: values.as, json });
      default:
        throw usageError("Say what to do: list, status, test or pair");
    }
  })();
  using client = await openGateway(io, { roof });
  await act(client);
  return EXIT.ok;
}

async function status(
  io: Io,
  client: GatewayClient,
  json: boolean,
): Promise<void> {
  const said = await client.call("channels.status", {});
  if (json) return io.out(jsonLine(said));
  const now = io.clock.now();
  const ago = (at: number | undefined) =>
    at === undefined ? "" : agoText(at, now);
  const rows = said.channels.map((one) => [
    one.channel,
    one.accounts.join(", "),
    one.state,
    String(one.queued),
    ago(one.lastInAt),
    ago(one.lastOutAt),
    one.lastError ?? "",
  ]);
  io.out(
    table(
      ["CHANNEL", "ACCOUNTS", "STATE", "QUEUED", "IN", "OUT", "WHY"],
      rows,
      makePaint(io),
    ),
  );
}

function pairAct(
  io: Io,
  positionals: readonly string[],
  { as, json }: { as: string | undefined; json: boolean },
): Act {
  const [form, code = ""] = positionals;
  if (as !== undefined && as !== "owner" && as !== "peer") {
    throw usageError('--as is "owner" or "peer"');
  }
  if (form === "list") {
    positionalsMax([...positionals], 1);
    return (client) => pairs(io, client, json);
  }
  if (code === "") {
    throw usageError("Say: pair list, approve, reject or revoke");
  }
  if (form === "approve") {
    positionalsMax([...positionals], 2);
    const method = as === "owner"
      ? "channel.pair.owner"
      : "channel.pair.approve";
    return async (client) => {
      const done = await client.call(method, { code: code.toUpperCase() });
      const who = done.name ?? done.sender;
      io.out(
        json
          ? jsonLine(done)
          : `${
            printableLine(who)
          } may write as ${done.as}, in this ${done.kind} conversation\n`,
      );
    };
  }
  if (form === "reject") {
    positionalsMax([...positionals], 2);
    return async (client) => {
      const params = { code: code.toUpperCase() };
      const done = await client.call("channel.pair.reject", params);
      io.out(json ? jsonLine(done) : `rejected ${printableLine(code)}\n`);
    };
  }
  if (form === "revoke") return revokeAct(io, positionals.slice(1), json);
  throw usageError("Say: pair list, approve, reject or revoke");
}

function revokeAct(io: Io, place: readonly string[], json: boolean): Act {
  const [id = "", account = "", kind = "", conversation = "", sender = ""] =
    place;
  if (
    place.length !== 5 ||
    kind !== "direct" && kind !== "group" && kind !== "channel"
  ) {
    throw usageError(
      "Say which: CHANNEL ACCOUNT direct|group|channel CONVERSATION SENDER",
    );
  }
  return async (client) => {
    const params = {
      channel: id,
      account,
      kind,
      conversation,
      sender,
    } as const;
    const done = await client.call("channel.pair.revoke", params);
    io.out(json ? jsonLine(done) : "revoked\n");
  };
}

async function pairs(
  io: Io,
  client: GatewayClient,
  json: boolean,
): Promise<void> {
  const said = await client.call("channel.pair.list", {});
  if (json) return io.out(jsonLine(said));
  const now = io.clock.now();
  const rows = [
    ...said.pending.map((one) =>
      ["waits", one.code, one, one.createdAt] as const
    ),
    ...said.grants.map((one) => ["in", one.as, one, one.at] as const),
  ].map(([state, what, one, at]) => [
    state,
    what,
    one.channel,
    one.account,
    one.kind,
    one.conversation,
    one.sender,
    one.name ?? "",
    agoText(at, now),
  ]);
  io.out(
    table(
      [
        "STATE",
        "CODE/AS",
        "CHANNEL",
        "ACCOUNT",
        "KIND",
        "CONVERSATION",
        "SENDER",
        "NAME",
        "SINCE",
      ],
      rows,
      makePaint(io),
    ),
  );
}
