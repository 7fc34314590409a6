/**
 * Kills a gateway with SIGKILL in the middle of streamed turns, starts it again,
 * and checks that nothing acknowledged was lost and nothing was done twice.
 *
 *     deno task crash --times 100 [--seed N]
 */
import { parseArgs } from "node:util";
import { GatewayClient } from "../src/remote/client.ts";
import { Secret } from "../src/core/secret.ts";
import { systemClock } from "../src/core/time.ts";
import { fakeOpenai } from "./fakes/openai.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  listening,
  Proc,
  root,
  scratch,
} from "./process/processes.ts";

const CHUNKS = 24;
const SESSION = "agent:main:main";
const TOKEN = `crash_${crypto.randomUUID()}`;

/** A small seeded generator (mulberry32), so that a failure can be repeated. */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What became of one message. */
interface Sent {
  text: string;
  runId: string;
}

/** A started gateway: its launcher, and a client that is connected. */
class Gateway implements AsyncDisposable {
  readonly proc: Proc;
  readonly port: number;

  constructor(options: { dir: string; port: number; provider: string }) {
    this.port = options.port;
    this.proc = new Proc(
      ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, "start"],
      {
        env: {
          CARAPACE_STATE_DIR: options.dir,
          CARAPACE_PORT: String(options.port),
          CARAPACE_TOKEN: TOKEN,
          OPENAI_BASE_URL: options.provider,
          OPENAI_API_KEY: "fake",
          CARAPACE_MODEL: "openai:gpt-test",
        },
      },
    );
  }

  async connect(): Promise<GatewayClient> {
    await listening(this.port);
    return await GatewayClient.connect({
      url: `ws://127.0.0.1:${this.port}/ws`,
      token: new Secret(TOKEN, "crash"),
      tokenHint: "",
    }, { clock: systemClock });
  }

  /** Kills the service, not its launcher, as a fault would. */
  async kill(client: GatewayClient): Promise<void> {
    const { runtime } = await client.call("status", {});
    Deno.kill(runtime.pid, "SIGKILL");
    await this.proc.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proc[Symbol.asyncDispose]();
  }
}

/** Sends one message and kills the gateway after so many pieces of the answer. */
async function crashOnce(
  gateway: Gateway,
  text: string,
  afterPieces: number,
): Promise<Sent> {
  using client = await gateway.connect();
  let pieces = 0;
  const reached = Promise.withResolvers<void>();
  using _listening = client.listen((notice) => {
    if (notice.kind !== "event" || notice.event !== "chat") return;
    const { state } = notice.payload as { state: string };
    if (state !== "delta" || ++pieces >= afterPieces) reached.resolve();
  });
  const { runId } = await client.call("chat.send", {
    sessionKey: SESSION,
    message: text,
    idempotencyKey: text,
  });
  if (afterPieces > 0) await reached.promise;
  await gateway.kill(client);
  return { text, runId };
}

/** After the restart the turn must be over, with its answer or a stated reason. */
async function checkTurn(client: GatewayClient, sent: Sent): Promise<string> {
  const again = await client.call("chat.send", {
    sessionKey: SESSION,
    message: sent.text,
    idempotencyKey: sent.text,
  });
  if (again.status !== "duplicate" || again.runId !== sent.runId) {
    throw new RangeError(`"${sent.text}" was taken twice: ${again.status}`);
  }
  const outcome = await client.call("agent.wait", {
    runId: sent.runId,
    timeoutMs: 20_000,
  });
  if (outcome.status === "timeout") {
    throw new RangeError(`"${sent.text}" has no end after the restart`);
  }
  if (outcome.status === "error" && (outcome.error ?? "") === "") {
    throw new RangeError(`"${sent.text}" ended without a reason`);
  }
  return outcome.status;
}

/** The whole transcript: each message once, each turn's answer at most once. */
async function checkTranscript(
  client: GatewayClient,
  all: readonly Sent[],
): Promise<void> {
  const { messages } = await client.call("chat.history", {
    sessionKey: SESSION,
    limit: 1000,
  });
  const users = messages.filter((m) => m.role === "user");
  const texts = users.map((m) => JSON.stringify(m.content));
  for (const { text, runId } of all.slice(-400)) {
    const count = texts.filter((t) => t.includes(`"${text}"`)).length;
    if (count !== 1) {
      throw new RangeError(`"${text}" is in the session ${count} times`);
    }
    const answers = messages.filter((m) =>
      m.role === "assistant" && m.runId === runId
    );
    if (answers.length > 1) {
      throw new RangeError(`"${text}" was answered ${answers.length} times`);
    }
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      times: { type: "string", default: "100" },
      seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    },
  });
  const times = Number(values.times);
  const random = seeded(Number(values.seed));
  console.log(`${times} times, seed ${values.seed}`);
  await using dir = await scratch();
  await using fake = await fakeOpenai({
    script: () => ({
      text: Array.from({ length: CHUNKS }, (_, n) => `piece ${n} `),
      before: async () => await systemClock.sleep(3),
    }),
  });
  const port = freePort();
  const all: Sent[] = [];
  const tally: Record<string, number> = {};
  for (let n = 1; n <= times; n++) {
    {
      const options = { dir: dir.path, port, provider: fake.url };
      await using gateway = new Gateway(options);
      const pieces = Math.floor(random() * (CHUNKS + 2));
      all.push(await crashOnce(gateway, `message ${n} of ${times}`, pieces));
    }
    await using gateway = new Gateway({
      dir: dir.path,
      port,
      provider: fake.url,
    });
    using client = await gateway.connect();
    const last = all.at(-1);
    if (last === undefined) continue;
    const status = await checkTurn(client, last);
    tally[status] = (tally[status] ?? 0) + 1;
    await checkTranscript(client, all);
    gateway.proc.child.kill("SIGTERM");
    await gateway.proc.status;
    if (n % 10 === 0) console.log(`${n}: ${JSON.stringify(tally)}`);
  }
  console.log(`no loss, no duplicate in ${times}: ${JSON.stringify(tally)}`);
}

if (import.meta.main) {
  // deno-lint-ignore no-top-level-await
  await main();
}
