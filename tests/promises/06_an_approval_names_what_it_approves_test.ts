/**
 * Promise 6: an approval is for one call with these arguments, is used once, and
 * is still there after the process was killed.
 */
import assert from "node:assert/strict";
import type { GatewayClient } from "../../src/remote/client.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { say } from "../fakes/vendor.ts";
import {
  ask,
  client,
  providedBy,
  servicePid,
  start,
} from "../process/gateways.ts";
import { freePort, scratch } from "../process/processes.ts";

const RULES = {
  guard: { policy: [{ verdict: "ask", tool: "math_eval" }] },
};

interface Asked {
  id: string;
  runId: string;
  request: { name: string; args: unknown };
}

/** The next ask this client hears of. */
function nextAsk(one: GatewayClient): Promise<Asked> {
  const { promise, resolve } = Promise.withResolvers<Asked>();
  const listening = one.listen((notice) => {
    if (notice.kind !== "event") return;
    if (notice.event !== "exec.approval.requested") return;
    listening[Symbol.dispose]();
    resolve(notice.payload as unknown as Asked);
  });
  return promise;
}

async function send(one: GatewayClient, message: string): Promise<string> {
  const { runId } = await one.call("chat.send", {
    sessionKey: "main",
    message,
    idempotencyKey: crypto.randomUUID(),
  });
  return runId;
}

Deno.test("an approval names what it approves", async (t) => {
  await using dir = await scratch();
  await using fake = await fakeOpenai({
    script: ({ body }) =>
      body.messages.at(-1).role === "tool"
        ? say(`it is ${body.messages.at(-1).content}`)
        : { calls: [{ name: "math_eval", args: { expression: "6*7" } }] },
  });
  const options = {
    dir: dir.path,
    port: freePort(),
    env: {
      ...providedBy(fake),
      CARAPACE_CONFIG_JSON: JSON.stringify(RULES),
    },
  };
  const wait = (one: GatewayClient, runId: string) =>
    one.call("agent.wait", { runId, timeoutMs: 15_000 });
  let pending = "";
  let waitingRun = "";
  {
    await using gateway = await start(options);
    using one = await client(gateway);
    await t.step(
      "nothing runs before the answer; then exactly this does",
      async () => {
        const asked = nextAsk(one);
        const runId = await send(one, "what is it?");
        const { id, request } = await asked;
        assert.equal(request.name, "math_eval");
        assert.deepEqual(request.args, { expression: "6*7" });
        assert.equal(fake.requests.length, 1, "the model has no result yet");
        const other = await ask(one, "/approve apr_0000 allow-once");
        assert.equal(other.status, "error", "another id approves nothing");
        assert.equal(
          (await ask(one, `/approve ${id} allow-once`)).status,
          "ok",
        );
        assert.match((await wait(one, runId)).reply ?? "", /42/);
        const again = await ask(one, `/approve ${id} allow-once`);
        assert.equal(again.status, "error");
        assert.match(again.error, /already/);
      },
    );
    await t.step("no is no", async () => {
      const asked = nextAsk(one);
      const runId = await send(one, "and now?");
      await ask(one, `/approve ${(await asked).id} deny`);
      assert.doesNotMatch((await wait(one, runId)).reply ?? "", /42/);
    });
    await t.step("the process is killed while it waits", async () => {
      const asked = nextAsk(one);
      waitingRun = await send(one, "once more");
      pending = (await asked).id;
      Deno.kill(await servicePid(one), "SIGKILL");
      await gateway.proc.status;
    });
  }
  await t.step(
    "it is still asked after the restart, and can be answered",
    async () => {
      await using gateway = await start(options);
      using one = await client(gateway);
      const list = await ask(one, "/approve");
      assert.ok(list.reply.includes(pending), list.reply);
      assert.equal(
        (await ask(one, `/approve ${pending} allow-once`)).status,
        "ok",
      );
      assert.match((await wait(one, waitingRun)).reply ?? "", /42/);
    },
  );
});
