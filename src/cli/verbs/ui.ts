/**
 * `carapace ui`: a link that opens the page and pairs the browser that opens
 * it. The code in it stands behind `#`, which browsers send to nobody.
 *
 * @module
 */
import { positionalsMax, readArgs } from "../args.ts";
import { connectTrusted, findStateDir } from "../gateway.ts";
import { locateGateway } from "../locate.ts";
import { jsonLine } from "../printable.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

/** What the page asks for; `tests/ui` compares it with the page's own list. */
const SCOPES = ["read", "write", "approvals"];

export const ui: Verb = {
  name: "ui",
  about: "Make a link that opens the page in a browser and pairs it",
  usage: ["carapace ui [--json]"],
  examples: ["carapace ui"],
  needs: "gateway",
  run: runUi,
};

/** Where a browser finds the page of a gateway whose WebSocket is here. */
function pageOf(socketUrl: string): string {
  const { protocol, host } = new URL(socketUrl);
  return `${protocol === "wss:" ? "https" : "http"}://${host}/ui/`;
}

async function runUi(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {});
  positionalsMax(positionals, 0);
  const stateDir = await findStateDir(io);
  const address = await locateGateway(io, { roof, stateDir });
  using client = await connectTrusted(io, { address, stateDir });
  const { code, expiresAt, inviteId } = await client.call(
    "device.bootstrap.create",
    { scopes: SCOPES, as: "owner", name: "browser" },
  );
  const url = `${pageOf(address.url)}#code=${code}`;
  if (values.json === true) {
    io.out(jsonLine({ url, inviteId, expiresAt }));
    return EXIT.ok;
  }
  const minutes = Math.round((expiresAt - io.clock.now()) / 60_000);
  io.out(`${url}\n`);
  io.err(
    `Open it in the browser that is to talk to the gateway; it pairs the first that does, once, within ${minutes} minutes\n`,
  );
  return EXIT.ok;
}
