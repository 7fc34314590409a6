/**
 * Bytes below the level of a request: lengths that contradict each other,
 * chunks that are none, several requests in one write, heads no client writes,
 * WebSocket handshakes and frames as bytes.
 *
 * @module
 */
import { type Dice, type Input, latin1, text } from "./inputs.ts";

const HEAD = [
  "Host: 127.0.0.1:{PORT}",
  "Authorization: Bearer {TOKEN}",
  "Content-Type: application/json",
];
const BODY = '{"model":"demo:echo","messages":[{"role":"user","content":"x"}]}';
const TARGET = "POST /v1/chat/completions HTTP/1.1";

/** A size of a chunk, mostly not what follows it. */
function chunkSize(dice: Dice, length: number): string {
  const right = length.toString(16);
  return dice.pick([
    right,
    right,
    right.toUpperCase(),
    `0000000${right}`,
    `${right};ext=${"x".repeat(dice.below(300))}`,
    `${right} `,
    ` ${right}`,
    `+${right}`,
    `-${right}`,
    `0x${right}`,
    "ffffffffffffffff",
    "fffffffffffffffff1",
    "",
    "g",
    (length + 1 + dice.below(20)).toString(16),
    Math.max(0, length - 1 - dice.below(20)).toString(16),
  ]);
}

function chunked(dice: Dice, body: string): string {
  let made = "";
  for (let at = 0; at < body.length;) {
    const piece = body.slice(at, at + 1 + dice.below(40));
    const end = dice.chance(0.97) ? "\r\n" : dice.pick(["\n", "\r", ""]);
    made += `${
      dice.chance(0.9)
        ? piece.length.toString(16)
        : chunkSize(dice, piece.length)
    }\r\n${piece}${end}`;
    at += piece.length;
  }
  return made + dice.pick([
    "0\r\n\r\n",
    "0\r\n\r\n",
    "0\r\nTrailer: x\r\n\r\n",
    "0\r\nAuthorization: Bearer x\r\nHost: evil\r\n\r\n",
    "0\r\n",
    "",
    `0\r\n${"T: x\r\n".repeat(dice.below(400))}\r\n`,
  ]);
}

