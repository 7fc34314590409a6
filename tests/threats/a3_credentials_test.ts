/** A3: revocation and rotation that bite, while streams are live. */
import assert from "node:assert/strict";
import {
  connectDevice,
  knock,
  makeDevice,
  pairDevice,
  tokenSocket,
} from "../fakes/device.ts";
import { readTokenFile, writeTokenFile } from "../../src/config/token_file.ts";
import { Secret } from "../../src/core/secret.ts";
import {
  type FakeClient,
  openGatewayHouse,
  program,
} from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";

/** A model that begins to speak and never ends. */
const ENDLESS = {
  script: () => ({
    text: ["one", "two"],
    after: "two",
    then: "hang" as const,
  }),
};
const SOON_MS = 1_000;

async function startRun(socket: FakeClient): Promise<void> {
  const { ok, error } = await socket.call("chat.send", {
    sessionKey: "main",
    message: "go on",
    idempotencyKey: crypto.randomUUID(),
  });
  assert.ok(ok, JSON.stringify(error));
  await socket.event("chat", ({ state }) => state === "delta");
}

/** Begins a streamed answer; what is left of it, once its first words came. */
async function startStream(house: RealHouse, token: string) {
  const response = await fetch(`${house.url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({
      model: "carapace",
      stream: true,
      messages: [{ role: "user", content: "go on" }],
    }),
  });
  assert.equal(response.status, 200);
  const reader = response.body?.pipeThrough(new TextDecoderStream())
    .getReader();
  assert.ok(reader);
  let text = "";
  while (!text.includes("one")) text += (await reader.read()).value ?? "";
  return {
    ended: async () => {
      try {
        while (!(await reader.read()).done);
      } catch {
        // Cut is ended too.
      }
    },
  };
}

/** Fails when it takes longer than a second. */
async function soon<T>(wait: Promise<T>, what: string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new assert.AssertionError({ message: `late: ${what}` })),
    SOON_MS,
  );
  try {
    return await Promise.race([wait, promise]);
  } finally {
    clearTimeout(timer);
  }
}

async function noRuns(house: RealHouse): Promise<void> {
  while (house.house.desk.counts().running > 0) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("A3: ending a token ends its socket, its stream and their runs", async () => {
  await using house = await openRealHouse(ENDLESS);
  using owner = await tokenSocket(house, house.owner);
  const { payload } = await owner.call("token.create", {
    name: "phone",
    scopes: ["write"],
  });
  using socket = await tokenSocket(house, payload.token);
  await startRun(socket);
  const stream = await startStream(house, payload.token);
  assert.equal(house.house.desk.counts().running, 2);
  await owner.call("token.revoke", { id: payload.id });
  assert.equal((await soon(socket.closed, "socket")).code, 1008);
  await soon(stream.ended(), "stream");
  await soon(noRuns(house), "runs");
  using again = await knock(house);
  const { error } = await again.connect({ auth: { token: payload.token } });
  assert.equal(error.code, "UNAUTHORIZED");
});

Deno.test("A3: ending a device ends its sockets and runs, however they came", async () => {
  await using house = await openRealHouse(ENDLESS);
  using owner = await tokenSocket(house, house.owner);
  const device = makeDevice();
  const scopes = ["operator.write"];
  const approve = { as: "program" };
  await pairDevice(house, owner, { device, scopes, approve });
  using bySignature = await knock(house);
  const hello = await connectDevice(bySignature, device, { scopes });
  using byToken = await knock(house);
  const { deviceToken } = hello.payload.auth;
  await connectDevice(byToken, device, { scopes, auth: { deviceToken } });
  using beside = await knock(house);
  const token = await house.token();
  await connectDevice(beside, device, { auth: { token } });
  await startRun(bySignature);
  await startRun(byToken);
  await owner.call("device.token.revoke", { deviceId: device.id });
  for (const socket of [bySignature, byToken, beside]) {
    assert.equal((await soon(socket.closed, "socket")).code, 1008);
  }
  await soon(noRuns(house), "runs");
});

Deno.test("A3: a device that a code let in ends like any other", async () => {
  await using house = await openRealHouse(ENDLESS);
  using owner = await tokenSocket(house, house.owner);
  const made = await owner.call("device.bootstrap.create", {
    scopes: ["write"],
    as: "program",
  });
  const device = makeDevice();
  using socket = await knock(house);
  const auth = { bootstrapToken: made.payload.code };
  await connectDevice(socket, device, { auth });
  await startRun(socket);
  await owner.call("device.token.revoke", { deviceId: device.id });
  assert.equal((await soon(socket.closed, "socket")).code, 1008);
  await soon(noRuns(house), "runs");
  // The code does not bring it back.
  using again = await knock(house);
  const { ok } = await connectDevice(again, device, { auth });
  assert.equal(ok, false);
});

Deno.test("A3: a token's next text works at once, and ends the one before when it is used", async (t) => {
  await using house = await openRealHouse(ENDLESS);
  using owner = await tokenSocket(house, house.owner);
  const { payload: first } = await owner.call("token.create", {
    name: "phone",
    scopes: ["write"],
  });
  using old = await tokenSocket(house, first.token);
  const stream = await startStream(house, first.token);
  const { payload: unused } = await owner.call("token.rotate", { id: "phone" });
  const { payload: next } = await owner.call("token.rotate", { id: first.id });
  assert.equal(next.id, first.id);
  await t.step("until then the present one goes on", async () => {
    using another = await tokenSocket(house, first.token);
    assert.equal((await another.call("sessions.list")).ok, true);
    const { tokens } = (await owner.call("token.list")).payload;
    const named = tokens.filter(({ name }: { name: string }) =>
      name === "phone"
    );
    assert.equal(named.length, 1);
  });
  await t.step("a text that was rotated away unused never works", async () => {
    using socket = await knock(house);
    const { ok } = await socket.connect({ auth: { token: unused.token } });
    assert.equal(ok, false);
  });
  await t.step("its first use closes what the old one opened", async () => {
    using socket = await tokenSocket(house, next.token);
    assert.equal((await soon(old.closed, "socket")).code, 1008);
    await soon(stream.ended(), "stream");
    await soon(noRuns(house), "runs");
    using late = await knock(house);
    const { error } = await late.connect({ auth: { token: first.token } });
    assert.equal(error.code, "UNAUTHORIZED");
    assert.equal((await socket.call("sessions.list")).ok, true);
  });
  await t.step("ending the token ends both texts", async () => {
    const { payload } = await owner.call("token.rotate", { id: first.id });
    await owner.call("token.revoke", { id: first.id });
    for (const token of [next.token, payload.token]) {
      using socket = await knock(house);
      assert.equal((await socket.connect({ auth: { token } })).ok, false);
    }
  });
});

Deno.test("A3: an empty list is none, a missing one is the maker's", async () => {
  await using house = await openRealHouse();
  using owner = await tokenSocket(house, house.owner);
  for (const list of ["agents", "models", "tools"]) {
    const { payload } = await owner.call("token.create", {
      name: `no ${list}`,
      scopes: ["write"],
      [list]: [],
    });
    const { tokens } = (await owner.call("token.list")).payload;
    const row = tokens.find(({ id }: { id: string }) => id === payload.id);
    assert.deepEqual(row[list], []);
    for (const other of ["agents", "models", "tools"]) {
      if (other !== list) assert.equal(row[other], "any");
    }
  }
  const none = await house.token({ scopes: ["write"], agents: [] });
  using socket = await tokenSocket(house, none);
  const { error } = await socket.call("chat.send", {
    sessionKey: "main",
    message: "x",
    idempotencyKey: "1",
  });
  assert.equal(error.code, "FORBIDDEN");
});

Deno.test("A3: what ends between its check and its call is refused, not forgotten", async () => {
  const ended = new Set<unknown>();
  const app = program("tok_app");
  await using house = await openGatewayHouse({
    deps: {
      authenticate: () => {
        // Told while the call is nobody's yet.
        ended.add(app);
        house.revoke("tok_app");
        return Promise.resolve(app);
      },
      hasEnded: (principal) => ended.has(principal),
    },
  });
  for (const path of ["/v1/models", "/tools/invoke", "/metrics"]) {
    const response = await house.get(path);
    assert.equal(response.status, 401, path);
    await response.body?.cancel();
  }
  assert.equal(house.gateway.counts().inFlight, 0);
});

Deno.test("A3: the command line's own token is rotated without locking it out", async () => {
  await using house = await openRealHouse();
  const cli = await house.house.tokens.create({
    name: "command line",
    kind: "owner",
    scopes: ["admin"],
  });
  await writeTokenFile(house.stateDir, new Secret(cli.token, "test"));
  const inFile = async () =>
    (await readTokenFile(house.stateDir))?.reveal() ?? "";
  const other = await house.house.tokens.create({ name: "b", scopes: [] });
  using owner = await tokenSocket(house, house.owner);
  await owner.call("token.rotate", { id: other.id });
  assert.equal(await inFile(), cli.token);
  const { payload } = await owner.call("token.rotate", { id: "command line" });
  assert.equal(await inFile(), payload.token);
  const { mode } = await Deno.stat(`${house.stateDir}/cli-token`);
  if (mode !== null) assert.equal(mode & 0o777, 0o600);
  // Used by somebody else first: the command line goes on all the same.
  using first = await tokenSocket(house, payload.token);
  using second = await tokenSocket(house, await inFile());
  assert.ok(first && second);
});
