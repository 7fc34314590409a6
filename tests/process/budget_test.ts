/**
 * Spending on real processes: what a kill leaves open counts as spent, the
 * first start says what may be spent, and a spent budget stops the next turn.
 */
import assert from "node:assert/strict";
import { GatewayClient } from "../../src/remote/client.ts";
import { Secret } from "../../src/core/secret.ts";
import { systemClock } from "../../src/core/time.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { freePort, LAUNCHER_FLAGS, Proc, scratch, until } from "./processes.ts";

const TOKEN = "a-token-for-budget-tests-0001";
const CONFIG = {
  prices: { "openai:gpt-test": { input: 10, output: 100 } },
  budgets: { usdPerDay: 2 },
  limits: { outputTokensMax: 10_000 },
};

interface Service extends AsyncDisposable {
  proc: Proc;
  client: GatewayClient;
}

async function start(
  options: { state: string; port: number; vendor: string },
): Promise<Service> {
  const { state, port, vendor } = options;
  const proc = new Proc(["run", ...LAUNCHER_FLAGS, "src/launch.ts", "start"], {
    env: {
      CARAPACE_STATE_DIR: state,
      CARAPACE_PORT: String(port),
      CARAPACE_TOKEN: TOKEN,
      OPENAI_BASE_URL: vendor,
      OPENAI_API_KEY: "fake",
      CARAPACE_MODEL: "openai:gpt-test",
    },
  });
  await until("the service's start", async () => {
    try {
      const answer = await fetch(`http://127.0.0.1:${port}/health/live`);
      await answer.body?.cancel();
      return answer.ok;
    } catch {
      return false; // nobody listens yet
    }
  });
  const client = await GatewayClient.connect({
    url: `ws://127.0.0.1:${port}/ws`,
    token: new Secret(TOKEN, "test"),
    tokenHint: "",
  }, { clock: systemClock });
  return {
    proc,
    client,
    [Symbol.asyncDispose]: async () => {
      client[Symbol.dispose]();
      await proc[Symbol.asyncDispose]();
    },
  };
}

/** As an editor does it: a reader sees the old file or the new one. */
async function writeConfig(state: string, config: unknown): Promise<void> {
  const text = JSON.stringify(config);
  await Deno.writeTextFile(`${state}/new`, text, { mode: 0o600 });
  await Deno.rename(`${state}/new`, `${state}/carapace.jsonc`);
}

Deno.test("a call that kill -9 cut off counts as spent, and the day's limit holds after it", async () => {
  await using state = await scratch();
  let isHanging = true;
  const asked = Promise.withResolvers<void>();
  await using vendor = await fakeOpenai({
    script: () => ({
      text: ["Hello"],
      usage: { input: 1000, output: 100 },
      before: async () => {
        asked.resolve();
        while (isHanging) await systemClock.sleep(10);
      },
    }),
  });
  await writeConfig(state.path, CONFIG);
  const port = freePort();
  const options = { state: state.path, port, vendor: vendor.url };
  const send = (client: GatewayClient, id: string) =>
    client.call("chat.send", {
      sessionKey: `agent:main:test:${id}`,
      message: "hi",
      idempotencyKey: id,
    });
  let reserved = 0;
  {
    await using first = await start(options);
    await first.proc.line((line) => /budget +\$2\.00 a day/.test(line));
    await send(first.client, "one");
    await asked.promise;
    const { budgets } = await first.client.call("usage.budget", {});
    const [day] = budgets;
    reserved = day?.reserved ?? 0;
    // 10,000 tokens of output at 100 $ a million, and the prompt.
    assert.ok(reserved > 1 && reserved < 1.2, `${reserved}`);
    assert.equal(day?.spent, 0);
    const { runtime } = await first.client.call("status", {});
    Deno.kill(runtime.pid, "SIGKILL");
    await first.proc.status;
  }
  isHanging = false;
  await using second = await start(options);
  const status = async () => await second.client.call("usage.status", {});
  // The run is taken up again; it may not fit any more, or be paid a second time.
  await until("the resumed run's end", async () => {
    const { runs } = await second.client.call("status", {});
    return runs.running + runs.queued === 0;
  });
  const { today, budgets } = await status();
  assert.ok(today.usd >= reserved, `${today.usd} told, ${reserved} reserved`);
  assert.equal(budgets[0]?.reserved, 0);
  const { rows } = await second.client.call("usage.cost", { by: "model" });
  assert.deepEqual(rows.map(({ name }) => name), ["openai:gpt-test"]);
  const told: unknown[] = [];
  using _listening = second.client.listen((notice) => {
    if (notice.kind === "event" && notice.event === "usage.budget") {
      told.push(notice.payload);
    }
  });
  // A limit holds from the next call on, without a restart.
  await writeConfig(state.path, { ...CONFIG, budgets: { usdPerDay: 1.9 } });
  await until("the new limit", async () => {
    const { budgets } = await second.client.call("usage.budget", {});
    return budgets[0]?.limit === 1.9;
  });
  // What is left of it is less than one call may take.
  const { runId } = await send(second.client, "two");
  const outcome = await second.client.call("agent.wait", { runId });
  assert.equal(outcome.status, "error");
  assert.match(outcome.error ?? "", /the day's budget of \$1\.90/);
  await until("the event", () => told.length > 0);
  assert.partialDeepStrictEqual(told[0], {
    state: "refused",
    scope: "day",
    meter: "usd",
    limit: 1.9,
    because: "budgets.usdPerDay",
  });
  const env = {
    CARAPACE_STATE_DIR: state.path,
    CARAPACE_PORT: String(port),
    CARAPACE_TOKEN: TOKEN,
  };
  const carapace = async (...args: string[]) => {
    await using proc = new Proc(
      ["run", ...LAUNCHER_FLAGS, "src/launch.ts", ...args],
      { env },
    );
    assert.equal(await proc.code(), 0, proc.err.join("\n"));
    return proc.out.join("\n");
  };
  assert.match(
    await carapace("usage", "--by", "model"),
    /^MODEL .*\nopenai:gpt-test +\d+ .*\$1\.\d\d/,
  );
  assert.match(
    await carapace("budget"),
    /^day +money +\$1\.\d\d +\$1\.90 +\d+ % +budgets\.usdPerDay$/m,
  );
  second.proc.child.kill("SIGTERM");
  assert.equal(await second.proc.code(), 0);
});
