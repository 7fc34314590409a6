/**
 * The configuration through the gateway: read without secrets, written only by
 * the owner, with its comments, against the version that was looked at, and
 * taken back.
 */
import assert from "node:assert/strict";
import { Secret } from "../../src/core/secret.ts";
import { openSecrets } from "../../src/config/secrets.ts";
import { CONFIG_REVISIONS_MAX } from "../../src/store/config_revisions.ts";
import { type AnyFrame, FakeClient } from "../fakes/gateway_house.ts";
import { openRealHouse, type RealHouse } from "../fakes/real_house.ts";
import { symlink } from "../fakes/symlink.ts";

async function join(house: RealHouse, token: string): Promise<FakeClient> {
  const client = new FakeClient(`${house.url.replace("http", "ws")}/ws`);
  await client.opened;
  assert.equal((await client.connect({ auth: { token } })).ok, true);
  return client;
}

async function ask(
  client: FakeClient,
  method: string,
  params: object = {},
): Promise<AnyFrame> {
  const { ok, payload, error } = await client.call(method, params);
  assert.ok(ok, `${method}: ${JSON.stringify(error)}`);
  return payload;
}

async function put(house: RealHouse, text: string): Promise<string> {
  const path = `${house.stateDir}/carapace.jsonc`;
  await Deno.writeTextFile(path, text, { mode: 0o600 });
  return path;
}

Deno.test("lines are changed, the rest stays as its author wrote it", async (t) => {
  await using house = await openRealHouse();
  using owner = await join(house, house.owner);
  const path = await put(
    house,
    '{\n  // Mine.\n  "log": { "level": "info" },\n}\n',
  );
  const before = await ask(owner, "config.get");
  assert.equal(before.valid, true, JSON.stringify(before.issues));
  assert.equal(before.path, await Deno.realPath(path));
  assert.equal(before.writable, true);
  assert.equal(before.config.log.level, "info");
  await t.step("a patch keeps comments", async () => {
    const done = await ask(owner, "config.patch", {
      raw: '{"log":{"level":"warn"},"agents":{"main":{"name":"Ada"}}}',
      baseHash: before.hash,
      note: "quieter",
    });
    const text = await Deno.readTextFile(path);
    assert.match(text, /\/\/ Mine\./);
    assert.match(text, /"level": "warn"/);
    assert.deepEqual(done.changes[0], {
      path: "log.level",
      before: "info",
      after: "warn",
    });
    assert.equal((await Deno.stat(path)).mode, 0o100600);
    assert.equal((await ask(owner, "config.get")).hash, done.hash);
  });
  await t.step("null removes", async () => {
    const { hash } = await ask(owner, "config.get");
    const raw = '{"agents":{"main":{"name":null}}}';
    await ask(owner, "config.patch", { raw, baseHash: hash });
    assert.doesNotMatch(await Deno.readTextFile(path), /Ada/);
  });
  await t.step(
    "a stale hash is a conflict, and nothing is written",
    async () => {
      const now = await Deno.readTextFile(path);
      for (const method of ["config.set", "config.apply", "config.patch"]) {
        const { error } = await owner.call(method, {
          raw: '{"log":{"level":"error"}}',
          baseHash: before.hash,
        });
        assert.equal(error.code, "CONFLICT", method);
      }
      const { error } = await owner.call("config.set", { raw: "{}" });
      assert.equal(error.code, "INVALID_REQUEST");
      assert.equal(await Deno.readTextFile(path), now);
    },
  );
  await t.step(
    "an invalid text is refused whole, with line and column",
    async () => {
      const now = await Deno.readTextFile(path);
      const { hash } = await ask(owner, "config.get");
      for (
        const [raw, place] of [
          [
            '{\n  "gateway": { "port": "x" }\n}',
            /carapace\.jsonc:2:\d+: gateway\.port/,
          ],
          ['{\n  "log": {},\n  "nope": 1\n}', /carapace\.jsonc:3:3/],
          ['{\n  "log": {,\n}', /carapace\.jsonc:2:11.*not JSON/],
          ['{ "tools": { "roots": ["/"] } }', /tools\.roots/],
        ] as const
      ) {
        const { error } = await owner.call("config.set", {
          raw,
          baseHash: hash,
        });
        assert.equal(error?.code, "INVALID_REQUEST", raw);
        assert.match(error.message, place);
        const said = await ask(owner, "config.validate", { raw });
        assert.equal(said.ok, false);
      }
      assert.equal(await Deno.readTextFile(path), now);
      assert.equal((await ask(owner, "config.validate")).ok, true);
    },
  );
  await t.step("undo, by step and by name; the history says who", async () => {
    const { hash } = await ask(owner, "config.get");
    await ask(owner, "config.undo", { baseHash: hash });
    assert.match(await Deno.readTextFile(path), /Ada/);
    const { revisions } = await ask(owner, "config.revisions");
    assert.deepEqual(
      revisions.map((r: AnyFrame) => [r.via, r.by, r.current]),
      [
        ["undo", "owner", true],
        ["patch", "owner", false],
        ["patch", "owner", false],
        ["file", "file", false],
      ],
    );
    const first = revisions.at(-1).id;
    const shown = await ask(owner, "config.revisions", { id: first });
    assert.match(shown.raw, /"info"/);
    const now = (await ask(owner, "config.get")).hash;
    await ask(owner, "config.undo", { baseHash: now, to: first });
    assert.match(await Deno.readTextFile(path), /"info"/);
    const audit = await ask(owner, "audit.list", { event: "config.write" });
    assert.equal(audit.rows.length, 4);
    assert.equal(audit.rows[0].fields.by, "owner");
  });
});

