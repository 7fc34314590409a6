/**
 * Two gateways, each a launcher and a service of its own: an agent of the near
 * one is on the far one, over TLS made by `carapace tls`.
 */
import assert from "node:assert/strict";
import type { GatewayClient } from "../../src/remote/client.ts";
import { runTurn, type TurnNotice } from "../../src/remote/run_turn.ts";
import { systemClock } from "../../src/core/time.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import type { Fake, Say } from "../fakes/vendor.ts";
import {
  client,
  type Gateway,
  providedBy,
  servicePid,
  start,
} from "./gateways.ts";
import { freePort, scratch, until } from "./processes.ts";
import { good, keyOf, startTls } from "./verbs.ts";

interface Pair extends AsyncDisposable {
  vendor: Fake;
  far: Gateway;
  near: Gateway;
  /** Starts the one that was killed again. */
  again(which: "far" | "near"): Promise<Gateway>;
  farClient(): Promise<GatewayClient>;
}

/** What a client of the far gateway needs to believe it. */
async function trusting(gateway: Gateway): Promise<GatewayClient> {
  const { GatewayClient } = await import("../../src/remote/client.ts");
  const { makeTrust } = await import("../../src/remote/trust.ts");
  const { Secret } = await import("../../src/core/secret.ts");
  const { tokenOf } = await import("./gateways.ts");
  return await GatewayClient.connect({
    url: `wss://127.0.0.1:${gateway.port}/ws`,
    token: new Secret(await tokenOf(gateway), "test"),
    tokenHint: "",
    trust: makeTrust({ host: "far", pin: await keyOf(gateway.dir) }),
  }, { clock: systemClock });
}

