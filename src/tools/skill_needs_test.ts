import assert from "node:assert/strict";
import {
  isSetIn,
  missingOf,
  needsOf,
  needsText,
  type SkillFacts,
} from "./skill_needs.ts";

const facts = (change: Partial<SkillFacts> = {}): SkillFacts => ({
  os: "linux",
  hasEnv: (name) => name === "API_KEY",
  isSet: (key) => isSetIn({ web: { on: true, off: false, name: "" } }, key),
  programs: () => new Set(["git"]),
  ...change,
});
const lacks = (metadata: unknown, change: Partial<SkillFacts> = {}) =>
  missingOf(needsOf(JSON.stringify(metadata)), facts(change));

Deno.test("a skill's needs are read under both names and compared with what is there", () => {
  for (const name of ["openclaw", "clawdbot"]) {
    const of = (requires: Record<string, unknown>, rest = {}) =>
      lacks({ [name]: { requires, ...rest } });
    assert.deepEqual(of({ bins: ["git"], env: ["API_KEY"] }), []);
    assert.deepEqual(of({ config: ["web.on"] }), []);
    assert.deepEqual(of({}, { os: ["linux", "darwin"] }), []);
    assert.deepEqual(of({ anyBins: ["hg", "git"] }), []);
    assert.equal(of({ bins: ["git", "hg"] }).length, 1);
    assert.equal(of({ anyBins: ["hg", "svn"] }).length, 1);
    assert.equal(of({ env: ["OTHER"] }).length, 1);
    assert.equal(of({ os: ["win32"] }).length, 1);
    for (const key of ["web.off", "web.name", "web.none", "__proto__.x"]) {
      assert.equal(of({ config: [key] }).length, 1, key);
    }
    assert.equal(
      of({ bins: ["a"], env: ["B"], config: ["c"] }, { os: ["darwin"] }).length,
      4,
    );
  }
  assert.deepEqual(
    lacks({ openclaw: { os: ["win32"] } }, { os: "windows" }),
    [],
  );
  assert.deepEqual(lacks({ other: { requires: { bins: ["x"] } } }), []);
});

Deno.test("needs in a form that is not read are not taken for none", () => {
  const read = (text: string) => missingOf(needsOf(text), facts()).length;
  assert.equal(read('{"openclaw": {"requires": {"bins": ["git",],},},}'), 0);
  assert.equal(read("openclaw: requires: bins: - git"), 1);
  assert.equal(read('{"openclaw": {"requires": {"bins": "git"}}}'), 1);
  assert.equal(read(`{"openclaw": {"requires": ${"[".repeat(9_000)}`), 1);
  assert.equal(read(`{"openclaw": {"requires": ${"[".repeat(500)}`), 1);
  assert.equal(read("version 2"), 0);
  assert.equal(missingOf(needsOf(undefined), facts()).length, 0);
  assert.deepEqual(
    needsText(
      needsOf('{"openclaw":{"os":["linux"],"requires":{"bins":["a"]}}}'),
    ),
    ["a", "on linux"],
  );
});
