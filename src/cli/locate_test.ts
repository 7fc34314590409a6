import assert from "node:assert/strict";
import { toSocketUrl } from "./locate.ts";

Deno.test("toSocketUrl() takes addresses as people write them", () => {
  const rows: [text: string, want: string][] = [
    ["http://127.0.0.1:18789", "ws://127.0.0.1:18789/ws"],
    ["127.0.0.1:19000", "ws://127.0.0.1:19000/ws"],
    ["localhost", "ws://localhost/ws"],
    ["http://[::1]:1", "ws://[::1]:1/ws"],
    ["https://home.example", "wss://home.example/ws"],
    ["wss://home.example/gw/ws#x", "wss://home.example/gw/ws"],
  ];
  for (const [text, want] of rows) assert.equal(toSocketUrl(text), want);
});

Deno.test("toSocketUrl() refuses clear text to elsewhere, and credentials", () => {
  for (
    const text of [
      "http://home.example",
      "ws://10.0.0.2:18789",
      "http://127.0.0.1.evil.example",
      "http://localhost.evil.example",
      "https://user:secret@home.example",
      "https://home.example/?token=abc",
      "ftp://127.0.0.1",
      "",
    ]
  ) {
    assert.throws(() => toSocketUrl(text), { code: "bad_input" }, text);
  }
});
