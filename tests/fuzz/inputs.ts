/**
 * Inputs nobody would send: bodies and frames made from the schemas of every
 * route and method, then bent; heads and paths; bytes changed at random. The
 * same seed makes the same inputs.
 *
 * @module
 */
import { z } from "zod";
import { METHODS } from "../../src/core/methods.ts";
import { SHAPES } from "../../src/gateway/api/shapes.ts";
import { ROUTES } from "../../src/gateway/routes.ts";

/** One input. `{TOKEN}` and `{PORT}` in a text are filled in when it is sent. */
export type Input =
  /** A request as bytes, as Latin-1 text. */
  | { kind: "http"; bytes: string }
  /** A method of the configuration; `{HASH}` is that of the present one. */
  | { kind: "config"; method: string; params: Record<string, unknown> }
  /** Frames of one socket, after a good handshake or without one. */
  | { kind: "ws"; isKnown: boolean; frames: string[] };

/** Numbers from a seed (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to 1. */
  unit(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** From 0 up to `below`. */
  below(below: number): number {
    return Math.floor(this.unit() * below);
  }

  chance(of: number): boolean {
    return this.unit() < of;
  }

  pick<T>(from: readonly T[]): T {
    const found = from[this.below(from.length)];
    if (found === undefined && from.length === 0) {
      throw new RangeError("nothing to pick from");
    }
    return found as T;
  }
}

export interface Schema {
  type?: string | string[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  $ref?: string;
  $defs?: Record<string, Schema>;
}

const STRINGS = [
  "",
  "main",
  "agent:main:main",
  "hello",
  "carapace",
  "demo:echo",
  "nobody:none",
  "../../etc/passwd",
  "__proto__",
  "constructor",
  "\u0000",
  "\u202eevil",
  "\ud800",
  "\u001b[31m",
  "é🦀",
  "<script>",
  "%00",
  "${HOME}",
  "NaN",
  "1e400",
  "x".repeat(600),
  "x".repeat(70_000),
];
const NUMBERS = [
  0,
  -1,
  1,
  0.5,
  64,
  1e9,
  2 ** 31,
  2 ** 53,
  -(2 ** 53),
  1e308,
  5e-324,
];
const ODD: readonly unknown[] = [
  null,
  true,
  false,
  [],
  {},
  [[[[]]]],
  { __proto__x: 1 },
  ...NUMBERS,
  ...STRINGS.slice(0, 12),
];

export function text(dice: Dice): string {
  if (dice.chance(0.6)) return dice.pick(STRINGS);
  const length = dice.below(40);
  let made = "";
  for (let n = 0; n < length; n++) {
    made += String.fromCharCode(dice.below(dice.chance(0.8) ? 128 : 65_536));
  }
  return made;
}

/** A value that mostly fits a schema. */
export function valueOf(
  schema: Schema,
  dice: Dice,
  root: Schema = schema,
  depth = 0,
): unknown {
  if (dice.chance(0.06)) return dice.pick(ODD);
  if (depth > 8) return null;
  const go = (one: Schema) => valueOf(one, dice, root, depth + 1);
  if (schema.$ref !== undefined) {
    const found = root.$defs?.[schema.$ref.split("/").at(-1) ?? ""];
    return found === undefined ? null : go(found);
  }
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return dice.pick(schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined && choices.length > 0) {
    return go(dice.pick(choices));
  }
  if (schema.allOf !== undefined) {
    return Object.assign({}, ...schema.allOf.map(go));
  }
  const type = Array.isArray(schema.type)
    ? dice.pick(schema.type)
    : schema.type;
  switch (type) {
    case "object": {
      const made: Record<string, unknown> = {};
      for (const [key, one] of Object.entries(schema.properties ?? {})) {
        const isNeeded = schema.required?.includes(key) === true;
        if (dice.chance(isNeeded ? 0.96 : 0.35)) made[key] = go(one);
      }
      if (dice.chance(0.05)) made[text(dice).slice(0, 80)] = dice.pick(ODD);
      return made;
    }
    case "array":
      return Array.from(
        { length: dice.below(4) },
        () => schema.items === undefined ? dice.pick(ODD) : go(schema.items),
      );
    case "integer":
    case "number":
      return dice.chance(0.5)
        ? (schema.minimum ?? 0) + dice.below(100)
        : dice.pick(NUMBERS);
    case "boolean":
      return dice.chance(0.5);
    case "string":
      return text(dice);
    default:
      return dice.pick(ODD);
  }
}

function schemaOf(type: z.ZodType): Schema {
  return z.toJSONSchema(type, {
    io: "input",
    unrepresentable: "any",
  }) as Schema;
}

/** These would move the gateway that is tried: they have a target of their own. */
export const LEFT_OUT: ReadonlySet<string> = new Set([
  "config.set",
  "config.apply",
  "config.patch",
  "config.undo",
]);

const methods = Object.entries(METHODS).filter(([name]) => !LEFT_OUT.has(name))
  .map(([name, { input }]) => ({ name, schema: schemaOf(input) }));
const routes = ROUTES.map(({ method, path }) => {
  const { input } = SHAPES[`${method} ${path}`] ?? {};
  return { method, path, schema: input === undefined ? {} : schemaOf(input) };
});

/** Deep, wide and broken texts beside what `JSON.stringify` writes. */
export function jsonText(value: unknown, dice: Dice): string {
  const plain = JSON.stringify(value) ?? "null";
  switch (dice.below(24)) {
    case 0:
      return `${"[".repeat(dice.below(60))}${plain}`;
    case 1:
      return plain.slice(0, dice.below(plain.length + 1));
    case 2:
      return `{"a":${"[".repeat(40)}${"]".repeat(40)}}`;
    case 3:
      return `[${"0,".repeat(dice.below(12_000))}0]`;
    case 4:
      return plain.replaceAll('"', "'");
    case 5:
      return `\ufeff${plain}`;
    case 6:
      return bend(plain, dice);
    default:
      return plain;
  }
}

/** Changes, drops, doubles or inserts a few characters. */
export function bend(text: string, dice: Dice): string {
  let made = text;
  for (let n = dice.below(4); n >= 0; n--) {
    const at = dice.below(made.length + 1);
    const one = String.fromCharCode(dice.below(256));
    switch (dice.below(4)) {
      case 0:
        made = made.slice(0, at) + one + made.slice(at + 1);
        break;
      case 1:
        made = made.slice(0, at) + made.slice(at + 1 + dice.below(8));
        break;
      case 2:
        made = made.slice(0, at) + made.slice(Math.max(0, at - 8));
        break;
      default:
        made = made.slice(0, at) + one + made.slice(at);
    }
  }
  return made;
}

/** UTF-8 as Latin-1: what stands for its bytes. */
export function latin1(text: string): string {
  let made = "";
  for (const byte of new TextEncoder().encode(text)) {
    made += String.fromCharCode(byte);
  }
  return made;
}

function pathText(path: string, dice: Dice): string {
  const filled = path.replace(
    /:\w+(\{[^}]*\})?/g,
    () => latin1(encodeURIComponent(text(dice).slice(0, 60).toWellFormed())),
  );
  if (dice.chance(0.8)) return filled;
  return dice.pick([
    `${filled}/`,
    `/${filled}`,
    filled.replace("/", "/%2e%2e/"),
    filled.toUpperCase(),
    `${filled}?${"q=1&".repeat(dice.below(3_000))}`,
    `${filled}%00`,
    `http://evil.example${filled}`,
    "*",
    bend(filled, dice).replaceAll(/[\r\n ]/g, ""),
  ]);
}

