/**
 * `carapace send`: your own words to a channel's address, by the outbox.
 *
 * @module
 */
import { decodeUtf8, readBytes } from "../../core/bounded.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const TEXT_BYTES_MAX = 65_536;

export const send: Verb = {
  name: "send",
  about: "Send a message by a channel",
  usage: [
    "carapace send TO TEXT [--key KEY] [--json]",
    "carapace send TO -     (the text from standard input)",
  ],
  examples: [
    'carapace send webhook/alerts "The backup is done"',
    "carapace send plugin:ntfy/default/my-topic hello --key backup-1",
    "df -h | carapace send webhook/alerts -",
  ],
  needs: "gateway",
  run: runSend,
};

async function runSend(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    key: { type: "string" },
  });
  positionalsMax(positionals, 2);
  const [to = "", given = ""] = positionals;
  if (to === "") throw usageError("The argument TO is missing");
  const message = given === "-"
    ? decodeUtf8(await readBytes(io.stdin, TEXT_BYTES_MAX))
    : given;
  if (message === "") throw usageError("The argument TEXT is missing");
  using client = await openGateway(io, { roof });
  const idempotencyKey = values.key ?? crypto.randomUUID();
  const done = await client.call("send", { to, message, idempotencyKey });
  io.out(
    values.json === true
      ? jsonLine(done)
      : `${done.messageId} to ${printableLine(done.to)}: ${done.state}\n`,
  );
  return EXIT.ok;
}
