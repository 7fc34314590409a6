import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "./errors.ts";
import {
  buildArgs,
  type CommandTemplate,
  holesIn,
  STEERING_ENV,
  templateHash,
} from "./command.ts";

const TEMPLATE: CommandTemplate = {
  about: "the log of a repository",
  run: "/usr/bin/git",
  args: [
    "log",
    "-n{count}",
    "--format={format}",
    "--author={author}",
    "--",
    "{path}",
  ],
  params: {
    count: { type: "int", min: 1, max: 99 },
    format: { type: "choice", values: ["oneline", "full"] },
    author: { type: "text", charsMax: 32, optional: true },
    path: { type: "path", below: "/srv/repo" },
  },
  cwd: "/srv/repo",
  env: { LANG: "C" },
  timeoutMs: 1000,
  outputBytesMax: 1000,
};

const GOOD = { count: 5, format: "full", path: "src/a.ts" };
const refused = (error: unknown) =>
  error instanceof AppError && error.code === "bad_input";

Deno.test("buildArgs() fills a template and leaves out what is absent", () => {
  assert.deepEqual(buildArgs(TEMPLATE, GOOD), [
    "log",
    "-n5",
    "--format=full",
    "--",
    "/srv/repo/src/a.ts",
  ]);
  assert.deepEqual(
    buildArgs(TEMPLATE, { ...GOOD, author: "a; rm -rf / `id` $(id)" })[3],
    "--author=a; rm -rf / `id` $(id)",
  );
});

Deno.test("buildArgs() refuses what does not fit", async (t) => {
  const rows: [why: string, values: Record<string, unknown>][] = [
    ["a missing value", { count: 5, format: "full" }],
    ["one too many", { ...GOOD, more: "x" }],
    ["a name of every object", { ...GOOD, constructor: "x" }],
    ["__proto__", { ...GOOD, ["__proto__x"]: 1 }],
    ["a number too low", { ...GOOD, count: 0 }],
    ["a number too high", { ...GOOD, count: 100 }],
    ["no whole number", { ...GOOD, count: 1.5 }],
    ["a number as text", { ...GOOD, count: "5" }],
    ["another choice", { ...GOOD, format: "fuller" }],
    ["a list", { ...GOOD, format: ["full"] }],
    ["a text too long", { ...GOOD, author: "x".repeat(33) }],
    ["a NUL", { ...GOOD, author: "a\0b" }],
    ["an escape", { ...GOOD, author: "a\x1b[2J" }],
    ["a carriage return", { ...GOOD, author: "a\rb" }],
    ["half a character", { ...GOOD, author: "\ud800" }],
    ["a path up", { ...GOOD, path: "../x" }],
    ["a path up inside", { ...GOOD, path: "src/../../x" }],
    ["a path elsewhere", { ...GOOD, path: "/etc/passwd" }],
    ["a path that begins alike", { ...GOOD, path: "/srv/repository" }],
    ["an empty part", { ...GOOD, path: "a//b" }],
    ["a line feed in a path", { ...GOOD, path: "a\nb" }],
    ["no path", { ...GOOD, path: 7 }],
  ];
  for (const [why, values] of rows) {
    await t.step(why, () => {
      assert.throws(() => buildArgs(TEMPLATE, values), refused);
    });
  }
});

Deno.test("buildArgs() lets no value become an option, but after a literal --", () => {
  const open = (args: string[]): CommandTemplate => ({
    ...TEMPLATE,
    args,
    params: {
      text: { type: "text", charsMax: 99 },
      n: { type: "int", min: -9, max: 9, optional: true },
    },
  });
  const run = (args: string[], text: string) => buildArgs(open(args), { text });
  assert.throws(() => run(["{text}"], "--upload-pack=evil"), refused);
  assert.throws(() => run(["{text}x"], "-o"), refused);
  assert.throws(() => run(["{text}", "--"], "-x"), refused);
  assert.throws(
    () => buildArgs(open(["{n}", "{text}"]), { n: -1, text: "a" }),
    refused,
  );
  assert.deepEqual(run(["--", "{text}"], "-x"), ["--", "-x"]);
  assert.deepEqual(run(["--name={text}"], "-x"), ["--name=-x"]);
});

Deno.test("buildArgs() makes as many arguments as the template has, whatever is given", () => {
  const template: CommandTemplate = {
    ...TEMPLATE,
    args: ["fixed", "--a={a}", "--", "{b}"],
    params: {
      a: { type: "text", charsMax: 1000 },
      b: { type: "text", charsMax: 1000 },
    },
  };
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 40 }),
    fc.constantFrom("{a}", "{b}", "$(id)", "`id`", "a b", "\"'", "-x", "--"),
  );
  fc.assert(fc.property(text, text, (a, b) => {
    try {
      const args = buildArgs(template, { a, b });
      assert.deepEqual(args, ["fixed", `--a=${a}`, "--", b]);
    } catch (error) {
      assert.ok(refused(error));
    }
  }));
});

Deno.test("templateHash() changes with every part of a template", async () => {
  const hash = await templateHash(TEMPLATE);
  const others: CommandTemplate[] = [
    { ...TEMPLATE, run: "/bin/rm" },
    { ...TEMPLATE, args: [...TEMPLATE.args, "x"] },
    { ...TEMPLATE, cwd: "/" },
    { ...TEMPLATE, env: {} },
    { ...TEMPLATE, timeoutMs: 1 },
  ];
  for (const other of others) assert.notEqual(await templateHash(other), hash);
  assert.equal(await templateHash(structuredClone(TEMPLATE)), hash);
  assert.deepEqual(holesIn("a{b}c{d_1}{E}"), ["b", "d_1"]);
});

Deno.test("STEERING_ENV names what makes programs run programs", () => {
  for (
    const name of [
      "LD_PRELOAD",
      "DYLD_INSERT_LIBRARIES",
      "BASH_ENV",
      "BASH_FUNC_x%%",
      "ENV",
      "SHELLOPTS",
      "PS4",
      "NODE_OPTIONS",
      "PYTHONSTARTUP",
      "PERL5OPT",
      "RUBYOPT",
      "GIT_SSH_COMMAND",
      "GIT_EXTERNAL_DIFF",
      "CARGO_HOME",
      "RUSTC_WRAPPER",
      "HGRCPATH",
      "EDITOR",
      "PAGER",
      "JAVA_TOOL_OPTIONS",
      "DENO_DIR",
    ]
  ) assert.match(name, STEERING_ENV);
  for (
    const name of ["LANG", "PATH", "HOME", "TZ", "GIT_AUTHOR_NAME", "API_URL"]
  ) {
    assert.doesNotMatch(name, STEERING_ENV);
  }
});