Deno.test("no secret comes out, and what stands for one does not go in", async () => {
  await using house = await openRealHouse();
  using owner = await join(house, house.owner);
  const secrets = openSecrets({
    dir: house.stateDir,
    env: { get: () => undefined },
  });
  await secrets.set("KEY", new Secret("sk-very-secret-1234567890", "test"));
  const path = await put(
    house,
    `{
  "providers": { "openai": { "apiKey": "\${secret:KEY}" } },
  "mcp": { "servers": { "a": { "url": "https://me:pa55@mcp.test/" } } }, // x
}
`,
  );
  const got = await ask(owner, "config.get");
  const all = JSON.stringify(got);
  assert.ok(!all.includes("sk-very") && !all.includes("pa55"), all);
  assert.match(got.raw, /\$\{secret:KEY\}/);
  assert.match(got.raw, /\/\/ x/);
  const back = await owner.call("config.set", {
    raw: got.raw,
    baseHash: got.hash,
  });
  assert.match(back.error.message, /did not show/);
  assert.match(await Deno.readTextFile(path), /pa55/);
  await put(house, '{ "providers": { "openai": { "apiKey": "sk-plain-1" } } }');
  const plain = await ask(owner, "config.get");
  assert.ok(!JSON.stringify(plain).includes("sk-plain-1"));
  assert.equal(plain.valid, false);
  await put(
    house,
    '{ "providers": { "openai": { "apiKey": "sk-plain-1" }, }, ',
  );
  const broken = await ask(owner, "config.get");
  assert.equal(broken.raw, null);
  assert.ok(!JSON.stringify(broken).includes("sk-plain-1"));
  const mended = await ask(owner, "config.set", {
    raw: "{}",
    baseHash: broken.hash,
  });
  assert.equal(mended.ok, true);
});

