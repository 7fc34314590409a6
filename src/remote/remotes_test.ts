import assert from "node:assert/strict";
import { FakeGateway } from "../../tests/fakes/gateway.ts";
import { Secret } from "../core/secret.ts";
import { systemClock } from "../core/time.ts";
import { GatewayClient } from "./client.ts";
import { RemotesConfig } from "./config.ts";
import { asWords, HOPS_MAX, hopsOf, remoteKey } from "./remotes.ts";
import { runTurn } from "./run_turn.ts";
import { toPin } from "./trust.ts";

Deno.test("remoteKey() ends a circle of gateways", () => {
  let sessionKey = "agent:main:main";
  const turn = {
    runId: "run_1",
    sessionId: "ses_01ABC",
    agentId: undefined,
    text: "hi",
  };
  for (let hop = 1; hop <= HOPS_MAX; hop++) {
    const key = remoteKey({ ...turn, sessionKey });
    assert.equal(key, `agent:main:remote:${hop}:ses01abc`);
    // As the gateway it is sent to stores it, for a token and for its owner.
    sessionKey = hop % 2 === 0
      ? key
      : key.replace("agent:main:", "agent:main:client:token-tok_x:");
    assert.equal(hopsOf(sessionKey), hop);
  }
  assert.throws(() => remoteKey({ ...turn, sessionKey }), { code: "conflict" });
});

Deno.test("what is handed on is never a command there", () => {
  for (const text of ["/approve x", " /trust", "\n\t/new", "\ufeff/stop"]) {
    assert.doesNotMatch(asWords(text).trim(), /^\//, text);
  }
  for (const text of ["hi", "see /etc/hosts", ""]) {
    assert.equal(asWords(text), text);
  }
});

Deno.test("a remote is wss, or ws on this machine, with a secret and a whole pin", () => {
  const token = new Secret("x", "test");
  const pin = `sha256:${"0".repeat(64)}`;
  const fits = (line: Record<string, unknown>) =>
    RemotesConfig.safeParse({ office: { token, ...line } }).success;
  assert.ok(fits({ url: "wss://192.168.1.5:18789", pin }));
  assert.ok(fits({ url: "ws://127.0.0.1:18789" }));
  for (
    const line of [
      { url: "ws://192.168.1.5:18789" },
      { url: "wss://a:b@192.168.1.5" },
      { url: "wss://192.168.1.5/?token=x" },
      { url: "https://192.168.1.5" },
      { url: "wss://192.168.1.5", pin: "sha256:00" },
      { url: "wss://192.168.1.5", token: "plain" },
      { url: "wss://192.168.1.5", trust: "system" },
    ]
  ) assert.ok(!fits(line), JSON.stringify(line));
  assert.equal(toPin("AA:".repeat(31) + "aa"), `sha256:${"aa".repeat(32)}`);
});

/** A line in front of a gateway that can be cut, as a broken cable is. */
function openLine(port: number) {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.Conn>();
  const serve = (async () => {
    for await (const near of listener) {
      const far = await Deno.connect({ hostname: "127.0.0.1", port });
      open.add(near).add(far);
      near.readable.pipeTo(far.writable).catch(() => {});
      far.readable.pipeTo(near.writable).catch(() => {});
    }
  })();
  const cut = () => {
    for (const one of open) {
      try {
        one.close();
      } catch {
        // Its stream closed it.
      }
    }
    open.clear();
  };
  return {
    port: listener.addr.port,
    cut,
    [Symbol.asyncDispose]: async () => {
      listener.close();
      cut();
      await serve.catch(() => {});
    },
  };
}

Deno.test("a line that is cut in the middle of a turn costs no word, and doubles none", async () => {
  const words = ["one ", "two ", "three ", "four ", "five"];
  const gate = Promise.withResolvers<void>();
  await using gateway = new FakeGateway({
    script: async function* () {
      for (const [n, text] of words.entries()) {
        if (n === 3) await gate.promise;
        yield { kind: "text", text };
      }
      yield { kind: "reply", text: words.join(""), model: "fake:words" };
    },
  });
  await using line = openLine(gateway.port);
  using client = await GatewayClient.connect({
    url: `ws://127.0.0.1:${line.port}/ws`,
    token: new Secret("test-token", "test"),
    tokenHint: "",
  }, { clock: systemClock });
  let text = "";
  let losses = 0;
  for await (
    const notice of runTurn(client, { sessionKey: "main", message: "go" }, {
      clock: systemClock,
    })
  ) {
    if (notice.kind === "lost") losses++;
    if (notice.kind === "back") gate.resolve();
    if (notice.kind !== "text") continue;
    text += notice.text;
    if (text === "one two three ") line.cut();
  }
  assert.deepEqual([text, losses], [words.join(""), 1]);
  assert.equal(gateway.connects.length, 2);
});
