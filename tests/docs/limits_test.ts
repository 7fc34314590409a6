import assert from "node:assert/strict";
import { GATEWAY_LIMITS } from "../../src/gateway/limits.ts";
import { findLimits, limitsIn, makeLimitsDoc } from "./limits.ts";

Deno.test("every limit of a table says what it bounds", async () => {
  const silent = (await findLimits()).filter(({ about }) => about.length < 12);
  assert.deepEqual(silent.map(({ where }) => where), []);
});

Deno.test("no room is without a limit, and none of the gateway's is left out", async () => {
  const rows = await findLimits();
  const rooms = new Set(rows.map(({ room }) => room));
  for (
    const room of [
      ...["core", "gateway", "agent", "guard", "plugins", "tools"],
      ...["store", "egress", "auth", "providers", "ops"],
    ]
  ) {
    assert.ok(rooms.has(room), room);
  }
  for (const [name, value] of Object.entries(GATEWAY_LIMITS)) {
    const row = rows.find((row) =>
      row.name === name && ["gateway", "core"].includes(row.room)
    );
    assert.equal(row?.value, value, name);
  }
  assert.ok(rows.every(({ value }) => Number.isFinite(value)));
});

Deno.test("a limit without a word about it is found", () => {
  const [row] = limitsIn("room/x.ts", "const X_LIMITS = {\n  a: 1,\n};");
  assert.equal(row?.about, "");
  const text =
    "const X_LIMITS = {\n  /** The most. */\n  aBytesMax: 2 * 8,\n};";
  assert.deepEqual(limitsIn("room/x.ts", text), [{
    room: "room",
    where: "room/x.ts:X_LIMITS.aBytesMax",
    name: "aBytesMax",
    value: 16,
    unit: "bytes",
    about: "The most.",
    isTable: true,
  }]);
});

Deno.test("the document holds what the configuration bounds too", async () => {
  const text = await makeLimitsDoc();
  for (const key of ["limits.stepsMax", "health.diskFreeMb"]) {
    assert.ok(text.includes(`\`${key}\``), key);
  }
});