Deno.test("a token alone lets nothing be executed", async (t) => {
  await using house = await openRealHouse();
  using owner = await join(house, house.owner);
  using admin = await join(house, await house.token({ scopes: ["admin"] }));
  using writer = await join(house, await house.token());
  const { hash } = await ask(owner, "config.get");
  const programs = [
    '{"tools":{"roots":["/tmp/a"],"exec":{"commands":{"rm":{"about":"x","run":"/bin/rm","cwd":"/tmp/a"}}}}}',
    '{"mcp":{"servers":{"x":{"command":"/bin/sh"}}}}',
    '{"mcpServers":{"x":{"command":"/bin/sh"}}}',
  ];
  for (const raw of programs) {
    await t.step(raw, async () => {
      const valid = await ask(owner, "config.validate", { raw });
      assert.equal(valid.ok, true, JSON.stringify(valid.issues));
      for (const method of ["config.set", "config.apply", "config.patch"]) {
        const { error } = await owner.call(method, { raw, baseHash: hash });
        assert.equal(error?.code, "FORBIDDEN", method);
        assert.match(error.message, /would let the launcher start/);
      }
    });
  }
  await t.step(
    "who is an administrator but not the owner writes nothing",
    async () => {
      assert.equal((await ask(admin, "config.get")).hash, hash);
      for (const method of ["config.set", "config.apply", "config.patch"]) {
        const { error } = await admin.call(method, {
          raw: "{}",
          baseHash: hash,
        });
        assert.equal(error.details.code, "OWNER_ONLY");
        const short = await writer.call(method, { raw: "{}", baseHash: hash });
        assert.equal(short.error.details.code, "MISSING_SCOPE");
      }
      const { error } = await admin.call("config.undo", { baseHash: hash });
      assert.equal(error.details.code, "OWNER_ONLY");
    },
  );
  await t.step("nothing was written, also no revision", async () => {
    assert.equal((await ask(owner, "config.get")).exists, false);
    const { revisions } = await ask(owner, "config.revisions");
    assert.deepEqual(revisions, []);
  });
  await t.step("no tool reaches it", async () => {
    const { groups } = await ask(owner, "tools.catalog");
    const names = groups.flatMap((g: AnyFrame) =>
      g.tools.map(({ id }: AnyFrame) => id)
    );
    assert.deepEqual(
      names.filter((n: string) => /config/.test(n)),
      [
        "config_read",
      ].filter((name) => names.includes(name)),
    );
  });
});

Deno.test("a file elsewhere is not written, and it is said why", async () => {
  await using house = await openRealHouse();
  using owner = await join(house, house.owner);
  const elsewhere = `${house.stateDir}/../carapace.jsonc`;
  await Deno.writeTextFile(elsewhere, "{}", { mode: 0o600 });
  await symlink(
    await Deno.realPath(elsewhere),
    `${house.stateDir}/carapace.jsonc`,
  );
  const { hash, writable, why } = await ask(owner, "config.get");
  assert.equal(writable, false);
  assert.match(why, /state directory only/);
  const { error } = await owner.call("config.set", {
    raw: '{"log":{"level":"warn"}}',
    baseHash: hash,
  });
  assert.equal(error.code, "FORBIDDEN");
  assert.match(error.details.hint, /carapace config set/);
  assert.equal(await Deno.readTextFile(elsewhere), "{}");
});

Deno.test("the last fifty are kept, sealed", async () => {
  await using house = await openRealHouse();
  using owner = await join(house, house.owner);
  let { hash } = await ask(owner, "config.get");
  for (let n = 0; n <= CONFIG_REVISIONS_MAX; n++) {
    const raw = `{"agents":{"main":{"name":"marked-${n}"}}}`;
    ({ hash } = await ask(owner, "config.set", { raw, baseHash: hash }));
  }
  const { revisions } = await ask(owner, "config.revisions", { limit: 50 });
  assert.equal(revisions.length, CONFIG_REVISIONS_MAX);
  const oldest = await ask(owner, "config.revisions", {
    id: revisions.at(-1).id,
  });
  assert.match(oldest.raw, /marked-1"/);
  for await (const { name } of Deno.readDir(house.stateDir)) {
    if (!/kv|sqlite|db/.test(name)) continue;
    const text = await Deno.readFile(`${house.stateDir}/${name}`);
    assert.ok(!new TextDecoder().decode(text).includes("marked-3"), name);
  }
});
