import assert from "node:assert/strict";
import { LINE_BYTES_MAX, openLog } from "./logs.ts";

function capture(format: "json" | "pretty"): {
  lines: string[];
  log: ReturnType<typeof openLog>;
} {
  const lines: string[] = [];
  const log = openLog({ level: "info", format }, {
    isTerminal: false,
    write: (line) => void lines.push(line),
  });
  return { lines, log };
}

Deno.test("openLog() never writes a credential", async (t) => {
  const secrets = [
    "cara_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
    "sk-ant-api03-abcdefghijklmnopqrstuv",
    "Bearer abcdef0123456789",
    "xoxb-1234567890-abcdef",
  ];
  for (const format of ["json", "pretty"] as const) {
    for (const secret of secrets) {
      await t.step(`${format}: ${secret.slice(0, 8)}`, () => {
        const { lines, log } = capture(format);
        log("info", `said ${secret}`, { note: secret, nested: { a: secret } });
        log("warn", "by.name", { password: "hunter2", apiKey: "hunter2" });
        const all = lines.join("");
        assert.equal(lines.length, 2);
        assert.ok(!all.includes(secret), all);
        assert.ok(!all.includes("hunter2"), all);
      });
    }
  }
});

Deno.test("openLog() keeps fields that only sound secret", () => {
  const { lines, log } = capture("json");
  log("info", "turn.done", { sessionKey: "agent:main:main", inputTokens: 3 });
  assert.match(lines[0] ?? "", /agent:main:main/);
  assert.match(lines[0] ?? "", /"inputTokens":3/);
});

Deno.test("openLog() cuts long lines and defuses control characters", () => {
  const { lines, log } = capture("pretty");
  log("info", "long", { text: "x".repeat(20_000) });
  log("info", "escape", { text: "a\x1b]0;title\x07b\r\x08" });
  assert.ok((lines[0]?.length ?? 0) <= LINE_BYTES_MAX);
  assert.equal(lines.length, 2);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(lines[1] ?? "", /[\x07\x08]/);
});

Deno.test("openLog() is quiet below its level", () => {
  const { lines, log } = capture("json");
  log("debug", "detail");
  assert.deepEqual(lines, []);
});
