/** A whole gateway as `deno task start` runs it, and the ways to talk to it. */
import OpenAI from "openai";
import { GatewayClient } from "../../src/remote/client.ts";
import { Secret } from "../../src/core/secret.ts";
import { systemClock } from "../../src/core/time.ts";
import type { Fake } from "../fakes/vendor.ts";
import { freePort, LAUNCHER_FLAGS, Proc, root } from "./processes.ts";

/** A launcher and the service behind it. */
export interface Gateway extends AsyncDisposable {
  proc: Proc;
  port: number;
  dir: string;
  url: string;
}

/** Starts one and waits for its banner. */
export async function start(
  options: { dir: string; port?: number; env?: Record<string, string> },
): Promise<Gateway> {
  const port = options.port ?? freePort();
  const proc = new Proc(
    ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, "start"],
    {
      env: {
        CARAPACE_STATE_DIR: options.dir,
        CARAPACE_PORT: String(port),
        ...options.env,
      },
    },
  );
  try {
    await proc.line((line) => line.includes("next "));
  } catch (error) {
    await proc[Symbol.asyncDispose]();
    throw error;
  }
  return {
    proc,
    port,
    dir: options.dir,
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: () => proc[Symbol.asyncDispose](),
  };
}

/** The environment of a gateway whose only provider is a fake. */
export function providedBy(fake: Fake): Record<string, string> {
  return {
    OPENAI_BASE_URL: fake.url,
    OPENAI_API_KEY: "sk-fake-key-of-this-test",
    CARAPACE_MODEL: "openai:gpt-test",
  };
}

/** The owner's token, as the command line reads it. */
export async function tokenOf(
  { dir }: Pick<Gateway, "dir">,
): Promise<string> {
  return (await Deno.readTextFile(`${dir}/cli-token`)).trim();
}

/** A client with the owner's token, or another. */
export async function client(
  gateway: Gateway,
  token?: string,
): Promise<GatewayClient> {
  return await GatewayClient.connect({
    url: `ws://127.0.0.1:${gateway.port}/ws`,
    token: new Secret(token ?? await tokenOf(gateway), "test"),
    tokenHint: "",
  }, { clock: systemClock });
}

/** The official client with the owner's token. */
export async function openai(gateway: Gateway): Promise<OpenAI> {
  return new OpenAI({
    baseURL: `${gateway.url}/v1`,
    apiKey: await tokenOf(gateway),
    maxRetries: 0,
  });
}

/** The service's process id, as it says itself. */
export async function servicePid(one: GatewayClient): Promise<number> {
  return (await one.call("status", {})).runtime.pid;
}

/** A message and its whole answer, in the owner's main session. */
export async function ask(
  one: GatewayClient,
  message: string,
): Promise<{ runId: string; status: string; reply: string; error: string }> {
  const { runId } = await one.call("chat.send", {
    sessionKey: "main",
    message,
    idempotencyKey: crypto.randomUUID(),
  });
  const { status, reply = "", error = "" } = await one.call("agent.wait", {
    runId,
    timeoutMs: 15_000,
  });
  return { runId, status, reply, error };
}
