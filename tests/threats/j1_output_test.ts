/** J1: what others wrote, as this program puts it out: HTTP, terminal, logs. */
import assert from "node:assert/strict";
import { jsonLine, printable, printableLine } from "../../src/cli/printable.ts";
import { ordered, visible } from "../../src/core/hidden.ts";
import { openLog } from "../../src/ops/logs.ts";
import {
  type FakeGatewayHouse,
  openGatewayHouse,
  sessionRow,
} from "../fakes/gateway_house.ts";

const HTML = `<script>alert(1)</script><img src=x onerror=alert(2)>`;
const ANSI = "\u001b[2J\u001b]0;owned\u0007\u009b31m";
const BIDI = "\u202egnp.exe\u2066\u200b";
const EVIL = `${HTML}${ANSI}${BIDI}\r\nX-Injected: 1`;

function house(): Promise<FakeGatewayHouse> {
  return openGatewayHouse({
    sessions: [{ ...sessionRow("agent:main:main"), title: EVIL, label: EVIL }],
    deps: {
      agents: () => ({
        defaultId: "main",
        agents: [{ id: "main", name: EVIL }],
      }),
    },
  });
}

function checkHeaders({ headers, status }: Response, what: string): void {
  assert.equal(headers.get("x-content-type-options"), "nosniff", what);
  assert.match(
    headers.get("content-security-policy") ?? "",
    /^default-src 'none'/,
  );
  assert.equal(headers.get("x-injected"), null, what);
  const type = headers.get("content-type");
  // No answer has a type that a browser shows as a page.
  if (type !== null) {
    assert.match(type, /^(application\/json|text\/plain|text\/event-stream)/);
  }
  assert.ok(type !== null || status === 204, `${what}: no type`);
}

Deno.test("J1: every answer is JSON or plain, not sniffed, under a policy", async (t) => {
  await using on = await house();
  const quoted = encodeURIComponent(EVIL.replaceAll(/[^ -~]/g, ""));
  const asks: [string, () => Promise<Response>][] = [
    ["models", () => on.get("/v1/models")],
    ["a model", () => on.get(`/v1/models/${quoted}`)],
    ["ready", () => on.get("/health/ready")],
    ["live", () => fetch(`${on.url}/health/live`)],
    ["nobody", () => fetch(`${on.url}/v1/models`)],
    ["not found", () => on.get(`/${quoted}`)],
    ["wrong method", () => on.get("/v1/chat/completions")],
    ["a query", () => on.get(`/v1/models?x=${quoted}`)],
    ["not JSON", () => on.post("/v1/chat/completions", HTML)],
    [
      "a model's name",
      () => on.post("/v1/chat/completions", { model: EVIL, messages: [] }),
    ],
    [
      "an agent's name",
      () =>
        on.post("/v1/messages", {
          model: `carapace/${EVIL}`,
          max_tokens: 1,
          messages: [{ role: "user", content: "x" }],
        }),
    ],
    [
      "a turn",
      () =>
        on.post("/v1/chat/completions", {
          model: "carapace",
          messages: [{ role: "user", content: EVIL }],
        }),
    ],
    [
      "a streamed turn",
      () =>
        on.post("/v1/chat/completions", {
          model: "carapace",
          stream: true,
          messages: [{ role: "user", content: EVIL }],
        }),
    ],
    ["a tool's name", () => on.post("/tools/invoke", { name: EVIL, args: {} })],
    ["the document", () => on.get("/openapi.json")],
  ];
  for (const [name, ask] of asks) {
    await t.step(name, async () => {
      const answer = await ask();
      checkHeaders(answer, name);
      const text = await answer.text();
      // As JSON writes it, whatever steers is an escape.
      // deno-lint-ignore no-control-regex
      assert.doesNotMatch(text, /[\x00-\x08\x0b\x0c\x0e-\x1f]/);
      if (answer.headers.get("content-type") === "application/json") {
        JSON.parse(text);
      }
    });
  }
});

Deno.test("J1: what steers a terminal does not reach one", () => {
  // deno-lint-ignore no-control-regex
  const steers = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;
  for (const text of [printable(EVIL), printableLine(EVIL), jsonLine(EVIL)]) {
    assert.doesNotMatch(text.trimEnd(), steers);
  }
  assert.doesNotMatch(printableLine(EVIL), /[\r\n]/);
});

Deno.test("J1: a log line is one line that steers nothing", () => {
  for (const format of ["json", "pretty"] as const) {
    const lines: string[] = [];
    const log = openLog({ level: "debug", format }, {
      isTerminal: format === "pretty",
      write: (line: string) => void lines.push(line),
    });
    log("error", "gateway.request_failed", { path: EVIL, error: EVIL });
    const text = lines.join("");
    assert.ok(text.includes("request_failed"));
    // Colours are the log's own; nothing else begins an escape.
    // deno-lint-ignore no-control-regex
    const rest = text.replaceAll(/\x1b\[\d*(;\d+)*m/g, "");
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(rest, /[\x00-\x08\x0b-\x1f\x7f-\x9f]/, format);
    assert.doesNotMatch(rest.trimEnd(), /\nX-Injected/, format);
    assert.doesNotMatch(rest, /\u202e/, format);
  }
});

Deno.test("J1: nothing hides in what a person is asked about", () => {
  // Bidi marks, joiners, fillers, tags, selectors, line separators.
  const hidden = [
    ...[0x00, 0x1b, 0x7f, 0x85, 0xad, 0x34f, 0x61c, 0x115f, 0x17b4, 0x180e],
    ...[0x200b, 0x200e, 0x200f, 0x2028, 0x2029, 0x202e, 0x2060, 0x2066, 0x2069],
    ...[0x206f, 0x3164, 0xfe0f, 0xfeff, 0xffa0, 0xe0041, 0xe0100],
  ];
  for (const code of hidden) {
    const name = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
    const shown = visible(`rm${String.fromCodePoint(code)}x`);
    assert.equal(shown, `rm⟨${name}⟩x`);
  }
  assert.equal(
    visible("plain: two\nlines\tß 日本"),
    "plain: two\nlines\tß 日本",
  );
  // A conversation keeps what its script needs, but not what turns it round.
  assert.equal(ordered("a\u202eb"), "a⟨U+202E⟩b");
  const scripts = "שלום\u200f \u0645\u200c\u06cc 👩\u200d💻 ❤\ufe0f";
  assert.equal(ordered(scripts), scripts);
});