/** Both framings, two lengths, lengths that are none. */
function framed(dice: Dice): string {
  const body = dice.chance(0.5)
    ? BODY
    : BODY.replace("x", "x".repeat(dice.below(2_000)));
  const size = body.length;
  const lengths = dice.pick([
    [`Content-Length: ${size}`, "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", `Content-Length: ${dice.below(size)}`],
    ["Transfer-Encoding: chunked"],
    ["Transfer-Encoding: identity, chunked"],
    ["Transfer-Encoding: chunked, identity"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: xchunked"],
    ["Transfer-Encoding : chunked"],
    ["Transfer-Encoding:\tchunked"],
    ["transfer-encoding: Chunked"],
    [`Content-Length: ${size}`, `Content-Length: ${size}`],
    [`Content-Length: ${size}`, `Content-Length: ${size + 1}`],
    [`Content-Length: ${size}, ${size}`],
    [`Content-Length: +${size}`],
    [`Content-Length: 0x${size.toString(16)}`],
    [`Content-Length: ${size}\u000b`],
    ["Content-Length: 99999999999999999999"],
    ["Content-Length:"],
    [],
  ]);
  const isChunked = lengths.some((line) => /chunked/i.test(line)) &&
    dice.chance(0.9);
  const sent = isChunked ? chunked(dice, body) : body;
  const expect = dice.chance(0.1) ? ["Expect: 100-continue"] : [];
  return `${
    [TARGET, ...HEAD, ...lengths, ...expect].join("\r\n")
  }\r\n\r\n${sent}`;
}

/** A request that is whole and right, of a kind that is quick. */
function whole(dice: Dice): string {
  const [target, body] = dice.pick([
    ["GET /health/live HTTP/1.1", ""],
    ["GET /v1/models HTTP/1.1", ""],
    ["GET /metrics HTTP/1.0", ""],
    ["HEAD /health/ready HTTP/1.1", ""],
    ["OPTIONS * HTTP/1.1", ""],
    [TARGET, BODY],
    ["POST /tools/invoke HTTP/1.1", "{}"],
  ]);
  const length = `Content-Length: ${body.length}`;
  return `${[target, ...HEAD, length].join("\r\n")}\r\n\r\n${body}`;
}

/** Several in one write, the last perhaps cut, perhaps something else between. */
function pipelined(dice: Dice): string {
  let made = "";
  for (let n = 1 + dice.below(24); n >= 0; n--) {
    made += dice.chance(0.85)
      ? whole(dice)
      : dice.pick([framed(dice), "\r\n\r\n", text(dice), "\0", "\n"]);
  }
  return dice.chance(0.2) ? made.slice(0, dice.below(made.length)) : made;
}

/** Heads no client writes. */
function oddHead(dice: Dice): string {
  const line = dice.pick([
    "GET /health/live HTTP/1.1",
    "GET /health/live HTTP/1.0",
    "GET /health/live HTTP/2.0",
    "GET /health/live HTTP/0.9",
    "GET /health/live",
    "GET  /health/live  HTTP/1.1",
    "GET\t/health/live\tHTTP/1.1",
    "get /health/live HTTP/1.1",
    "GET http://127.0.0.1:{PORT}/health/live HTTP/1.1",
    "GET //127.0.0.1/health/live HTTP/1.1",
    "CONNECT 127.0.0.1:1 HTTP/1.1",
    "PRI * HTTP/2.0",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    `${"A".repeat(dice.below(200))} / HTTP/1.1`,
    `GET /${"a/".repeat(dice.below(5_000))} HTTP/1.1`,
  ]);
  const odd = Array.from({ length: dice.below(6) }, () =>
    dice.pick([
      " folded: x",
      "\tfolded",
      ": no name",
      "no colon",
      "Host: 127.0.0.1:{PORT}",
      "Host: 127.0.0.1:{PORT}, evil.example",
      "Authorization: Bearer {TOKEN}",
      "Authorization: Bearer nobody",
      "Connection: close, host, authorization",
      "Connection: Upgrade, HTTP2-Settings",
      "Upgrade: h2c",
      "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
      "X-Forwarded-For: 127.0.0.1",
      "Forwarded: for=127.0.0.1",
      "Expect: 200-ok",
      `X-${"a".repeat(dice.below(9_000))}: x`,
      `X: ${"a".repeat(dice.below(40_000))}`,
      `X: ${String.fromCharCode(dice.below(256))}`,
    ]));
  const end = dice.pick(["\r\n", "\r\n", "\r\n", "\n", "\r"]);
  const head = dice.chance(0.8) ? HEAD : [];
  return [line, ...head, ...odd, "", ""].join(end);
}

/** One frame of RFC 6455 as bytes, each of its fields right or wrong. */
function wsFrame(dice: Dice, payload: string): string {
  const opcode = dice.pick([1, 1, 1, 2, 0, 8, 9, 10, 3, 11, 15]);
  const isFinal = dice.chance(0.85);
  const reserved = dice.chance(0.95) ? 0 : dice.below(8);
  const first = (isFinal ? 0x80 : 0) | (reserved << 4) | opcode;
  const size = dice.chance(0.93)
    ? payload.length
    : dice.pick([0, payload.length + 9, 70_000, 2 ** 31]);
  const isMasked = dice.chance(0.95);
  const bit = isMasked ? 0x80 : 0;
  const bytes = [first];
  const form = dice.chance(0.95)
    ? (size < 126 ? 0 : size < 65_536 ? 1 : 2)
    : dice.below(3);
  if (form === 0) bytes.push(bit | (size & 0x7f));
  else {
    const width = form === 1 ? 2 : 8;
    bytes.push(bit | (form === 1 ? 126 : 127));
    for (let n = width - 1; n >= 0; n--) {
      bytes.push(Math.floor(size / 256 ** n) % 256);
    }
  }
  const mask = isMasked ? [1, 2, 3, 4].map(() => dice.below(256)) : [];
  let made = String.fromCharCode(...bytes, ...mask);
  for (let n = 0; n < payload.length; n++) {
    const key = mask[n % 4] ?? 0;
    made += String.fromCharCode((payload.charCodeAt(n) & 0xff) ^ key);
  }
  return made;
}

/** An upgrade with whatever heads, then frames as bytes. */
function handshake(dice: Dice): string {
  const pick = (right: string, ...wrong: string[]) =>
    dice.chance(0.85) ? [right] : dice.chance(0.3) ? [] : [dice.pick(wrong)];
  const lines = [
    `GET ${
      dice.pick(["/ws", "/ws", "/", "/ws?x=1", "/ws/", "/health/live"])
    } HTTP/1.1`,
    ...pick(
      "Host: 127.0.0.1:{PORT}",
      "Host: evil.example",
      "Host: 127.0.0.1",
    ),
    ...pick("Upgrade: websocket", "Upgrade: WebSocket, h2c", "Upgrade: x"),
    ...pick("Connection: Upgrade", "Connection: keep-alive", "Connection: x"),
    ...pick(
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Version: 8",
      "Sec-WebSocket-Version: 13, 8",
      "Sec-WebSocket-Version: 99999999999",
    ),
    ...pick(
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
      "Sec-WebSocket-Key: x",
      "Sec-WebSocket-Key: ",
      `Sec-WebSocket-Key: ${"A".repeat(dice.below(9_000))}`,
    ),
    ...dice.chance(0.5) ? ["Authorization: Bearer {TOKEN}"] : [],
    ...dice.chance(0.2)
      ? [
        dice.pick([
          "Origin: http://127.0.0.1:{PORT}",
          "Origin: https://evil.example",
          "Origin: null",
          "Sec-Fetch-Site: cross-site",
        ]),
      ]
      : [],
    ...dice.chance(0.3)
      ? [
        dice.pick([
          "Sec-WebSocket-Protocol: chat, superchat",
          `Sec-WebSocket-Protocol: ${text(dice)}`,
          "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
          `Sec-WebSocket-Extensions: ${"x, ".repeat(dice.below(900))}`,
          "Content-Length: 5",
          "Transfer-Encoding: chunked",
        ]),
      ]
      : [],
  ].map((line) => line.replaceAll(/[\r\n]/g, ""));
  const connect = JSON.stringify({
    type: "req",
    id: "1",
    method: "connect",
    params: {
      minProtocol: 3,
      maxProtocol: 4,
      client: { id: "f", version: "1", platform: "x", mode: "test" },
      ...dice.chance(0.7) ? { auth: { token: "{TOKEN}" } } : {},
    },
  });
  // The token is filled in later and is longer: only frames without one fit.
  const frames = Array.from({ length: dice.below(6) }, (_, n) =>
    wsFrame(
      dice,
      dice.pick([
        latin1(connect.replace("{TOKEN}", "nobody")),
        latin1(JSON.stringify({ type: "req", id: `${n}`, method: "health" })),
        latin1(text(dice)),
        "\x03\xe8bye",
        "\xff\xfe\xfd",
        "",
      ]),
    ));
  return `${lines.map(latin1).join("\r\n")}\r\n\r\n${frames.join("")}`;
}

/** The next of them. */
export function rawInput(dice: Dice): Input {
  const make = dice.pick([framed, pipelined, oddHead, handshake]);
  return { kind: "http", bytes: make(dice) };
}
