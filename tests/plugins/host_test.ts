/** The host: installing, granting, calling, limits, updates, removal. */
import assert from "node:assert/strict";
import { PluginGrant } from "../../src/plugins/config.ts";
import {
  fakeHost,
  guest,
  manifestOf,
  probe,
  secret,
  tool,
  wat,
} from "../fakes/plugins.ts";

const EMPTY = '(module (func (export "a")) (memory 1))';

Deno.test("a plugin is installed, granted and called", async (t) => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await probe();
  await t.step("installing runs none of its code", async () => {
    const view = await fake.host.install({
      manifest,
      bytes,
      source: "here",
      allowUnsigned: true,
      by: "owner",
    });
    assert.deepEqual([view.state, view.isLoaded], ["off", false]);
    await assert.rejects(
      fake.call("probe", "echo"),
      /does not run \(off\): nothing was granted to it yet/,
    );
  });
  await t.step("a grant starts it, hot, and its tools are there", async () => {
    const view = await fake.add(manifest, bytes);
    assert.equal(view.state, "ready", `${view.why}`);
    assert.equal(
      await fake.call("probe", "echo", { text: "a" }),
      '{"text":"a"}',
    );
    const echo = fake.registry.find("probe_echo");
    assert.equal(echo?.implied, "schedule");
    assert.equal(echo?.result.integrity, "untrusted");
  });
  await t.step("its arguments are checked before it sees them", async () => {
    await assert.rejects(fake.call("probe", "echo", { text: 1 }), /text: /);
    await assert.rejects(fake.call("probe", "echo", { other: 1 }), /other/);
    await assert.rejects(
      fake.call("probe", "nothing"),
      /has no tool "nothing"/,
    );
  });
  await t.step("its own failure is the call's, and no trap", async () => {
    await assert.rejects(
      fake.call("probe", "say", { fail: "no such place" }),
      /tool "say" failed: no such place/,
    );
  });
  await t.step("switched off, its tools are gone", async () => {
    const granted = fake.config.granted["probe"];
    assert.ok(granted);
    await fake.grant("probe", { ...granted, enabled: false });
    assert.equal(fake.registry.find("probe_echo"), undefined);
    await assert.rejects(fake.call("probe", "echo"), /switched off/);
  });
  await t.step("removed, nothing of it is left", async () => {
    await fake.host.remove("probe", "owner");
    assert.deepEqual(await fake.host.list(), []);
    await assert.rejects(
      fake.store.plugins.module(
        (manifest["wasm"] as { sha256: string }).sha256,
      ),
      /There is no module/,
    );
    const events = (await fake.store.audit.list({ limit: 20 })).map((row) =>
      row.event
    );
    for (const event of ["installed", "granted", "removed"]) {
      assert.ok(events.includes(`plugin.${event}`), event);
    }
  });
});

Deno.test("an import without its grant is not linked", async () => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await probe();
  const { http: _, ...less } = PluginGrant.parse({ kv: { bytes: 10 } });
  const view = await fake.add(manifest, bytes, { ...less, http: [] });
  assert.equal(view.state, "blocked");
  assert.match(view.why ?? "", /carapace_http/);
});

Deno.test("an update that wants more stops until it is looked at", async () => {
  await using fake = await fakeHost();
  const bytes = await wat(EMPTY);
  const first = await manifestOf("a-b", bytes, { tools: [tool("a")] });
  assert.equal((await fake.add(first, bytes)).state, "ready");
  const install = (more: Record<string, unknown>) =>
    fake.host.install({
      manifest: { ...first, ...more },
      bytes,
      source: "",
      allowUnsigned: true,
      by: "owner",
    });
  const same = await install({ version: "1.0.1" });
  assert.deepEqual([same.state, same.version], ["ready", "1.0.1"]);
  const more = await install({ version: "2.0.0", wants: { log: true } });
  assert.equal(more.state, "held");
  assert.match(more.why ?? "", /write log lines/);
  await assert.rejects(fake.call("a-b", "a"), /does not run \(held\)/);
  const next = { ...first, version: "2.0.0", wants: { log: true } };
  assert.equal((await fake.add(next, bytes)).state, "ready");
});

Deno.test("another publisher cannot take an installed plugin's id", async () => {
  await using fake = await fakeHost();
  const bytes = await wat(EMPTY);
  const manifest = await manifestOf("a-b", bytes, { tools: [tool("a")] });
  await fake.add(manifest, bytes);
  await assert.rejects(
    fake.host.install({
      manifest: { ...manifest, publisher: "Others" },
      bytes,
      source: "",
      allowUnsigned: true,
      by: "owner",
    }),
    /that id is taken by a plugin of "Tests"/,
  );
});

Deno.test("five traps in a minute stop a plugin until the owner starts it", async () => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await probe();
  await fake.add(manifest, bytes);
  for (let n = 0; n < 5; n++) {
    await assert.rejects(
      fake.call("probe", "say", { trap: "now" }),
      /tool "say" trapped: unreachable/,
    );
  }
  await assert.rejects(
    fake.call("probe", "echo"),
    /does not run \(stopped\): it failed 5 times in a minute/,
  );
  assert.deepEqual(fake.changes.at(-1)?.state, "stopped");
  assert.equal(fake.registry.find("probe_echo"), undefined);
  const view = await fake.host.restart("probe", "owner");
  assert.equal(view.state, "ready");
  assert.equal(await fake.call("probe", "echo"), "{}");
});

