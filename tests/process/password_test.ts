/**
 * A3 on real processes: a changed password, or another secret behind it, holds
 * within a second and without a restart; a rotated secret of anything else is
 * what is used next.
 */
import assert from "node:assert/strict";
import { openSecrets } from "../../src/config/secrets.ts";
import { Secret } from "../../src/core/secret.ts";
import { knock } from "../fakes/device.ts";
import type { FakeClient } from "../fakes/gateway_house.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { say } from "../fakes/vendor.ts";
import { ask, client, type Gateway, servicePid, start } from "./gateways.ts";
import { scratch, until } from "./processes.ts";
import { good } from "./verbs.ts";

const SOON_MS = 1_000;
const FIRST = "correct horse battery staple";

interface Rig extends AsyncDisposable {
  gateway: Gateway;
  dir: string;
  secrets: ReturnType<typeof openSecrets>;
  write(config: unknown): Promise<void>;
}

async function open(
  vendor: string,
  config: Record<string, unknown>,
): Promise<Rig> {
  await using opening = new AsyncDisposableStack();
  const { path: dir } = opening.use(await scratch());
  const secrets = openSecrets({ dir, env: { get: () => undefined } });
  await secrets.set("PASSWORD", new Secret(FIRST, "test"));
  await secrets.set("OTHER", new Secret("another one altogether", "test"));
  await secrets.set("OPENAI", new Secret("sk-first", "test"));
  // As an editor does it: a reader sees the old file or the new one.
  const write = async (value: unknown) => {
    const text = JSON.stringify(value);
    await Deno.writeTextFile(`${dir}/new`, text, { mode: 0o600 });
    await Deno.rename(`${dir}/new`, `${dir}/carapace.jsonc`);
  };
  await write(config);
  const gateway = opening.use(
    await start({
      dir,
      env: { OPENAI_BASE_URL: vendor, CARAPACE_MODEL: "openai:gpt-test" },
    }),
  );
  const closing = opening.move();
  return {
    ...{ gateway, dir, secrets, write },
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

function withPassword(name?: string): Record<string, unknown> {
  return {
    gateway: name === undefined ? {} : { password: `\${secret:${name}}` },
    providers: { openai: { apiKey: "${secret:OPENAI}" } },
  };
}

/** A socket that came by a password, or what it was told instead. */
async function enter(
  gateway: Gateway,
  password: string,
): Promise<{ socket: FakeClient; code: string }> {
  const socket = await knock(gateway);
  const { error } = await socket.connect({ auth: { password } });
  return { socket, code: error?.code ?? "OK" };
}

/** Fails when a socket is not closed as a revoked one is, within a second. */
async function closedSoon(socket: FakeClient, since: number): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new assert.AssertionError({ message: "not within a second" })),
    Math.max(0, since + SOON_MS - performance.now()),
  );
  try {
    const { code, reason } = await Promise.race([socket.closed, promise]);
    assert.equal(code, 1008, reason);
  } finally {
    clearTimeout(timer);
  }
}

