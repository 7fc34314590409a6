/**
 * `carapace mcp login` and `logout`: the owner's browser, wherever it is.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { readLine } from "../line.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { awaitRedirect } from "../redirect.ts";
import { EXIT, type Io } from "../verb.ts";

/** Characters of a pasted address. */
const ADDRESS_CHARS_MAX = 16_384;

/** What a login is asked for. */
export interface LoginOptions {
  server: string;
  issuer?: string | undefined;
  paste: boolean;
  json: boolean;
}

/** Logs in: prints the address, waits for the browser's answer, finishes. */
export async function login(
  io: Io,
  client: GatewayClient,
  { server, issuer, paste, json }: LoginOptions,
): Promise<number> {
  const begun = await client.call("mcp.login.start", {
    server,
    ...(issuer === undefined ? {} : { issuer }),
  });
  const address = new URL(begun.url);
  const state = address.searchParams.get("state") ?? "";
  await using redirected = paste
    ? undefined
    : awaitRedirect(begun.redirectUri, state);
  const waits = redirected !== undefined;
  if (json) io.out(jsonLine({ ...begun, waits }));
  else {
    const scopes = begun.scopes.map((scope) => printableLine(scope)).join(" ");
    io.out(
      `Log in at ${printableLine(begun.issuer)}${
        scopes === "" ? "" : ` for: ${scopes}`
      }. Open in a browser:\n\n${address.href}\n\n`,
    );
  }
  const url = waits
    ? await waited(io, redirected.address, begun.expiresAt)
    : await pasted(io, begun.redirectUri);
  const done = await client.call("mcp.login.finish", { server, url });
  if (json) io.out(jsonLine(done));
  else {
    const until = done.expiresAt === undefined || done.renews
      ? ""
      : ` until ${new Date(done.expiresAt).toISOString()}`;
    io.out(`logged in to ${printableLine(server)}${until}\n`);
  }
  return EXIT.ok;
}

/** Ends a login. */
export async function logout(
  io: Io,
  client: GatewayClient,
  { server, json }: { server: string; json: boolean },
): Promise<number> {
  const done = await client.call("mcp.logout", { server });
  io.out(
    json
      ? jsonLine(done)
      : `logged out of ${printableLine(server)}${
        done.revoked ? "" : "; its server was not told, or took no notice"
      }\n`,
  );
  return EXIT.ok;
}

async function waited(
  io: Io,
  address: Promise<string>,
  expiresAt: number,
): Promise<string> {
  io.err(
    "Waiting for the browser to come back to this machine. If yours is another, " +
      "stop this and use --paste\n",
  );
  const ending = new AbortController();
  using _ = io.onInterrupt(() => ending.abort());
  const late = io.clock.sleep(
    Math.max(0, expiresAt - io.clock.now()),
    ending.signal,
  ).then(() => undefined, () => undefined);
  const came = await Promise.race([address, late]);
  const isStopped = ending.signal.aborted;
  ending.abort();
  if (came !== undefined) return came;
  throw new AppError(
    isStopped ? "cancelled" : "timeout",
    "Cannot log in: the browser did not come back",
    { hint: "Begin again, with --paste if the browser is on another machine" },
  );
}

async function pasted(io: Io, redirectUri: string): Promise<string> {
  io.err(
    `The browser ends at an address that begins with ${
      printableLine(redirectUri)
    }, and may say that nothing is there.\nPaste that whole address: `,
  );
  const url = (await readLine(io, ADDRESS_CHARS_MAX)).trim();
  if (url !== "") return url;
  throw new AppError("bad_input", "Cannot log in: no address was given", {
    hint: "Paste the whole address the browser ended at",
  });
}
