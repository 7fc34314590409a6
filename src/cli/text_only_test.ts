import assert from "node:assert/strict";
import { isTextOnly } from "./text_only.ts";

Deno.test("only help and version need no plan", () => {
  for (
    const line of [
      "",
      "help",
      "help cron",
      "--help",
      "-V",
      "version --json",
      "start --help",
      "session fork -h",
    ]
  ) {
    assert.ok(isTextOnly(line === "" ? [] : line.split(" ")), line);
  }
  for (const line of ["start", "status", "chat help", "chat -- --help"]) {
    assert.ok(!isTextOnly(line.split(" ")), line);
  }
});