Deno.test("A3: another password ends what the old one let in, at once and without a restart", async (t) => {
  await using fake = await fakeOpenai({
    script: () => ({ text: ["one", "two"], after: "two", then: "hang" }),
  });
  await using rig = await open(fake.url, withPassword("PASSWORD"));
  const { gateway, secrets } = rig;
  using owner = await client(gateway);
  const pid = await servicePid(owner);
  const running = async () => (await owner.call("status", {})).runs.running;
  const changes = async () => {
    const { rows } = await owner.call("audit.list", { event: "auth.password" });
    return rows.map(({ fields }) => fields["now"]).toReversed();
  };
  // Asked for in the audit log: who guesses on and on has to wait.
  const told = (count: number) =>
    until("the change", async () => (await changes()).length === count);
  /** Enters, begins a turn, changes something, and is out. */
  const change = async (password: string, act: () => Promise<unknown>) => {
    const { socket, code } = await enter(gateway, password);
    using _socket = socket;
    assert.equal(code, "OK");
    const sent = await socket.call("chat.send", {
      sessionKey: "main",
      message: "go on",
      idempotencyKey: crypto.randomUUID(),
    });
    assert.ok(sent.ok, JSON.stringify(sent.error));
    await socket.event("chat", ({ state }) => state === "delta");
    assert.equal(await running(), 1);
    await act();
    const since = performance.now();
    await closedSoon(socket, since);
    await until("the run's end", async () => await running() === 0, SOON_MS);
    await refused(password);
    assert.equal(await servicePid(owner), pid, "without a restart");
  };
  const logged = (event: string) =>
    gateway.proc.err.filter((line) => line.includes(event)).length;
  const adopts = async (config: Record<string, unknown>) => {
    const before = logged("config.adopted");
    await rig.write(config);
    await until("its adoption", () => logged("config.adopted") > before);
  };
  const refused = async (password: string) => {
    const { socket, code } = await enter(gateway, password);
    socket[Symbol.dispose]();
    assert.equal(code, "UNAUTHORIZED");
  };
  await t.step(
    "a new value behind the same name",
    () =>
      change(
        FIRST,
        () => secrets.set("PASSWORD", new Secret("second", "test")),
      ),
  );
  await t.step(
    "another name in the configuration",
    () => change("second", () => rig.write(withPassword("OTHER"))),
  );
  await t.step(
    "no line any more",
    () => change("another one altogether", () => rig.write(withPassword())),
  );
  await t.step("a line again lets in again", async () => {
    await rig.write(withPassword("PASSWORD"));
    await told(4);
  });
  await t.step(
    "a secret that was removed lets nobody in",
    () => change("second", () => secrets.remove("PASSWORD")),
  );
  await t.step("sealed anew it is the same one", async () => {
    await secrets.set("PASSWORD", new Secret("third", "test"));
    await told(6);
    const { socket } = await enter(gateway, "third");
    using _socket = socket;
    await good(rig.dir, ["secret", "rotate"]);
    // What is written after it is taken up, so this was too.
    await adopts({ ...withPassword("PASSWORD"), limits: { stepsMax: 7 } });
    assert.ok((await socket.call("sessions.list")).ok);
  });
  await t.step("what cannot be read once is followed on", async () => {
    const file = `${rig.dir}/carapace.jsonc`;
    const before = logged("config.refused");
    await Deno.rename(file, `${file}.aside`);
    await Deno.mkdir(file);
    await until("the refusal", () => logged("config.refused") > before);
    await Deno.remove(file);
    await Deno.rename(`${file}.aside`, file);
    await adopts({ ...withPassword("PASSWORD"), limits: { stepsMax: 8 } });
  });
  assert.deepEqual(await changes(), [
    ...["another", "another", "none", "set", "none", "set"],
  ]);
});

Deno.test("A3: a secret that is set while the gateway runs is what a provider uses next", async () => {
  await using fake = await fakeOpenai({ script: () => say("done") });
  await using rig = await open(fake.url, withPassword());
  const keyNow = () => fake.requests.at(-1)?.headers.get("authorization");
  let pid: number;
  {
    using before = await client(rig.gateway);
    pid = await servicePid(before);
    assert.equal((await ask(before, "hi")).status, "ok");
    assert.equal(keyNow(), "Bearer sk-first");
  }
  await rig.secrets.set("OPENAI", new Secret("sk-second", "test"));
  // A provider's key is taken by a restart, which needs nobody.
  await until("another service", async () => {
    try {
      using now = await client(rig.gateway);
      return await servicePid(now) !== pid;
    } catch {
      return false; // between the two
    }
  });
  using after = await client(rig.gateway);
  assert.equal((await ask(after, "hi again")).status, "ok");
  assert.equal(keyNow(), "Bearer sk-second");
});
