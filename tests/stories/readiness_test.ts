/**
 * Readiness of a whole house: each check is made to fail for real, is named to
 * who may read and to nobody else, and is well again when its cause is gone.
 */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { Secret } from "../../src/core/secret.ts";
import type { StatusPayload } from "../../src/core/methods.ts";
import { ClockAhead } from "../fakes/clock_ahead.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import {
  type WebhookReceiver,
  webhookReceiver,
} from "../fakes/webhook_receiver.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  listening,
  Proc,
  scratch,
  until,
} from "../process/processes.ts";

interface Answer {
  status: number;
  body: {
    status: string;
    checks?: { name: string; ok: boolean; why?: string; fix?: string }[];
  };
}

async function ready(
  { url }: Pick<RealHouse, "url">,
  token?: string,
): Promise<Answer> {
  const headers: Record<string, string> = token === undefined
    ? {}
    : { authorization: `Bearer ${token}` };
  const answer = await fetch(`${url}/health/ready`, { headers });
  return { status: answer.status, body: await answer.json() };
}

/** What a row works with. */
interface Rig {
  real: RealHouse;
  clock: ClockAhead;
  posture: StatusPayload["posture"];
  receiver: WebhookReceiver;
  /** Where a provider should be, and is not until it is opened. */
  provider: { port: number; open(): void; isOpen: boolean };
}

interface Row {
  /** Why it is not ready, and what is said to do. */
  why: RegExp;
  fix: RegExp;
  /** What readiness is configured to be, beside what it is. */
  health?: Record<string, number>;
  harm(rig: Rig, held: AsyncDisposableStack): Promise<unknown> | unknown;
  mend(rig: Rig, held: AsyncDisposableStack): Promise<unknown> | unknown;
}

const send = ({ real }: Rig, key: string) =>
  fetch(`${real.url}/tools/invoke`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${real.owner}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({
      tool: "message_send",
      args: { to: "webhook/alerts", text: key },
    }),
  }).then(async (answer) => {
    assert.equal(answer.status, 200, await answer.text());
  });

/** What a row breaks is adopted from a changed configuration, and back. */
const configured = (
  health: Record<string, number>,
  why: RegExp,
): Row => ({
  why,
  fix: /health\./,
  harm: ({ real }) => real.house.adopt(real.settings({ health })),
  mend: ({ real }) => real.house.adopt(real.settings({})),
});

const ROWS: Readonly<Record<string, Row>> = {
  store: {
    why: /locked|no answer in/,
    fix: /disk/,
    harm: ({ real }, held) => {
      const other = held.adopt(
        new DatabaseSync(`${real.stateDir}/kv.db`),
        (one) => one.close(),
      );
      other.exec("BEGIN IMMEDIATE");
      held.defer(() => other.exec("ROLLBACK"));
    },
    mend: (_rig, held) => held.disposeAsync(),
  },
  posture: {
    why: /^the sandbox is open: only 2 of 3/,
    fix: /deno task start/,
    harm: ({ posture }) => void (posture.refused = 2),
    mend: ({ posture }) => void (posture.refused = 3),
  },
  providers: {
    why: /^late: /,
    fix: /key, its address/,
    harm: ({ clock, provider }) => {
      assert.equal(provider.isOpen, false);
      clock.skip(61_000);
    },
    mend: ({ clock, provider }) => {
      provider.open();
      clock.skip(61_000);
    },
  },
  channels: {
    why: /^failing: webhook/,
    fix: /carapace channel list/,
    harm: async (rig) => {
      rig.receiver.script = () => new Response(null, { status: 400 });
      for (let n = 1; n <= 3; n++) {
        await send(rig, `${n}`);
        await until("it is tried", () => rig.receiver.posts.length >= n);
      }
    },
    mend: async (rig) => {
      rig.receiver.script = () => undefined;
      await send(rig, "again");
    },
  },
  outbox: {
    why: /^a message is 3\d\d s late$/,
    fix: /channel/,
    harm: async (rig, held) => {
      const gate = Promise.withResolvers<undefined>();
      const before = rig.receiver.posts.length;
      rig.receiver.script = () => gate.promise;
      held.defer(() => gate.resolve(undefined));
      await send(rig, "held");
      await until("it is sent", () => rig.receiver.posts.length > before);
      rig.clock.skip(301_000);
    },
    mend: (_rig, held) => held.disposeAsync(),
  },
  event_loop: {
    why: /^timers come \d{3,} ms late$/,
    fix: /health\.loopLagMs/,
    health: { loopLagMs: 150 },
    harm: async () => {
      // One of the first ten samples: it is well again when there are more.
      const end = performance.now() + 1_300;
      while (performance.now() < end);
      await new Promise((resolve) => setTimeout(resolve));
    },
    mend: () => {},
  },
  disk: configured({ diskFreeMb: 1_000_000 }, /^only \d+ MB free$/),
  memory: configured({ memoryMb: 64 }, /^this process has \d+ MB/),
};

/** The same check by its other limit. */
const MORE: readonly [string, Row][] = [
  ["memory", configured({ memoryFreeMb: 1_000_000 }, /^the machine has only/)],
];

