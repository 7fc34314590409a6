import assert from "node:assert/strict";
import { join } from "node:path";
import { Secret } from "../core/secret.ts";
import { type Env, recordEnv } from "./env.ts";
import { deriveKey, openSecrets, type Secrets } from "./secrets.ts";

const NONE = recordEnv({});
const PASS = recordEnv({ CARAPACE_PASSPHRASE: "correct horse" });
const OTHER = recordEnv({ CARAPACE_PASSPHRASE: "battery staple" });

async function inState(
  run: (dir: string, open: (env?: Env) => Secrets) => Promise<void>,
): Promise<void> {
  await Deno.mkdir("tests/.tmp", { recursive: true });
  const root = await Deno.makeTempDir({ dir: "tests/.tmp" });
  const dir = join(root, "state");
  try {
    await run(dir, (env = NONE) => openSecrets({ dir, env }));
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

function secret(text: string): Secret {
  return new Secret(text, "test");
}

async function find(
  secrets: Secrets,
  name: string,
): Promise<string | undefined> {
  return (await secrets.find(name))?.reveal();
}

async function mode(path: string): Promise<string> {
  return (((await Deno.stat(path)).mode ?? 0) & 0o777).toString(8);
}

Deno.test("openSecrets() keeps values under a key file", async () => {
  await inState(async (dir, open) => {
    assert.deepEqual(await open().list(), []);
    assert.equal(await open().find("A"), undefined);
    assert.equal(await open().remove("A"), false);
    assert.equal(await open().set("A", secret("värde 1")), false);
    assert.equal(await open().set("A", secret("value 2")), true);
    assert.equal(await open().set("B", secret("b\nb")), false);
    assert.deepEqual(await open().list(), ["A", "B"]);
    assert.equal(await find(open(), "A"), "value 2");
    assert.equal((await open().find("B"))?.source, "secret B");
    assert.equal(await open().find("constructor"), undefined);
    assert.equal(await open().remove("A"), true);
    assert.deepEqual(await open().list(), ["B"]);

    assert.equal(await mode(dir), "700");
    for (const name of ["secrets.json", "secrets.key", "secrets.lock"]) {
      assert.equal(await mode(join(dir, name)), "600", name);
    }
    const left = await Array.fromAsync(Deno.readDir(dir));
    assert.equal(left.length, 3);
    const text = await Deno.readTextFile(join(dir, "secrets.json"));
    assert.ok(!text.includes("value 2") && !text.includes("b\\nb"));
  });
});

Deno.test("openSecrets() opens with the passphrase and no other", async () => {
  await inState(async (dir, open) => {
    const before = performance.now();
    await open(PASS).set("A", secret("a"));
    assert.ok(performance.now() - before > 20, "a key must cost something");
    assert.equal(await find(open(PASS), "A"), "a");
    await assert.rejects(Deno.stat(join(dir, "secrets.key")));
    await assert.rejects(open(OTHER).find("A"), {
      code: "locked",
      message: "Cannot open the secrets: the passphrase is another",
    });
    await assert.rejects(open(OTHER).set("B", secret("b")), { code: "locked" });
    await assert.rejects(open().find("A"), { code: "locked" });
    // Names need no key.
    assert.deepEqual(await open().list(), ["A"]);
    assert.equal(await open(OTHER).find("NONE"), undefined);
  });
});

Deno.test("openSecrets() changes its key by rotate()", async (t) => {
  await inState(async (dir, open) => {
    await open().rotate(); // nothing to rotate is fine
    await open().set("A", secret("a"));
    await t.step("to another key file", async () => {
      const key = await Deno.readTextFile(join(dir, "secrets.key"));
      await open().rotate();
      const now = await Deno.readTextFile(join(dir, "secrets.key"));
      assert.ok(now !== key && now.length === key.length);
      assert.equal(await find(open(), "A"), "a");
    });
    await t.step(
      "and survives a crash before the old key is gone",
      async () => {
        const path = join(dir, "secrets.key");
        const key = await Deno.readTextFile(path);
        const fresh = new Uint8Array(32).toBase64();
        await Deno.writeTextFile(path, `${fresh}\n${key}`);
        assert.equal(await find(open(), "A"), "a");
      },
    );
    await t.step("to a passphrase", async () => {
      await open(PASS).rotate();
      assert.equal(await find(open(PASS), "A"), "a");
      await assert.rejects(open().find("A"), { code: "locked" });
      await assert.rejects(Deno.stat(join(dir, "secrets.key")));
    });
    await t.step("to another passphrase", async () => {
      await open(PASS).rotate({ passphrase: secret("battery staple") });
      assert.equal(await find(open(OTHER), "A"), "a");
      await assert.rejects(open(PASS).find("A"), { code: "locked" });
    });
    await t.step("but not to a short one", async () => {
      await assert.rejects(
        open(OTHER).rotate({ passphrase: secret("1234567") }),
        {
          code: "bad_input",
        },
      );
      assert.equal(await find(open(OTHER), "A"), "a");
    });
  });
});

Deno.test("openSecrets() does not take one value for another", async () => {
  await inState(async (dir, open) => {
    const secrets = open();
    await secrets.set("CHEAP", secret("c"));
    await secrets.set("DEAR", secret("d"));
    const path = join(dir, "secrets.json");
    const file = JSON.parse(await Deno.readTextFile(path));
    [file.values.CHEAP, file.values.DEAR] = [
      file.values.DEAR,
      file.values.CHEAP,
    ];
    await Deno.writeTextFile(path, JSON.stringify(file));
    await assert.rejects(secrets.find("DEAR"), /was altered/);
    await assert.rejects(secrets.rotate(), /was altered/);
    await Deno.writeTextFile(path, "{}");
    await assert.rejects(secrets.find("DEAR"), /not a secrets file/);
  });
});

Deno.test("openSecrets() refuses what others can open", async (t) => {
  await inState(async (dir, open) => {
    await open().set("A", secret("a"));
    for (const name of ["secrets.json", "secrets.key"]) {
      await t.step(name, async () => {
        await Deno.chmod(join(dir, name), 0o640);
        await assert.rejects(open().find("A"), { code: "forbidden" });
        await Deno.chmod(join(dir, name), 0o600);
        assert.equal(await find(open(), "A"), "a");
      });
    }
    await t.step("a lost key file is not replaced", async () => {
      await Deno.remove(join(dir, "secrets.key"));
      await assert.rejects(open().set("B", secret("b")), { code: "locked" });
    });
  });
});

Deno.test("openSecrets() refuses odd names and sizes", async (t) => {
  await inState(async (_dir, open) => {
    for (
      const name of ["", "a b", "__proto__", "../x", "-x", "x".repeat(129)]
    ) {
      await t.step(JSON.stringify(name.slice(0, 20)), async () => {
        await assert.rejects(open().set(name, secret("v")), {
          code: "bad_input",
        });
      });
    }
    await assert.rejects(open().set("A", secret("")), { code: "bad_input" });
    await assert.rejects(open().set("A", secret("x".repeat(65_537))), {
      code: "too_large",
    });
    await open().set("x".repeat(128), secret("x".repeat(65_536)));
    assert.equal((await find(open(), "x".repeat(128)))?.length, 65_536);
  });
});

Deno.test("openSecrets() loses nothing when several set at once", async () => {
  await inState(async (_dir, open) => {
    const names = Array.from({ length: 12 }, (_, n) => `N${n}`);
    await Promise.all(names.map((name) => open().set(name, secret(name))));
    assert.deepEqual(await open().list(), names.sort());
    for (const name of names) assert.equal(await find(open(), name), name);
  });
});

Deno.test("deriveKey() gives one key for one passphrase and salt", async () => {
  const salt = new Uint8Array(16);
  const [a, b, c] = await Promise.all([
    deriveKey(secret("pass\u00e9word"), salt),
    deriveKey(secret("passe\u0301word"), salt), // the same text, typed elsewhere
    deriveKey(secret("pass\u00e9word"), new Uint8Array(16).fill(1)),
  ]);
  assert.deepEqual(a, b);
  assert.notDeepEqual(a, c);
  assert.equal(a?.length, 32);
});
