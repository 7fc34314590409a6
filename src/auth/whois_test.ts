import assert from "node:assert/strict";
import fc from "fast-check";
import { FakeClock } from "../../tests/fakes/clock.ts";
import {
  type FakeAnswer,
  type FakeNode,
  fakeTailscaled,
  SELF,
  whoisBody,
} from "../../tests/fakes/tailscaled.ts";
import type { AppError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { openStore } from "../store/store.ts";
import { FailureLimiter } from "./limiter.ts";
import type { RefusedKind } from "./refusals.ts";
import { tailnetAddress, TailscaleConfig } from "./tailnet.ts";
import { type WHOIS, Whois } from "./whois.ts";

const OWNER = "owner@example.com";
const PEER = { address: "100.64.0.7", port: 40_000 };
const USERS = {
  [OWNER]: { as: "owner", scopes: ["write", "approvals"] },
  "guest@example.com": {
    scopes: ["chat"],
    agents: ["main"],
    budget: { usdPerDay: 1 },
  },
};

/** An asking over the fake, with its log and its account. */
async function openRig(
  options: {
    users?: unknown;
    limits?: Partial<Record<keyof typeof WHOIS, number>>;
  } = {},
) {
  await using opening = new AsyncDisposableStack();
  const clock = new FakeClock();
  const tailscaled = opening.use(fakeTailscaled("whois"));
  const lines: { event: string; fields: Record<string, unknown> }[] = [];
  const log: Log = (_level, event, fields = {}) =>
    void lines.push({ event, fields });
  const store = opening.use(await openStore({ dir: ":memory:", clock, log }));
  const refused: RefusedKind[] = [];
  const configOf = (users: unknown) =>
    TailscaleConfig.parse({ socket: tailscaled.socket, users });
  const whois = opening.use(
    new Whois({
      config: configOf(options.users ?? USERS),
      store,
      clock,
      log,
      limiter: new FailureLimiter(clock),
      refusals: { note: (kind) => void refused.push(kind) },
      limits: { askMs: 20_000, ...options.limits },
    }),
  );
  const closing = opening.move();
  return {
    clock,
    tailscaled,
    lines,
    refused,
    store,
    whois,
    configOf,
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

/** `in`, or the code of the refusal. */
async function outcome(asking: Promise<unknown>): Promise<string> {
  return await asking.then(() => "in", (error: AppError) => error.code);
}

Deno.test("a login that a line names is let in with what the line says", async () => {
  await using rig = await openRig();
  const { whois, tailscaled } = rig;
  tailscaled.nodes.set(PEER.address, { login: OWNER });
  const owner = await whois.authenticate(PEER);
  assert.deepEqual(owner.authority.toRecord(), {
    principal: "owner",
    kind: "owner",
    credential: `tailscale:${OWNER}`,
    revision: whois.standing(`tailscale:${OWNER}`)?.revision,
    scopes: ["approvals", "chat", "read", "tools", "write"],
    agents: "any",
    models: "any",
    tools: "any",
    integrity: "owner",
  });
  assert.equal(owner.name, OWNER);
  tailscaled.nodes.set("fd7a:115c:a1e0::42", { login: "guest@example.com" });
  const guest = await whois.authenticate({
    address: "fd7a:115c:a1e0::42",
    port: 40_001,
  });
  assert.equal(guest.id, "tailscale:guest@example.com");
  assert.equal(guest.kind, "peer");
  assert.deepEqual(guest.authority.toRecord().scopes, ["chat"]);
  assert.deepEqual(guest.authority.toRecord().agents, ["main"]);
  assert.deepEqual(guest.authority.purses, [
    { key: "tailscale:guest@example.com", usdPerDay: 1 },
  ]);
  assert.equal(guest.authority.integrity, "peer");
  assert.deepEqual(tailscaled.asked, [
    "100.64.0.7:40000",
    "[fd7a:115c:a1e0::42]:40001",
  ]);
  assert.deepEqual(rig.refused, []);
});

/** Everything but one whole answer about a login that a line names. */
const STRANGERS: [what: string, answer: FakeAnswer, outcome: string][] = [
  ["no match", "no match", "no_match"],
  ["an error", "error", "failed"],
  ["not JSON", "not JSON", "malformed"],
  ["an answer that is cut off", "cut", "failed"],
  ["an answer without end", "huge", "too_large"],
  ["null", { body: null }, "malformed"],
  ["a list", { body: [] }, "malformed"],
  [
    "no node",
    { body: { UserProfile: { ID: 7, LoginName: OWNER } } },
    "malformed",
  ],
  [
    "the older lower-case spelling",
    { body: { node: {}, userProfile: { loginName: OWNER } } },
    "malformed",
  ],
  ["a tagged node", { login: OWNER, tags: ["tag:server"] }, "tagged"],
  [
    "a tagged node, as it is",
    { login: "tagged-devices", tags: ["tag:server"] },
    "tagged",
  ],
  ["a node shared with us", { login: OWNER, sharer: 9 }, "shared"],
  ["a user ours was shared with", { login: OWNER, isSharee: true }, "shared"],
  ["a profile of somebody else", { login: OWNER, profile: 8 }, "malformed"],
  ["this machine, by its name", { login: OWNER, id: SELF.id }, "own_machine"],
  [
    "another address's node",
    { login: OWNER, addresses: ["100.64.0.8/32"] },
    "other_address",
  ],
  [
    "a router of a net that holds it",
    { login: OWNER, addresses: ["100.64.0.0/10"] },
    "other_address",
  ],
  ["another login", { login: "stranger@example.com" }, "unknown_login"],
  ["no login", { login: "" }, "unknown_login"],
  ["another case", { login: "Owner@example.com" }, "unknown_login"],
  ["another case of the host", { login: "owner@EXAMPLE.com" }, "unknown_login"],
  [
    "a letter that looks alike",
    { login: "оwner@example.com" },
    "unknown_login",
  ],
  [
    "the same with a mark",
    { login: "owne\u0301r@example.com" },
    "unknown_login",
  ],
  ["full width", { login: "ｏwner@example.com" }, "unknown_login"],
  ["a blank behind", { login: `${OWNER} ` }, "unknown_login"],
  ["a zero byte behind", { login: `${OWNER}\u0000` }, "unknown_login"],
  ["a new line", { login: `${OWNER}\nadmin@example.com` }, "unknown_login"],
  ["a name of every object", { login: "__proto__" }, "unknown_login"],
  ["another", { login: "constructor" }, "unknown_login"],
];

Deno.test("A8: everybody else of the tailnet is nobody, said and counted", async (t) => {
  for (const [what, answer, want] of STRANGERS) {
    await t.step(what, async () => {
      await using rig = await openRig({ limits: { askMs: 5_000 } });
      rig.tailscaled.nodes.set(PEER.address, answer);
      assert.equal(await outcome(rig.whois.authenticate(PEER)), "unauthorized");
      assert.equal(await rig.whois.find({ ...PEER, port: 2 }), undefined);
      assert.ok((rig.whois.counts().get(want as never) ?? 0) >= 1);
      assert.deepEqual([...rig.whois.counts().keys()], [want]);
      assert.deepEqual(rig.refused, ["tailnet"]);
      const [line] = rig.lines;
      assert.equal(line?.event, "auth.tailnet.nobody");
      assert.equal(line?.fields["outcome"], want);
      assert.match(JSON.stringify(line?.fields), /^[\x20-\x7e]*$/);
    });
  }
});

Deno.test("this machine is nobody by its own address too", async () => {
  await using rig = await openRig();
  rig.tailscaled.nodes.set(SELF.address, { login: OWNER });
  const from = { address: SELF.address, port: 1 };
  assert.equal(await outcome(rig.whois.authenticate(from)), "unauthorized");
  assert.deepEqual([...rig.whois.counts().keys()], ["own_machine"]);
});

Deno.test("an answer that does not come is nobody, in time", async (t) => {
  for (const answer of ["never", "never its end"] as const) {
    await t.step(answer, async () => {
      await using rig = await openRig({ limits: { askMs: 50 } });
      rig.tailscaled.nodes.set(PEER.address, answer);
      assert.equal(await outcome(rig.whois.authenticate(PEER)), "unauthorized");
      assert.deepEqual([...rig.whois.counts()], [["timeout", 1]]);
      // It says nothing of who it is: the next connection is asked about.
      rig.tailscaled.nodes.set(PEER.address, { login: OWNER });
      assert.equal(
        await outcome(rig.whois.authenticate({ ...PEER, port: 2 })),
        "in",
      );
    });
  }
});

Deno.test("a tailscaled that is not there is nobody and is named", async () => {
  const rig = await openRig();
  await rig[Symbol.asyncDispose]();
  const { clock, store, refused } = rig;
  using whois = new Whois({
    config: rig.configOf(USERS),
    store,
    clock,
    log: () => {},
    limiter: new FailureLimiter(clock),
    refusals: { note: (kind) => void refused.push(kind) },
  });
  assert.equal(await outcome(whois.authenticate(PEER)), "unauthorized");
  assert.deepEqual([...whois.counts()], [["failed", 1]]);
  await assert.rejects(whois.probe(), {
    code: "unavailable",
    message: /does not answer at \/.*whois\.sock/,
  });
});

Deno.test("probe() passes a tailscaled that is connected, and says of another what it is", async () => {
  await using rig = await openRig();
  await rig.whois.probe();
  rig.tailscaled.state = "NeedsLogin";
  await assert.rejects(rig.whois.probe(), /not connected: NeedsLogin/);
  using off = new Whois({ ...rigOff(rig), config: undefined });
  await off.probe();
  assert.equal(off.peerOf(PEER.address, 1), undefined);
});

function rigOff({ store, clock }: Awaited<ReturnType<typeof openRig>>) {
  return {
    store,
    clock,
    log: () => {},
    limiter: new FailureLimiter(clock),
    refusals: { note: () => {} },
  };
}

Deno.test("only addresses of a tailnet are asked about, in one spelling", () => {
  const rows: [text: string, want: string | undefined][] = [
    ["100.64.0.0", "100.64.0.0"],
    ["100.127.255.255", "100.127.255.255"],
    ["100.63.255.255", undefined],
    ["100.128.0.0", undefined],
    ["::ffff:100.64.0.7", "100.64.0.7"],
    ["::ffff:6440:7", "100.64.0.7"],
    ["fd7a:115c:a1e0::", "fd7a:115c:a1e0::"],
    ["FD7A:115C:A1E0:0:0:0:0:42", "fd7a:115c:a1e0::42"],
    ["fd7a:115c:a1df:ffff:ffff:ffff:ffff:ffff", undefined],
    ["fd7a:115c:a1e1::", undefined],
    ["fd7a:115c:a1e0::1%eth0", undefined],
    ["127.0.0.1", undefined],
    ["::1", undefined],
    ["::ffff:127.0.0.1", undefined],
    ["10.0.0.1", undefined],
    ["1681915911", undefined],
    ["0144.64.0.7", undefined],
    ["100.64.7", undefined],
    ["localhost", undefined],
    ["", undefined],
  ];
  for (const [text, want] of rows) {
    assert.equal(tailnetAddress(text), want, text);
  }
});

Deno.test("no text but an address of those ranges is one", () => {
  const inside = fc.tuple(fc.integer({ min: 64, max: 127 }), fc.nat(255)).map((
    [b, d],
  ) => `100.${b}.3.${d}`);
  fc.assert(fc.property(inside, (text) => tailnetAddress(text) === text));
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string()), (text) => {
      const found = tailnetAddress(text);
      return found === undefined ||
        /^(100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|fd7a:115c:a1e0:)/.test(
          found,
        );
    }),
  );
});

