/**
 * Writes of the configuration nobody would make: whole ones, merge patches and
 * texts that are nearly one, of the schema of all settings.
 *
 * @module
 */
import { toJsonSchema } from "../../src/config/schema.ts";
import { Settings } from "../../src/settings.ts";
import {
  bend,
  type Dice,
  type Input,
  jsonText,
  type Schema,
  text,
  valueOf,
} from "./inputs.ts";

/** What the target is configured with, and is given again. */
export const BASE = `{
  // A comment that a patch must keep.
  "providers": { "demo": {} },
  "agents": { "main": { "model": "demo:echo" } },
  "log": { "level": "warn", "format": "json" }
}
`;

const ROOT = toJsonSchema(Settings) as Schema;
const SECTIONS = Object.keys(ROOT.properties ?? {});

/** What takes other permissions, and so another process. */
function moving(dice: Dice): unknown {
  const host = dice.chance(0.5) ? `h${dice.below(50)}.invalid` : dice.pick([
    "*.example.invalid",
    "*.*.invalid",
    "*",
    "*.com",
    "a_b.invalid",
    "-a.invalid",
    "a-.invalid",
    "a..invalid",
    "a.invalid.",
    ".invalid",
    `${"a".repeat(63)}.invalid`,
    `${"a".repeat(64)}.invalid`,
    `${"a.".repeat(126)}invalid`,
    "bücher.invalid",
    "xn--bcher-kva.invalid",
    "xn--a.invalid",
    "A.INVALID",
    "1.2.3",
    "1.2.3.4",
    "127.0.0.1",
    "0x7f.1",
    "10.0.0.0/8",
    "[::1]",
    "[fe80::1%25eth0]",
    "[::ffff:127.0.0.1]",
    "a.invalid:0",
    "a.invalid:65536",
    "a.invalid:80",
    "a%2einvalid",
    "user@a.invalid",
  ]);
  return dice.pick([
    {
      providers: {
        demo: {},
        [`p${dice.below(9)}`]: { api: "chat", baseUrl: `https://${host}/v1` },
      },
    },
    { egress: { hosts: [`https://${host}`] } },
    { egress: { hosts: [host, "*.example.invalid"] } },
    { egress: { open: dice.chance(0.5) } },
    { gateway: { hosts: [host] } },
    { health: { memoryMb: 64 + dice.below(2_000), loopLagMs: 10 } },
    { limits: { runningMax: 1 + dice.below(20), turnMs: 1_000 } },
  ]);
}

/** Where it listens is how the target is reached, so that stays. */
function reachable(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const { gateway } = value as { gateway?: unknown };
  if (typeof gateway === "object" && gateway !== null) {
    for (const key of ["host", "tls", "container", "port"]) {
      Reflect.deleteProperty(gateway, key);
    }
  }
  return value;
}

/** A section or two, each as its schema says or nearly so. */
function settings(dice: Dice): unknown {
  const made: Record<string, unknown> = {};
  for (let n = dice.below(3); n >= 0; n--) {
    const name = dice.pick(SECTIONS);
    const schema = ROOT.properties?.[name];
    if (schema !== undefined) made[name] = valueOf(schema, dice, ROOT);
  }
  return reachable(made);
}

function raw(dice: Dice): string {
  const value = dice.chance(0.25) ? moving(dice) : settings(dice);
  switch (dice.below(6)) {
    case 0:
      return bend(BASE, dice);
    case 1:
      return BASE.replace("{", `{\n  // ${text(dice).replaceAll("\n", "")}`);
    case 2:
      return jsonText(value, dice);
    case 3:
      return text(dice);
    default: {
      const whole = { ...JSON.parse(BASE.replace(/\/\/.*/, "")) };
      return JSON.stringify({ ...whole, ...value as object });
    }
  }
}

/** The next write. `{HASH}` is filled in when it is sent. */
export function configInput(dice: Dice): Input {
  const method = dice.pick([
    "config.set",
    "config.apply",
    "config.patch",
    "config.patch",
    "config.undo",
    "config.validate",
  ]);
  const baseHash = dice.chance(0.93)
    ? "{HASH}"
    : dice.pick(["", "0".repeat(64), text(dice)]);
  const params: Record<string, unknown> = method === "config.validate"
    ? { raw: raw(dice) }
    : method === "config.undo"
    ? {
      baseHash,
      ...dice.chance(0.5)
        ? {}
        : { to: dice.pick(["rev_0000000000", text(dice)]) },
    }
    : {
      baseHash,
      raw: method === "config.patch" && dice.chance(0.8)
        ? jsonText(settings(dice), dice)
        : raw(dice),
      ...dice.chance(0.1) ? { note: text(dice) } : {},
    };
  return { kind: "config", method, params };
}
