import assert from "node:assert/strict";
import { fullKeyParts } from "./ids.ts";

Deno.test("fullKeyParts() makes the field's shorter keys whole, and leaves full ones alone", () => {
  const rows: [short: string, full: string][] = [
    ["main", "main"],
    ["chat:dm:ann", "chat:default:dm:ann"],
    ["chat:direct:ann", "chat:default:dm:ann"],
    ["chat:group:g:topic:7", "chat:default:group:g:thread:7"],
    ["chat:home:direct:ann", "chat:home:dm:ann"],
    ["chat:home:dm:ann", "chat:home:dm:ann"],
    ["chat:home:channel:c:thread:1", "chat:home:channel:c:thread:1"],
    ["cron:dm:x", "cron:dm:x"],
    ["openai:abc", "openai:abc"],
    ["client:token-x:dm:y", "client:token-x:dm:y"],
  ];
  for (const [short, full] of rows) {
    assert.equal(fullKeyParts(short.split(":")).join(":"), full);
  }
});
