/**
 * A gateway that speaks TLS, and the command line of another machine: real
 * processes, certificates made by `carapace tls`, the launcher's own flags.
 */
import assert from "node:assert/strict";
import { EXIT } from "../../src/cli/verb.ts";
import { tokenOf } from "./gateways.ts";
import { freePort, scratch } from "./processes.ts";
import { carapace, good, keyOf, startTls } from "./verbs.ts";

Deno.test("the command line of another machine trusts a gateway once it is told", async (t) => {
  await using far = await scratch();
  await using near = await scratch();
  await using gateway = await startTls(far.path);
  const url = `wss://127.0.0.1:${gateway.port}`;
  const tokenFile = `${near.path}/token`;
  await Deno.writeTextFile(tokenFile, await tokenOf(gateway), { mode: 0o600 });
  const status = (...more: string[]) =>
    carapace(near.path, ["status", "--json", "--url", url, ...more]);
  const key = await keyOf(far.path);

  await t.step("its own command line needs no word", async () => {
    const ran = await carapace(far.path, ["status", "--json"]);
    assert.equal(ran.code, EXIT.ok, ran.err);
  });
  await t.step(
    "a key nobody vouches for is refused, with what to do",
    async () => {
      const ran = await status("--token", tokenFile);
      assert.equal(ran.code, EXIT.failed);
      assert.ok(ran.err.includes(key), ran.err);
      assert.match(ran.err, /--pin sha256:/);
    },
  );
  await t.step("another pin is refused", async () => {
    const other = `sha256:${"0".repeat(64)}`;
    const ran = await status("--token", tokenFile, "--pin", other);
    assert.equal(ran.code, EXIT.failed);
    assert.match(ran.err, /HAS CHANGED/);
  });
  await t.step("the right pin is kept, for the owner alone", async () => {
    const ran = await status("--token", tokenFile, "--pin", key);
    assert.equal(ran.code, EXIT.ok, ran.err);
    const pins = `${near.path}/pins.json`;
    assert.equal(((await Deno.stat(pins)).mode ?? 0) & 0o777, 0o600);
    const kept = JSON.parse(await Deno.readTextFile(pins));
    assert.deepEqual(kept, { [`127.0.0.1:${gateway.port}`]: key });
    const again = await status("--token", tokenFile);
    assert.equal(again.code, EXIT.ok, again.err);
  });
  await t.step("without a token it says so", async () => {
    const ran = await carapace(near.path, ["status", "--url", url], {
      CARAPACE_TOKEN: "a-token-that-nobody-made-here",
    });
    assert.equal(ran.code, EXIT.unauthorized, ran.err);
  });
  await t.step("a token others can read is refused", async () => {
    const open = `${near.path}/open`;
    await Deno.writeTextFile(open, "x".repeat(43), { mode: 0o644 });
    const ran = await status("--token", open);
    assert.equal(ran.code, EXIT.failed);
    assert.match(ran.err, /other users can reach it/);
  });
  await t.step("a token is no argument, and not in the address", async () => {
    const token = await tokenOf(gateway);
    const typed = await status("--token", token);
    assert.equal(typed.code, EXIT.usage);
    assert.ok(!typed.err.includes(token));
    for (const bad of [`${url}/?token=x`, `wss://a:b@127.0.0.1:1`]) {
      const ran = await carapace(near.path, ["status", "--url", bad]);
      assert.equal(ran.code, EXIT.usage, bad);
    }
  });
  await t.step("the doctor looks at it over the same connection", async () => {
    const ran = await carapace(near.path, [
      ...["doctor", "--json", "--url", url, "--token", tokenFile],
    ]);
    const { checks } = JSON.parse(ran.out);
    const ready = checks.filter((one: { name: string }) =>
      one.name.startsWith("ready: ")
    );
    assert.ok(ready.length > 0, ran.out);
  });
  await t.step(
    "a renewed certificate has the same key, and is taken while it runs",
    async () => {
      const before = JSON.parse(
        await good(far.path, ["tls", "show", "--json"]),
      );
      await good(far.path, ["tls", "issue"]);
      const after = JSON.parse(await good(far.path, ["tls", "show", "--json"]));
      assert.equal(after.server.key, before.server.key);
      assert.notEqual(after.server.certificate, before.server.certificate);
      await gateway.proc.line(
        (line) => line.includes("restarting with"),
        gateway.proc.err,
      );
      let ran = await status("--token", tokenFile);
      // For a moment nobody listens.
      while (ran.code === EXIT.unreachable) {
        ran = await status("--token", tokenFile);
      }
      assert.equal(ran.code, EXIT.ok, ran.err);
    },
  );
  await t.step(
    "a changed key is refused loudly, also with --accept-new",
    async () => {
      await good(far.path, ["tls", "issue", "--new-key"]);
      const changed = await keyOf(far.path);
      assert.notEqual(changed, key);
      await gateway.proc.line(
        (line) =>
          line.includes("gateway.certificate") && line.includes(changed),
        gateway.proc.err,
      );
      let ran = await status("--token", tokenFile, "--accept-new");
      while (ran.code === EXIT.unreachable) {
        ran = await status("--token", tokenFile, "--accept-new");
      }
      assert.equal(ran.code, EXIT.failed, ran.err);
      assert.match(ran.err, /HAS CHANGED/);
      assert.ok(ran.err.includes(key) && ran.err.includes(changed), ran.err);
      const told = await status("--token", tokenFile, "--pin", changed);
      assert.equal(told.code, EXIT.ok, told.err);
    },
  );
});

Deno.test("a gateway does not begin with a key that others can read", async () => {
  await using far = await scratch();
  await good(far.path, ["tls", "init"]);
  await good(far.path, ["tls", "issue", "gw.example.com"]);
  await good(far.path, ["tls", "use"]);
  await Deno.chmod(`${far.path}/tls/key.pem`, 0o640);
  const ran = await carapace(far.path, ["start"], {
    CARAPACE_PORT: String(freePort()),
  });
  assert.notEqual(ran.code, EXIT.ok);
  assert.match(ran.err, /private key.*mode is 0640/);
  assert.match(ran.err, /chmod 600/);
});