Deno.test("an answer holds for its connection and for seconds", async () => {
  await using rig = await openRig();
  const { whois, tailscaled, clock } = rig;
  tailscaled.nodes.set(PEER.address, { login: OWNER });
  await whois.authenticate(PEER);
  await whois.authenticate(PEER);
  assert.equal(tailscaled.asked.length, 1);
  await whois.authenticate({ ...PEER, port: 2 });
  assert.equal(tailscaled.asked.length, 2);
  await clock.tick(9_999);
  await whois.authenticate(PEER);
  assert.equal(tailscaled.asked.length, 2);
  await clock.tick(1);
  tailscaled.nodes.set(PEER.address, { login: "stranger@example.com" });
  assert.equal(await outcome(whois.authenticate(PEER)), "unauthorized");
  assert.equal(tailscaled.asked.length, 3);
});

Deno.test("the connections that are kept are bounded", async () => {
  await using rig = await openRig({ limits: { keptMax: 2 } });
  const { whois, tailscaled } = rig;
  tailscaled.nodes.set(PEER.address, { login: OWNER });
  for (const port of [1, 2, 3]) await whois.authenticate({ ...PEER, port });
  await whois.authenticate({ ...PEER, port: 3 });
  await whois.authenticate({ ...PEER, port: 2 });
  assert.equal(tailscaled.asked.length, 3);
  await whois.authenticate({ ...PEER, port: 1 });
  assert.equal(tailscaled.asked.length, 4);
});

