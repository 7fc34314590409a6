import assert from "node:assert/strict";
import { knock } from "../../tests/fakes/device.ts";
import { FakeClock } from "../../tests/fakes/clock.ts";
import { CLIENT } from "../../tests/fakes/gateway_house.ts";
import { openRealHouse } from "../../tests/fakes/real_house.ts";
import { AppError } from "../core/errors.ts";
import { silentLog } from "../core/log.ts";
import { Secret } from "../core/secret.ts";
import { openStore } from "../store/store.ts";
import { openIdentity } from "./open.ts";
import { Tokens } from "./tokens.ts";

const RIGHT = "correct horse battery";

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function openRig(password?: Secret) {
  const clock = new FakeClock();
  const log = silentLog;
  const store = await openStore({ dir: ":memory:", clock, log });
  const tokens = new Tokens({ store, clock, log });
  const identity = openIdentity({
    store,
    tokens,
    clock,
    log,
    isAdmitted: () => Promise.resolve(false),
    plugins: () => [],
    onPairing: () => {},
    password,
  });
  const guess = async (text: string, change = {}) => {
    try {
      const params = {
        minProtocol: 3,
        maxProtocol: 4,
        client: CLIENT,
        auth: { password: text },
      };
      const { principal } = await identity.front.admit(params, {
        address: "127.0.0.1",
        challenge: { nonce: "n", ts: 0 },
        isPrivate: true,
        ...change,
      });
      return principal.authority.scopes.list().join(" ");
    } catch (error) {
      if (error instanceof AppError) return error.code;
      throw error;
    }
  };
  const ended: string[] = [];
  identity.credentials.onEnded((credential) => void ended.push(credential));
  return {
    clock,
    guess,
    ended,
    change: (next: Secret | undefined) => identity.password.change(next),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

Deno.test("a password is the owner's, without the means to make credentials", async () => {
  await using rig = await openRig(new Secret(RIGHT, "test"));
  assert.equal(await rig.guess("wrong"), "unauthorized");
  assert.equal(await rig.guess(RIGHT), "approvals chat read tools write");
  const exposed = { isPrivate: false };
  assert.equal(await rig.guess(RIGHT, exposed), "unauthorized");
});

Deno.test("a right guess is wrong when the password changed while it was looked at", async () => {
  await using rig = await openRig(new Secret(RIGHT, "test"));
  const guessing = rig.guess(RIGHT);
  rig.change(new Secret("another", "test"));
  assert.equal(await guessing, "unauthorized");
  assert.equal(await rig.guess("another"), "approvals chat read tools write");
  const again = rig.guess("another");
  rig.change(undefined);
  assert.equal(await again, "unauthorized");
  // The same text anew is another password: who came by the first is out.
  rig.change(new Secret("another", "test"));
  assert.deepEqual(rig.ended, ["password", "password"]);
});

Deno.test("the same password from elsewhere ends nothing", async () => {
  await using rig = await openRig(new Secret(RIGHT, "one place"));
  rig.change(new Secret(RIGHT, "another"));
  assert.deepEqual(rig.ended, []);
});

Deno.test("without one in the configuration nobody comes in by one", async () => {
  await using rig = await openRig();
  assert.equal(await rig.guess(""), "unauthorized");
  await using house = await openRealHouse();
  using socket = await knock(house);
  const { error } = await socket.connect({ auth: { password: house.owner } });
  assert.equal(error.code, "UNAUTHORIZED");
});

Deno.test("a password opens a socket of this machine, and nothing over HTTP", async () => {
  const port = freePort();
  const password = new Secret(RIGHT, "test");
  await using house = await openRealHouse({
    settings: { gateway: { port, password }, agents: { main: {} } },
  });
  using socket = await knock(house);
  const { payload } = await socket.connect({ auth: { password: RIGHT } });
  assert.equal(payload.auth.scopes.includes("operator.write"), true);
  assert.equal((await socket.call("token.list")).error.code, "FORBIDDEN");
  const response = await fetch(`${house.url}/v1/models`, {
    headers: { authorization: `Bearer ${RIGHT.replaceAll(" ", "")}` },
  });
  await response.body?.cancel();
  assert.equal(response.status, 401);
});

Deno.test("who guessed too often waits before it is looked at, from wherever", async () => {
  await using rig = await openRig(new Secret(RIGHT, "test"));
  for (let n = 0; n < 6; n++) {
    await rig.guess(`wrong ${n}`, { address: `10.0.0.${n}` });
  }
  assert.equal(await rig.guess(RIGHT), "rate_limited");
  await rig.clock.tick(1_000);
  assert.equal(await rig.guess(RIGHT), "approvals chat read tools write");
});
