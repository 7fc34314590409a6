/** Verbs of the command line as processes, and gateways made by them. */
import assert from "node:assert/strict";
import { EXIT } from "../../src/core/exit.ts";
import { type Gateway, start } from "./gateways.ts";
import { freePort, LAUNCHER_FLAGS, Proc, root } from "./processes.ts";

/** How a verb ended. */
export interface Ran {
  code: number;
  out: string;
  err: string;
}

/** Any verb, as `deno task carapace` runs it. */
export async function carapace(
  dir: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Ran> {
  await using proc = new Proc(
    ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, ...args],
    { env: { CARAPACE_STATE_DIR: dir, ...env } },
  );
  const code = await proc.code();
  return { code, out: proc.out.join("\n"), err: proc.err.join("\n") };
}

/** A verb that has to succeed; its output. */
export async function good(
  dir: string,
  args: readonly string[],
): Promise<string> {
  const ran = await carapace(dir, args);
  assert.equal(ran.code, EXIT.ok, ran.err);
  return ran.out;
}

/** A gateway whose certificate was made by the verbs, on loopback. */
export async function startTls(
  dir: string,
  env: Record<string, string> = {},
): Promise<Gateway> {
  await good(dir, ["tls", "init"]);
  await good(dir, ["tls", "issue", "gw.example.com"]);
  await good(dir, ["tls", "use"]);
  const port = freePort();
  await good(dir, ["config", "set", "gateway.port", String(port)]);
  return await start({ dir, port, env });
}

/** The key a gateway shows. */
export async function keyOf(dir: string): Promise<string> {
  return JSON.parse(await good(dir, ["tls", "show", "--json"])).server.key;
}