Deno.test("A6: a stranger's address is asked about once in a while, whatever its ports", async () => {
  await using rig = await openRig();
  const { whois, tailscaled, clock } = rig;
  const knock = (port: number) =>
    outcome(whois.authenticate({ ...PEER, port }));
  assert.equal(await knock(1), "unauthorized");
  const codes = new Set<string>();
  for (let port = 2; port < 50; port++) codes.add(await knock(port));
  assert.deepEqual([...codes], ["unauthorized", "rate_limited"]);
  assert.equal(tailscaled.asked.length, 1);
  await clock.tick(5_000);
  await knock(50);
  assert.equal(tailscaled.asked.length, 2);
});

Deno.test("A6: a flood of strangers is a few questions at once, and the owner is let in after it", async () => {
  await using rig = await openRig();
  const { whois, tailscaled } = rig;
  const held = Promise.withResolvers<void>();
  tailscaled.hold = held.promise;
  const flood = Array.from({ length: 300 }, (_, n) =>
    outcome(
      whois.authenticate({
        address: `100.64.${n % 30 + 1}.9`,
        port: 1000 + n,
      }),
    ));
  // Those that found no place are told at once.
  await Promise.race(flood);
  assert.equal(whois.counts().get("busy"), 300 - 64 - 4);
  held.resolve();
  await Promise.all(flood);
  assert.ok(tailscaled.mostAtOnce <= 4, `${tailscaled.mostAtOnce}`);
  assert.ok(tailscaled.asked.length <= 68);
  tailscaled.nodes.set(PEER.address, { login: OWNER });
  assert.equal(await outcome(whois.authenticate(PEER)), "in");
});

