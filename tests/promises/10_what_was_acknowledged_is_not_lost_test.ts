/**
 * Promise 10: a message that was acknowledged survives `kill -9`, is taken once,
 * and is finished or reported. The long run is `deno task crash --times 100`.
 */
import assert from "node:assert/strict";
import { fakeOpenai } from "../fakes/openai.ts";
import { say } from "../fakes/vendor.ts";
import { client, providedBy, servicePid, start } from "../process/gateways.ts";
import { freePort, scratch } from "../process/processes.ts";

const SENT = ["one", "two", "three"];

Deno.test("what was acknowledged is not lost", async () => {
  await using dir = await scratch();
  const reached = Promise.withResolvers<void>();
  let isCut = false;
  await using fake = await fakeOpenai({
    script: ({ body }) =>
      isCut ? say(`answer to ${body.messages.at(-1).content}`) : {
        text: ["never ", "ends"],
        after: 2,
        then: "hang",
        before: () => reached.resolve(),
      },
  });
  const options = { dir: dir.path, port: freePort(), env: providedBy(fake) };
  const message = (text: string) => ({
    sessionKey: "main",
    message: text,
    idempotencyKey: `promise-10-${text}`,
  });
  const runs: string[] = [];
  {
    await using gateway = await start(options);
    using one = await client(gateway);
    // The first streams, the others wait in its lane; all are acknowledged.
    for (const text of SENT) {
      runs.push((await one.call("chat.send", message(text))).runId);
    }
    await reached.promise;
    Deno.kill(await servicePid(one), "SIGKILL");
    await gateway.proc.status;
  }
  isCut = true;
  await using gateway = await start(options);
  using one = await client(gateway);
  for (const [n, text] of SENT.entries()) {
    const again = await one.call("chat.send", message(text));
    assert.equal(
      again.status,
      "duplicate",
      "sent again, it is not taken again",
    );
    assert.equal(again.runId, runs[n]);
    const runId = runs[n] ?? "";
    const ended = await one.call("agent.wait", { runId, timeoutMs: 15_000 });
    assert.equal(ended.status, "ok", `${ended.error}`);
    assert.match(ended.reply ?? "", new RegExp(`answer to .*${text}`, "s"));
  }
  const { messages } = await one.call("chat.history", { sessionKey: "main" });
  assert.deepEqual(
    messages.map(({ role }) => role),
    SENT.flatMap(() => ["user", "assistant"]),
    "each once, in the order they were sent",
  );
  assert.deepEqual(messages.map(({ seq }) => seq), [1, 2, 3, 4, 5, 6]);
});