Deno.test("the owner gives one plugin other limits, within their bounds", async (t) => {
  const config = { limits: { fuel: 2_000_000_000 } };
  await using fake = await fakeHost({ config });
  const bytes = await guest("hostile");
  const manifest = await manifestOf("hostile", bytes, {
    tools: [tool("spin"), tool("output_flood")],
    wants: { kv: { bytes: 10 }, log: true },
  });
  const spin = async (limits: PluginGrant["limits"], want: RegExp) => {
    await fake.add(manifest, bytes, { limits });
    await assert.rejects(fake.call("hostile", "spin"), want);
  };
  await t.step(
    "without a line the limits of all hold",
    () => spin({}, /fuel exhausted after 2\.0e9 units/),
  );
  await t.step(
    "less than that, at once",
    () => spin({ fuel: 5_000_000 }, /fuel exhausted after 5\.0e6 units/),
  );
  await t.step(
    "more than that",
    () => spin({ fuel: 3_000_000_000 }, /fuel exhausted after 3\.0e9 units/),
  );
  await t.step("the other limits too", async () => {
    await fake.add(manifest, bytes, { limits: { outputBytesMax: 16_777_216 } });
    assert.equal((await fake.call("hostile", "output_flood")).length, 8 << 20);
  });
  await t.step("what is out of bounds is no configuration", () => {
    const wrong = [
      { fuel: 999_999 },
      { fuel: 1_000_000_000_001 },
      { fuel: 1.5 },
      { memoryMiB: 1025 },
      { callMs: 99 },
      { speed: 1 },
    ];
    for (const limits of wrong) {
      assert.equal(PluginGrant.safeParse({ limits }).success, false);
    }
    for (const fuel of [1_000_000, 1_000_000_000_000]) {
      assert.equal(PluginGrant.safeParse({ limits: { fuel } }).success, true);
    }
  });
});

Deno.test("calls wait their turn, and a full queue says so", async () => {
  const limits = { queuedMax: 2 };
  await using fake = await fakeHost({ config: { limits } });
  const { manifest, bytes } = await probe();
  await fake.add(manifest, bytes);
  const calls = [1, 2, 3, 4].map((n) =>
    fake.call("probe", "echo", { text: `${n}` })
  );
  const all = await Promise.allSettled(calls);
  assert.deepEqual(all.map(({ status }) => status), [
    "fulfilled",
    "fulfilled",
    "fulfilled",
    "rejected",
  ]);
  const [, , , last] = all;
  assert.match(String(last?.status === "rejected" && last.reason), /is busy/);
});

Deno.test("a call that is given up gives its caller the reason at once", async () => {
  await using fake = await fakeHost();
  const bytes = await guest("hostile");
  const manifest = await manifestOf("hostile", bytes, {
    tools: [tool("spin")],
    wants: { kv: { bytes: 10 }, log: true },
  });
  await fake.add(manifest, bytes);
  const controller = new AbortController();
  const call = fake.host.call({ id: "hostile", tool: "spin", args: {} }, {
    label: { integrity: "owner", secrecy: [], origins: [] },
    signal: controller.signal,
  });
  setTimeout(
    () => controller.abort(new DOMException("left", "AbortError")),
    30,
  );
  const begun = performance.now();
  await assert.rejects(call, /left/);
  assert.ok(performance.now() - begun < 500);
});

Deno.test("a plugin that nobody calls gives its worker back", async () => {
  await using fake = await fakeHost({ config: { limits: { idleMs: 1_000 } } });
  const { manifest, bytes } = await probe();
  assert.equal((await fake.add(manifest, bytes)).isLoaded, true);
  while ((await fake.host.list())[0]?.isLoaded) {
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.equal(await fake.call("probe", "echo"), "{}");
});

Deno.test("what a plugin was granted outlives the process, what it kept too", async () => {
  await using first = await fakeHost();
  const { manifest, bytes } = await probe();
  await first.add(manifest, bytes);
  await first.ask("kv_set", { key: "a", value: "1" });
  const granted = { probe: first.config.granted["probe"] };
  await first.host[Symbol.asyncDispose]();
  await using again = await fakeHost({ store: first.store });
  const { id } = (await again.host.list())[0] ?? {};
  assert.equal(id, "probe");
  await again.grant("probe", granted.probe);
  assert.deepEqual(await again.ask("kv_get", { key: "a" }), {
    ok: true,
    value: "1",
  });
});

Deno.test("bytes that were changed in the store do not run", async () => {
  await using fake = await fakeHost();
  const bytes = await wat(EMPTY);
  const manifest = await manifestOf("a-b", bytes, { tools: [tool("a")] });
  await fake.add(manifest, bytes);
  const { sha256 } = manifest["wasm"] as { sha256: string };
  await fake.store.journal.commit([{
    key: ["plugin_blob", 1, sha256, 0],
    value: (await wat("(module)")).toBase64(),
  }]);
  await fake.host.restart("a-b", "owner");
  const [view] = await fake.host.list();
  assert.equal(view?.state, "blocked");
  assert.match(view?.why ?? "", /its bytes are not those of its hash/);
});

Deno.test("a long text is read within the fuel of one call", async () => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await probe();
  await fake.add(manifest, bytes);
  // Eight escapes in each piece of it, on its way in.
  const setting = '{"id":1,"name":"x"},'.repeat(10_000);
  assert.equal(await fake.call("probe", "say", { setting }), "");
});

Deno.test("a setting is read, a secret is not one of them", async () => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await probe();
  await fake.add(manifest, bytes, {
    config: { color: "blue" },
    secrets: { token: secret("hunter2hunter2") },
  });
  const read = (setting: string) => fake.call("probe", "say", { setting });
  assert.equal(await read("color"), "blue");
  for (const name of ["token", "toString", "__proto__", "constructor", ""]) {
    assert.equal(await read(name), "", name);
  }
});