async function openRig(): Promise<Rig & AsyncDisposable> {
  await using opening = new AsyncDisposableStack();
  const clock = new ClockAhead();
  const posture = { tried: 3, refused: 3, sandboxOff: false, grants: {} };
  const receiver = opening.use(webhookReceiver("s3cret"));
  const secret = new Secret("s3cret", "test");
  const port = freePort();
  const real = opening.use(
    await openRealHouse({
      clock,
      posture,
      providers: {
        late: { api: "chat", baseUrl: `http://127.0.0.1:${port}/v1` },
      },
      settings: {
        agents: {
          main: { model: "openai:gpt-test" },
          other: { model: "late:m" },
        },
        guard: { policy: [{ verdict: "allow", tool: "message_send" }] },
        channels: { webhook: { alerts: { url: receiver.url, secret } } },
      },
    }),
  );
  const provider = {
    port,
    isOpen: false,
    open: () => {
      provider.isOpen = true;
      opened.adopt(
        Deno.serve(
          { hostname: "127.0.0.1", port, onListen: () => {} },
          () => Response.json({ object: "list", data: [] }),
        ),
        (server) => server.shutdown(),
      );
    },
  };
  const opened = opening.use(new AsyncDisposableStack());
  const closing = opening.move();
  return {
    real,
    clock,
    posture,
    receiver,
    provider,
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

/** Asks until a check has come out so. */
async function found(rig: Rig, name: string, ok: boolean): Promise<Answer> {
  const { real, clock } = rig;
  let answer: Answer | undefined;
  await until(`${name} ${ok ? "is well" : "fails"}`, async () => {
    // An answer is good for a second, twice over.
    clock.skip(2_100);
    answer = await ready(real, real.owner);
    await new Promise((resolve) => setTimeout(resolve, 20));
    return answer.body.checks?.find((c) => c.name === name)?.ok === ok;
  }, 30_000);
  assert.ok(answer !== undefined);
  return answer;
}

async function harmAndMend(rig: Rig, name: string, row: Row): Promise<void> {
  const { real } = rig;
  if (row.health !== undefined) {
    real.house.adopt(real.settings({ health: row.health }));
  }
  const narrow = await real.token({ scopes: ["chat"] });
  await using held = new AsyncDisposableStack();
  await row.harm(rig, held);
  const { status, body } = await found(rig, name, false);
  assert.equal(status, 503);
  assert.equal(body.status, "unavailable");
  const check = body.checks?.find((one) => one.name === name);
  assert.match(check?.why ?? "", row.why);
  assert.match(check?.fix ?? "", row.fix);
  for (const token of [undefined, narrow]) {
    const stranger = await ready(real, token);
    assert.equal(stranger.status, 503);
    assert.deepEqual(stranger.body, { status: "unavailable" });
  }
  await row.mend(rig, held);
  await found(rig, name, true);
}

Deno.test("readiness: who may read is told every check, a stranger one word", async () => {
  await using rig = await openRig();
  const { real } = rig;
  const { status, body } = await ready(real, real.owner);
  assert.equal(status, 200, JSON.stringify(body));
  // What is checked has a row here; `configuration` has a test of its own.
  assert.deepEqual(
    body.checks?.map(({ name }) => name).sort(),
    [...Object.keys(ROWS), "configuration"].sort(),
  );
  assert.deepEqual((await ready(real)).body, { status: "ok" });
  const narrow = await real.token({ scopes: ["chat"] });
  assert.deepEqual((await ready(real, narrow)).body, { status: "ok" });
});

Deno.test("readiness: what fails makes 503, is named, and is well again", async (t) => {
  for (const [name, row] of [...Object.entries(ROWS), ...MORE]) {
    await t.step(`${name} ${row.why}`, async () => {
      await using rig = await openRig();
      await harmAndMend(rig, name, row);
      if (name === "providers") return;
      // Nothing else is left over but the provider that was never there.
      rig.provider.open();
      rig.clock.skip(61_000);
      await found(rig, "providers", true);
      assert.equal((await ready(rig.real)).status, 200);
    });
  }
});

Deno.test("readiness: a provider that never answers is named, and does not hold the answer", async () => {
  // It takes connections, and that is all.
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using house = await openRealHouse({
    providers: {
      slow: { api: "chat", baseUrl: `http://127.0.0.1:${silent.addr.port}/v1` },
    },
    settings: { agents: { main: { model: "slow:m" } } },
  });
  const begun = performance.now();
  assert.equal((await ready(house, house.owner)).status, 200, "not known yet");
  assert.ok(performance.now() - begun < 2_000);
  let answer: Answer | undefined;
  await until("it is named", async () => {
    answer = await ready(house, house.owner);
    return answer.status === 503;
  });
  const check = answer?.body.checks?.find(({ name }) => name === "providers");
  assert.match(check?.why ?? "", /^slow: /);
});

Deno.test("readiness: a configuration that is not in force is named until it is", async () => {
  await using state = await scratch();
  const token = "a-token-for-readiness-tests";
  const port = freePort();
  const write = async (text: string) => {
    await Deno.writeTextFile(`${state.path}/new`, text, { mode: 0o600 });
    await Deno.rename(`${state.path}/new`, `${state.path}/carapace.jsonc`);
  };
  await write('{ "gatewey": {} }');
  await using _service = new Proc(
    ["run", ...LAUNCHER_FLAGS, "src/launch.ts", "start"],
    {
      env: {
        CARAPACE_STATE_DIR: state.path,
        CARAPACE_PORT: String(port),
        CARAPACE_TOKEN: token,
      },
    },
  );
  await listening(port);
  const house = { url: `http://127.0.0.1:${port}` };
  const { status, body } = await ready(house, token);
  assert.equal(status, 503);
  const bad = body.checks?.filter(({ ok }) => !ok) ?? [];
  assert.deepEqual(bad.map(({ name }) => name), ["configuration"]);
  assert.match(bad[0]?.why ?? "", /gatewey/);
  assert.match(bad[0]?.fix ?? "", /carapace config validate/);
  assert.deepEqual((await ready(house)).body, { status: "unavailable" });
  await write("{}");
  await until("it is ready", async () => {
    const answer = await ready(house, token).catch(() => undefined);
    return answer?.status === 200 &&
      answer.body.checks?.every(({ ok }) => ok) === true;
  });
});
