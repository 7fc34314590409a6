/** Threats A1, A2 and A3, as far as this room goes. */
import assert from "node:assert/strict";
import { quietDoor } from "../../tests/fakes/auth.ts";
import fc from "fast-check";
import {
  type Allowed,
  type Authority,
  isAllowed,
  Scope,
  Scopes,
} from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import { Integrity, meetIntegrity } from "../core/label.ts";
import { type Log, silentLog } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { Journal, Row } from "../store/journal.ts";
import { openStore, type Store } from "../store/store.ts";
import type { TokenRow } from "../store/tokens.ts";
import { Authenticator } from "./authenticate.ts";
import { authorityFromRun, principalOf } from "./principal.ts";
import { hashToken, type TokenRequest, Tokens } from "./tokens.ts";

const LONG = "kV7-abcdefghijklmnopqrstuvwxyz";
const HERE = { address: "127.0.0.1" };

/** A room with its own time; `fail` makes commits with such a row fail. */
async function open(fail?: (row: Row) => boolean) {
  let now = 1_000_000;
  const clock: Clock = { now: () => now, sleep: () => Promise.resolve() };
  const store: Store = await openStore({
    dir: ":memory:",
    clock,
    log: silentLog,
  });
  const journal: Journal = {
    commit: async (rows) => {
      if (fail !== undefined && rows.some(fail)) {
        throw new AppError("unavailable", "the disk is full");
      }
      await store.journal.commit(rows);
    },
  };
  const logged: unknown[] = [];
  const log: Log = (...line) => logged.push(line);
  const parts = { tokens: store.tokens, audit: store.audit, journal };
  const tokens = new Tokens({ store: parts, clock, log });
  const door = new Authenticator({ tokens, clock, ...quietDoor(clock) });
  return {
    store,
    tokens,
    door,
    logged,
    enter: (token: string) => door.authenticate({ token }, HERE),
    pass: (ms: number) => void (now += ms),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

function code(error: unknown): string {
  return error instanceof AppError ? error.code : String(error);
}

async function outcome(work: Promise<unknown>): Promise<string> {
  return await work.then(() => "ok", code);
}

Deno.test("Tokens.create() keeps the hash, not the text", async () => {
  await using house = await open();
  const made = await house.tokens.create({ name: "laptop", scopes: ["write"] });
  assert.match(made.token, /^cara_[A-Za-z0-9_-]{43}$/);
  assert.equal(made.row.sha256, hashToken(made.token));
  assert.deepEqual(made.row.scopes, ["chat", "read", "tools", "write"]);
  assert.equal(made.row.integrity, "untrusted");
  const everything = JSON.stringify([
    await house.tokens.list(),
    await house.store.tokens.list(),
    await house.store.audit.list({ limit: 9 }),
    house.logged,
  ]);
  assert.ok(!everything.includes(made.token));
  const [told] = await house.store.audit.list({ limit: 1 });
  assert.equal(told?.event, "token.create");
  assert.equal(told?.fields["token"], made.id);
});

Deno.test("A1: a principal is the server's record, whatever else is presented", async () => {
  await using house = await open();
  const { token, id } = await house.tokens.create({
    name: "reader",
    scopes: ["read"],
  });
  const presented = {
    token,
    role: "operator",
    scopes: ["admin"],
    kind: "owner",
    integrity: "owner",
  };
  const principal = await house.door.authenticate(presented, HERE);
  assert.equal(principal.id, `token:${id}`);
  assert.equal(principal.kind, "program");
  assert.deepEqual(principal.authority.scopes.list(), ["read"]);
  assert.equal(principal.authority.integrity, "untrusted");
  assert.equal(principal.authority.credential, id);
  assert.ok(Object.isFrozen(principal));
});

Deno.test("A2: a token mints no token that may do more than itself", async (t) => {
  await using house = await open();
  const make = async (request: Partial<TokenRequest>) =>
    principalOf(
      (await house.tokens.create({ name: "p", scopes: [], ...request })).row,
    ).authority;
  const pairing = await make({
    scopes: ["pairing", "read"],
    agents: ["main"],
    tools: [],
  });
  const rows: [
    why: string,
    ask: Partial<TokenRequest>,
    missing: RegExp | "ok",
  ][] = [
    ["less than it has", { scopes: ["read"] }, "ok"],
    ["exactly what it has", { scopes: ["read", "pairing"] }, "ok"],
    ["nothing", { scopes: [] }, "ok"],
    ["admin", { scopes: ["admin"] }, /scope "admin"/],
    [
      "admin by its other name",
      { scopes: ["operator.admin"] },
      /scope "admin"/,
    ],
    ["write, which holds read", { scopes: ["write"] }, /scope "write"/],
    ["another agent", { agents: ["main", "other"] }, /agents "other"/],
    ["any agent", { agents: "any" }, /any of agents/],
    ["a tool when it has none", { tools: ["exec"] }, /tools "exec"/],
    ["the owner's words", { integrity: "owner" }, /integrity "owner"/],
    ["to be the owner", { kind: "owner" }, /kind "owner"/],
    ["to be a node", { kind: "node" }, /kind "node"/],
  ];
  for (const [why, ask, missing] of rows) {
    await t.step(why, async () => {
      const work = house.tokens.create(
        { name: "c", scopes: [], ...ask },
        pairing,
      );
      if (missing === "ok") {
        const { row } = await work;
        assert.deepEqual([row.agents, row.tools], [["main"], []]);
        assert.equal(row.mintedBy, pairing.credential);
      } else {
        await assert.rejects(work, { code: "forbidden", message: missing });
      }
    });
  }
  await t.step("a scope that does not exist", async () => {
    const work = house.tokens.create({ name: "c", scopes: ["root"] }, pairing);
    await assert.rejects(work, { code: "bad_input", message: /"root"/ });
  });
});

Deno.test("A2: a token's child does not outlive it", async () => {
  await using house = await open();
  const parent = await house.tokens.create({
    name: "p",
    scopes: ["admin"],
    kind: "owner",
    expiresInMs: 1000,
  });
  const by = principalOf(parent.row).authority;
  const child = await house.tokens.create({ name: "c", scopes: ["read"] }, by);
  assert.equal(child.row.expiresAt, parent.row.expiresAt);
  const longer = await house.tokens.create(
    { name: "d", scopes: ["read"], expiresInMs: 5000 },
    by,
  );
  assert.equal(longer.row.expiresAt, parent.row.expiresAt);
  await house.tokens.revoke(parent.id);
  assert.equal(
    await outcome(house.tokens.create({ name: "e", scopes: [] }, by)),
    "forbidden",
  );
});

Deno.test("A3: a revoked token is refused at once, and its holders are told first", async () => {
  await using house = await open();
  const { token, id } = await house.tokens.create({
    name: "a",
    scopes: ["read"],
  });
  const other = await house.tokens.create({ name: "b", scopes: ["read"] });
  await house.enter(token);
  await house.enter(other.token);
  const told: string[] = [];
  using _listening = house.tokens.onRevoked((credential) =>
    told.push(credential)
  );
  const revoking = house.tokens.revoke(id);
  await revoking;
  assert.deepEqual(told, [id]);
  assert.equal(await outcome(house.enter(token)), "unauthorized");
  assert.equal(await outcome(house.enter(other.token)), "ok");
  assert.deepEqual((await house.tokens.list()).map((row) => row.id), [
    other.id,
  ]);
  await house.tokens.revoke(id);
  assert.deepEqual(told, [id]);
  assert.equal(await outcome(house.tokens.revoke("tok_none")), "not_found");
  const events = (await house.store.audit.list({ limit: 9 })).map((r) =>
    r.event
  );
  assert.deepEqual(events, ["token.revoke", "token.create", "token.create"]);
});

Deno.test("A3: a check that is on its way while its token is revoked does not pass", async () => {
  await using house = await open();
  const { token, id } = await house.tokens.create({
    name: "a",
    scopes: ["read"],
  });
  const told: string[] = [];
  using _listening = house.tokens.onRevoked((credential) =>
    told.push(credential)
  );
  // Someone who opens a socket: enters, listens, asks once more.
  const enter = async () => {
    const got = await outcome(house.enter(token));
    if (got === "ok" && told.includes(id)) {
      return house.tokens.hasEnded(id) ? "closed" : "missed";
    }
    return got;
  };
  const works = Array.from({ length: 20 }, enter);
  const revoking = house.tokens.revoke(id);
  for (let n = 0; n < 20; n++) {
    works.push(enter());
    await Promise.resolve();
  }
  await revoking;
  assert.equal(await enter(), "unauthorized");
  assert.ok(!(await Promise.all(works)).includes("missed"));
});

Deno.test("A3: a new process, and a run made earlier, find a token revoked", async () => {
  await using house = await open();
  const { id, row, token } = await house.tokens.create({
    name: "a",
    scopes: ["read"],
  });
  const run = principalOf(row).authority.toRecord();
  assert.equal(await house.tokens.isLive(run.credential, run.revision), true);
  await house.tokens.revoke(id);
  const clock = { now: () => 1, sleep: () => Promise.resolve() };
  const again = new Tokens({ store: house.store, clock, log: silentLog });
  const door = new Authenticator({ tokens: again, clock, ...quietDoor(clock) });
  assert.equal(await again.isLive(run.credential, run.revision), false);
  assert.equal(
    await outcome(door.authenticate({ token }, HERE)),
    "unauthorized",
  );
  assert.equal(authorityFromRun(run).credential, id);
});

Deno.test("A3: a revocation does not wait for the audit log, nor for the disk", async () => {
  let failing: "nothing" | "audit" | "all" = "nothing";
  await using house = await open((row) =>
    failing === "all" || failing === "audit" && row.late !== undefined
  );
  const one = await house.tokens.create({ name: "a", scopes: ["read"] });
  const two = await house.tokens.create({ name: "b", scopes: ["read"] });
  failing = "audit";
  await house.tokens.revoke(one.id);
  assert.equal(await outcome(house.enter(one.token)), "unauthorized");
  failing = "all";
  await assert.rejects(house.tokens.revoke(two.id), { code: "unavailable" });
  assert.equal(await outcome(house.enter(two.token)), "unauthorized");
  assert.equal((await house.store.tokens.find(one.row.sha256))?.revision, 1);
});

Deno.test("A3: an expired token is refused to the millisecond, and its holders are told", async () => {
  await using house = await open();
  const { token, id } = await house.tokens.create({
    name: "a",
    scopes: ["read"],
    expiresInMs: 1000,
  });
  const told: string[] = [];
  house.tokens.onRevoked((credential) => told.push(credential));
  house.pass(999);
  assert.equal(await outcome(house.enter(token)), "ok");
  assert.deepEqual(await house.tokens.endExpired(), []);
  house.pass(1);
  assert.equal(await outcome(house.enter(token)), "unauthorized");
  assert.deepEqual(await house.tokens.endExpired(), [id]);
  assert.deepEqual(await house.tokens.endExpired(), []);
  assert.deepEqual(told, [id]);
});

Deno.test("Tokens.adopt() takes a good token once, and says why it refuses a bad one", async (t) => {
  await using house = await open();
  const { tokens } = house;
  const first = await tokens.adopt(LONG);
  assert.equal(first.isNew, true);
  const principal = await house.enter(LONG);
  assert.deepEqual([principal.id, principal.kind], ["owner", "owner"]);
  assert.ok(principal.authority.scopes.has("admin"));
  const second = await tokens.adopt(LONG);
  assert.deepEqual([second.isNew, second.id], [false, first.id]);
  const rows: [why: string, token: string, message: RegExp][] = [
    [
      "one character short",
      LONG.slice(0, 23),
      /has 23 characters and needs 24/,
    ],
    ["empty", "", /has 0 characters/],
    ["repeated", "ab".repeat(20), /repeats a few characters/],
    ["white space", `${LONG} x`, /white space/],
    ["too long", LONG.repeat(20), /more than 512/],
  ];
  for (const [why, token, message] of rows) {
    await t.step(why, async () => {
      await assert.rejects(tokens.adopt(token), (error) => {
        assert.ok(error instanceof AppError);
        assert.equal(error.code, "bad_input");
        assert.match(error.message, message);
        return token === "" || !error.message.includes(token);
      });
    });
  }
  await t.step("exactly 24 characters are enough", async () => {
    await tokens.adopt(LONG.slice(0, 24));
  });
});

Deno.test("A3: another token in the environment ends the one before; a revoked one stays out", async () => {
  await using house = await open();
  const { tokens } = house;
  const told: string[] = [];
  tokens.onRevoked((credential) => told.push(credential));
  const first = await tokens.adopt(LONG);
  await house.enter(LONG);
  const second = await tokens.adopt(`${LONG}2`);
  assert.deepEqual(told, [first.id]);
  assert.equal(await outcome(house.enter(LONG)), "unauthorized");
  assert.equal(await outcome(house.enter(`${LONG}2`)), "ok");
  await tokens.revoke(second.id);
  await assert.rejects(tokens.adopt(`${LONG}2`), {
    code: "forbidden",
    message: /revoked/,
  });
  // Going back to one that was only replaced is a new adoption.
  const third = await tokens.adopt(LONG);
  assert.deepEqual([third.isNew, third.id === first.id], [true, false]);
  await tokens.retireAdopted();
  assert.equal(await outcome(house.enter(LONG)), "unauthorized");
  assert.deepEqual(await tokens.list(), []);
});

const allowed: fc.Arbitrary<Allowed> = fc.oneof(
  fc.constant<"any">("any"),
  fc.subarray(["a", "b", "c"]),
);
const request = fc.record({
  scopes: fc.subarray([...Scope.options, "operator.admin", "nothing"]),
  agents: allowed,
  models: allowed,
  tools: allowed,
  integrity: fc.constantFrom(...Integrity.options),
}, { requiredKeys: [] });

/** Whether the first may do nothing the second may not. */
function isWithin(child: Authority, parent: Authority): boolean {
  const a = child.toRecord();
  const b = parent.toRecord();
  return parent.scopes.covers(child.scopes) &&
    meetIntegrity(a.integrity, b.integrity) === a.integrity &&
    (["agents", "models", "tools"] as const).every((list) => {
      const names = a[list];
      return names === "any"
        ? b[list] === "any"
        : names.every((name) => isAllowed(b[list], name));
    });
}

Deno.test("A2: no sequence of narrowing, minting and storing widens an authority", async () => {
  await using house = await open();
  const act = fc.record({
    how: fc.constantFrom("narrow", "mint", "store"),
    ask: request,
  });
  const first = fc.record({
    kind: fc.constantFrom("owner" as const, "program" as const),
    ask: request,
  });
  let count = 0;
  await fc.assert(
    fc.asyncProperty(
      first,
      fc.array(act, { maxLength: 6 }),
      async (root, acts) => {
        const { scopes = [], ...rest } = root.ask;
        const { row } = await house.tokens.create({
          name: `root ${count++}`,
          kind: root.kind,
          scopes: scopes.filter((scope) => scope !== "nothing"),
          ...rest,
        });
        const made: TokenRow[] = [row];
        let authority = principalOf(row).authority;
        for (const { how, ask } of acts) {
          const before = authority;
          if (how === "narrow") authority = before.narrow(ask);
          else if (how === "store") {
            authority = authorityFromRun(
              JSON.parse(JSON.stringify(before.toRecord())),
            );
          } else {
            const minted = await house.tokens.create(
              { name: "child", scopes: [], ...ask },
              before,
            ).catch(code);
            if (typeof minted === "string") {
              assert.match(minted, /^(forbidden|bad_input)$/);
              continue;
            }
            made.push(minted.row);
            authority = principalOf(minted.row).authority;
          }
          assert.ok(isWithin(authority, before), JSON.stringify([how, ask]));
        }
        for (const { id } of made) await house.tokens.revoke(id);
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("A2: intersection is the only way two scope sets meet", () => {
  const scopes = fc.subarray([...Scope.options]).map((names) =>
    Scopes.of(names)
  );
  fc.assert(fc.property(scopes, scopes, (a, b) => {
    const both = a.intersect(b);
    assert.ok(a.covers(both) && b.covers(both));
    assert.deepEqual(both.list(), b.intersect(a).list());
    // Closed: what is stored and read again is the same.
    assert.deepEqual(Scopes.of(both.list()).list(), both.list());
  }));
});