Deno.test("A6: one address has only so many places to wait", async () => {
  await using rig = await openRig();
  const { whois, tailscaled } = rig;
  const held = Promise.withResolvers<void>();
  tailscaled.hold = held.promise;
  tailscaled.nodes.set(PEER.address, { login: OWNER });
  const stranger = (port: number) =>
    outcome(whois.authenticate({ address: "100.64.9.9", port }));
  const flood = Array.from({ length: 40 }, (_, n) => stranger(n));
  const owner = outcome(whois.authenticate(PEER));
  await Promise.race(flood);
  assert.equal(whois.counts().get("busy"), 40 - 4 - 8);
  held.resolve();
  assert.equal(await owner, "in");
  await Promise.all(flood);
});

Deno.test("requests of one connection that come together are one question", async () => {
  await using rig = await openRig();
  const { whois, tailscaled } = rig;
  tailscaled.nodes.set(PEER.address, { login: OWNER });
  await Promise.all(
    Array.from({ length: 50 }, () => whois.authenticate(PEER)),
  );
  assert.equal(tailscaled.asked.length, 1);
});

Deno.test("A3: other lines hold at once, and who is gone is told of", async () => {
  await using rig = await openRig();
  const { whois, tailscaled, store, configOf } = rig;
  const guest = { address: "100.64.0.9", port: 1 };
  tailscaled.nodes.set(PEER.address, { login: OWNER });
  tailscaled.nodes.set(guest.address, { login: "guest@example.com" });
  await whois.authenticate(PEER);
  await whois.authenticate(guest);
  const ended: string[] = [];
  // One that fails must not keep the others, nor the next login's end, unheard.
  using _failing = whois.onEnded(() => {
    throw new TypeError("a listener's fault");
  });
  using _listening = whois.onEnded((credential) => void ended.push(credential));
  whois.adopt(configOf({ ...USERS, "third@example.com": { scopes: [] } }));
  assert.deepEqual(ended, []);
  whois.adopt(configOf({ [OWNER]: { as: "owner", scopes: ["read"] } }));
  assert.deepEqual(ended, [
    `tailscale:${OWNER}`,
    "tailscale:guest@example.com",
    "tailscale:third@example.com",
  ]);
  // Without another question: what is kept is a name, never what it may do.
  const owner = await whois.authenticate(PEER);
  assert.deepEqual(owner.authority.scopes.list(), ["read"]);
  assert.equal(await outcome(whois.authenticate(guest)), "unauthorized");
  assert.equal(whois.standing("tailscale:guest@example.com"), undefined);
  assert.equal(whois.standing(OWNER), undefined);
  whois.adopt(undefined);
  assert.equal(await outcome(whois.authenticate(PEER)), "unauthorized");
  await store.probe();
  const rows = (await store.audit.list({ limit: 10 }))
    .filter(({ event }) => event === "tailnet.login.end")
    .map(({ fields }) => `${fields["credential"]} ${fields["why"]}`);
  assert.deepEqual(rows.reverse(), [
    `tailscale:${OWNER} changed`,
    "tailscale:guest@example.com removed",
    "tailscale:third@example.com removed",
    `tailscale:${OWNER} removed`,
  ]);
});