function headers(dice: Dice): string[] {
  const lines = [
    dice.chance(0.95) ? "Host: 127.0.0.1:{PORT}" : `Host: ${text(dice)}`,
    ...dice.chance(0.9)
      ? [
        dice.chance(0.95)
          ? "Authorization: Bearer {TOKEN}"
          : `Authorization: ${text(dice)}`,
      ]
      : [],
    dice.chance(0.95)
      ? "Content-Type: application/json"
      : `Content-Type: ${text(dice)}`,
    "Connection: close",
  ];
  const extra = dice.chance(0.2) ? dice.below(130) : dice.below(3);
  const names = [
    "X-Carapace-Session-Key",
    "X-Carapace-Agent-Id",
    "X-Carapace-Model",
    "Idempotency-Key",
    "Origin",
    "Sec-Fetch-Site",
    "Content-Encoding",
    "Upgrade",
    "Transfer-Encoding",
    "X-Api-Key",
    "Accept",
    "Mcp-Session-Id",
  ];
  for (let n = 0; n < extra; n++) {
    lines.push(
      `${dice.pick(names)}: ${text(dice).slice(0, dice.below(400))}`,
    );
  }
  return lines.map((line) => line.replaceAll(/[\r\n]/g, ""));
}

function httpInput(dice: Dice): Input {
  const route = dice.pick(routes);
  const method = dice.chance(0.95)
    ? route.method
    : dice.pick(["PUT", "HEAD", "OPTIONS", "TRACE", "PATCH", "x"]);
  const value = valueOf(route.schema, dice);
  // An agent's or a model's name that exists, or nothing much would be reached.
  if (
    typeof value === "object" && value !== null && "model" in value &&
    dice.chance(0.6)
  ) {
    value.model = dice.pick(["carapace", "demo:echo", "demo/echo"]);
  }
  const body = method === "GET" ? "" : latin1(jsonText(value, dice));
  const length = dice.chance(0.97)
    ? body.length
    : dice.pick([0, body.length + 5, 5_000_000, -1]);
  const isChunked = dice.chance(0.1);
  const head = [
    `${method} ${pathText(route.path, dice)} HTTP/1.1`,
    ...headers(dice),
    isChunked ? "Transfer-Encoding: chunked" : `Content-Length: ${length}`,
  ];
  const sent = isChunked
    ? `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
    : body;
  const bytes = `${head.map(latin1).join("\r\n")}\r\n\r\n${sent}`;
  return { kind: "http", bytes: dice.chance(0.1) ? bend(bytes, dice) : bytes };
}

function frame(dice: Dice, n: number): string {
  const { name, schema } = dice.pick(methods);
  const made: Record<string, unknown> = {
    type: "req",
    id: `f${n}`,
    method: dice.chance(0.97) ? name : text(dice),
    params: valueOf(schema, dice),
  };
  if (dice.chance(0.03)) made[text(dice)] = dice.pick(ODD);
  if (dice.chance(0.03)) delete made["id"];
  return jsonText(made, dice);
}

function socketInput(dice: Dice): Input {
  const isKnown = dice.chance(0.9);
  const frames = Array.from(
    { length: 1 + dice.below(6) },
    (_, n) => frame(dice, n),
  );
  return { kind: "ws", isKnown, frames };
}

/** The next request or socket. */
export function nextInput(dice: Dice): Input {
  return dice.chance(0.6) ? httpInput(dice) : socketInput(dice);
}