async function openPair(): Promise<Pair> {
  const stack = new AsyncDisposableStack();
  const farDir = stack.use(await scratch()).path;
  const nearDir = stack.use(await scratch()).path;
  const vendor = stack.use(await fakeOpenai());
  const gateways = {
    far: undefined as unknown as Gateway,
    near: undefined as unknown as Gateway,
  };
  stack.defer(async () => {
    await gateways.near?.[Symbol.asyncDispose]();
    await gateways.far?.[Symbol.asyncDispose]();
  });
  gateways.far = await startTls(farDir, providedBy(vendor));
  const { port } = gateways.far;
  const made = await good(farDir, [
    ...["token", "create", "near", "--scopes", "read,chat", "--json"],
  ]);
  const file = `${nearDir}/far.token`;
  await Deno.writeTextFile(file, JSON.parse(made).token, { mode: 0o600 });
  await good(nearDir, [
    ...["remote", "add", "far", `wss://127.0.0.1:${port}`],
    ...["--token", file, "--pin", await keyOf(farDir)],
  ]);
  await Deno.remove(file);
  await good(nearDir, ["remote", "test", "far"]);
  await good(nearDir, ["config", "set", "agents.main.remote", "far"]);
  const nearPort = freePort();
  gateways.near = await start({ dir: nearDir, port: nearPort });
  return {
    vendor,
    get far() {
      return gateways.far;
    },
    get near() {
      return gateways.near;
    },
    again: async (which) => {
      const { dir, port } = gateways[which];
      await gateways[which][Symbol.asyncDispose]();
      const env = which === "far" ? providedBy(vendor) : {};
      return gateways[which] = await start({ dir, port, env });
    },
    farClient: () => trusting(gateways.far),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** An answer that stops before a word until its gate is opened. */
function gated(say: Say, word: string): { say: Say; open(): void } {
  const gate = Promise.withResolvers<void>();
  const before = async (wire: string) => {
    if (wire.includes(word)) await gate.promise;
  };
  return { say: { ...say, before }, open: gate.resolve };
}

/** Takes a turn and keeps what came. */
function take(on: GatewayClient, message: string, signal?: AbortSignal) {
  const seen: TurnNotice[] = [];
  const turn = runTurn(on, { sessionKey: "main", message }, {
    clock: systemClock,
    ...(signal === undefined ? {} : { signal }),
  });
  const done = (async () => {
    for await (const notice of turn) seen.push(notice);
  })();
  done.catch(() => {}); // said where the end is asked for
  const text = () =>
    seen.map((one) => one.kind === "text" ? one.text : "").join("");
  const end = async () => {
    await done;
    const last = seen.at(-1);
    assert.ok(last?.kind === "end");
    return last;
  };
  return { seen, text, end };
}

// Filters on both sides hold a last word or two back till they know it whole.
const WORDS = ["one two three four ", "five six ", "seven eight ", "nine ten"];
const ALL = WORDS.join("");

Deno.test("a turn of the near gateway is taken on the far one", async (t) => {
  await using pair = await openPair();
  const { vendor } = pair;

  await t.step(
    "its text, thoughts and usage come as they are said",
    async () => {
      const gate = gated({
        text: WORDS,
        thinking: "Hm.",
        usage: { input: 21, output: 9 },
      }, "seven");
      vendor.script = [gate.say];
      using near = await client(pair.near);
      const turn = take(near, "count, please");
      await until("the first words", () => turn.text() !== "");
      gate.open();
      const end = await turn.end();
      assert.equal(end.state, "final", String(end.message));
      assert.equal(end.reply, ALL);
      assert.equal(turn.text(), ALL);
      assert.ok(turn.seen.some((one) => one.kind === "thinking"));
      assert.deepEqual(
        [end.usage?.inputTokens, end.usage?.outputTokens],
        [21, 9],
      );
      const { rows } = await near.call("usage.cost", { by: "model" });
      assert.deepEqual(rows.map(({ name }) => name), ["remote:far"]);
    },
  );

  await t.step(
    "the far one got the words of this turn, and no tool of ours",
    async () => {
      vendor.script = [{ text: "again" }];
      using near = await client(pair.near);
      await take(near, "and now?").end();
      const { body } = vendor.requests.at(-1) ?? {};
      const said = body.messages.filter((one: { role: string }) =>
        one.role !== "system"
      );
      assert.deepEqual(said.map((one: { role: string }) => one.role), [
        "user",
        "assistant",
        "user",
      ]);
      using far = await pair.farClient();
      const { sessions } = await far.call("sessions.list", {});
      assert.equal(sessions.length, 1);
      assert.match(
        sessions[0]?.key ?? "",
        /^agent:main:client:token-\w+:remote:1:/,
      );
    },
  );

  await t.step("stopping it stops it there, within 100 ms", async () => {
    const gate = gated({ text: WORDS }, "seven");
    vendor.script = [gate.say];
    using near = await client(pair.near);
    const stop = new AbortController();
    const turn = take(near, "count again", stop.signal);
    await until("the first word", () => turn.text() !== "");
    using far = await pair.farClient();
    const closed = vendor.requests.at(-1)?.closed.then(() => performance.now());
    const startedAt = performance.now();
    stop.abort();
    const end = await turn.end();
    assert.equal(end.state, "aborted");
    gate.open();
    const tookMs = (await closed ?? Infinity) - startedAt;
    console.log("abort ms", tookMs);
    assert.ok(tookMs < 1000, `${tookMs} ms`);
    await until("nothing runs there", async () => {
      return (await far.call("status", {})).runs.running === 0;
    });
  });

  await t.step(
    "kill -9 of the far one: the turn goes on when it is back, no word twice",
    async () => {
      const gate = gated({ text: WORDS }, "seven");
      vendor.script = [gate.say];
      using near = await client(pair.near);
      const turn = take(near, "count once more");
      await until("the first words", () => turn.text() !== "");
      {
        using far = await pair.farClient();
        Deno.kill(await servicePid(far), "SIGKILL");
      }
      gate.open();
      await pair.again("far");
      const end = await turn.end();
      assert.equal(end.state, "final", String(end.message));
      assert.equal(end.reply, ALL);
      assert.equal(turn.text(), ALL);
    },
  );

  await t.step(
    "kill -9 of the near one: after its start the same run is heard to its end",
    async () => {
      const gate = gated({ text: WORDS }, "seven");
      vendor.script = [gate.say];
      const before = vendor.requests.length;
      let runId = "";
      {
        using near = await client(pair.near);
        const turn = take(near, "count a last time");
        await until("the first words", () => turn.text() !== "");
        const started = turn.seen.find((one) => one.kind === "started");
        runId = started?.kind === "started" ? started.runId : "";
        Deno.kill(await servicePid(near), "SIGKILL");
        turn.end().catch(() => {});
        await until("its end", async () => {
          await pair.near.proc.status;
          return true;
        });
      }
      await pair.again("near");
      using near = await client(pair.near);
      gate.open();
      const { status, reply } = await near.call("agent.wait", {
        runId,
        timeoutMs: 20_000,
      });
      assert.deepEqual([status, reply], ["ok", ALL]);
      assert.equal(vendor.requests.length, before + 1, "it ran once");
    },
  );

  await t.step("a far one that is gone is said so at once", async () => {
    await pair.far[Symbol.asyncDispose]();
    using near = await client(pair.near);
    const end = await take(near, "anybody there?").end();
    assert.equal(end.state, "error");
    assert.match(end.message ?? "", /Cannot reach the gateway at wss:/);
  });
});