Deno.test("a login that comes to be named is let in at once", async () => {
  await using rig = await openRig({ users: {} });
  const { whois, tailscaled, configOf } = rig;
  tailscaled.nodes.set(PEER.address, { login: OWNER });
  assert.equal(await outcome(whois.authenticate(PEER)), "unauthorized");
  whois.adopt(configOf(USERS));
  assert.equal(await outcome(whois.authenticate(PEER)), "in");
});

Deno.test("a line names plain logins and gives no means to make credentials", () => {
  const isGood = (users: unknown, socket = "/run/x.sock") =>
    TailscaleConfig.safeParse({ socket, users }).success;
  assert.ok(isGood({ [OWNER]: { scopes: [] } }));
  assert.ok(isGood({ "alice@github": { scopes: ["metrics"] } }));
  for (
    const login of [
      "owner",
      "",
      "*",
      "@example.com",
      "owner@",
      "ow ner@example.com",
      "öwner@example.com",
      `${"x".repeat(200)}@example.com`,
    ]
  ) assert.ok(!isGood({ [login]: { scopes: [] } }), login);
  for (const scope of ["admin", "pairing", "hooks", "operator.read", "any"]) {
    assert.ok(!isGood({ [OWNER]: { scopes: [scope] } }), scope);
  }
  for (
    const line of [
      {},
      { scopes: [], as: "program" },
      { scopes: [], as: "node" },
      { scopes: [], integrity: "owner" },
    ]
  ) assert.ok(!isGood({ [OWNER]: line }), JSON.stringify(line));
  for (
    const socket of [
      "tailscaled.sock",
      "/run/../etc/x.sock",
      "/run/a,b.sock",
      "/run/a b.sock",
      "/run//x.sock",
      "/run/",
      "/",
      "",
      `/${"x".repeat(103)}`,
    ]
  ) assert.ok(!isGood({}, socket), socket);
});

Deno.test("no mutation of an answer lets in who would not be", async () => {
  await using rig = await openRig({ limits: { nobodyMs: 0 } });
  const { whois, tailscaled } = rig;
  let port = 1;
  const node = fc.record<FakeNode>({
    login: fc.constantFrom(OWNER, "OWNER@example.com", "x@example.com"),
    id: fc.constantFrom("nPEER", SELF.id),
    user: fc.nat(3),
    profile: fc.nat(3),
    sharer: fc.nat(1),
    isSharee: fc.boolean(),
    tags: fc.constantFrom([], ["tag:x"]),
    addresses: fc.constantFrom([`${PEER.address}/32`], ["100.64.0.8/32"]),
  });
  await fc.assert(
    fc.asyncProperty(node, async (one) => {
      tailscaled.nodes.set(PEER.address, {
        body: whoisBody(one, PEER.address),
      });
      const isIn = await whois.find({ ...PEER, port: port++ }) !== undefined;
      const isRight = one.login === OWNER && one.id === "nPEER" &&
        one.user === one.profile && one.sharer === 0 && !one.isSharee &&
        one.tags?.length === 0 && one.addresses?.[0] === `${PEER.address}/32`;
      assert.equal(isIn, isRight);
    }),
    { numRuns: 60 },
  );
});
