/**
 * A tool's arguments, from the JSON Schema its manifest states. A small part of
 * JSON Schema is understood, and the rest is refused: what nobody checks must
 * not look as if somebody did.
 *
 * Never: a pattern or a reference of a plugin's is followed here. A pattern can
 * take for ever on the right text, and this runs beside everybody's turns.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";

const DEPTH_MAX = 8;
const PROPERTIES_MAX = 64;

type Node = Readonly<Record<string, unknown>>;

const COMMON = ["type", "description", "title", "default", "examples", "enum"];
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  object: ["properties", "required", "additionalProperties"],
  string: ["minLength", "maxLength"],
  number: ["minimum", "maximum"],
  integer: ["minimum", "maximum"],
  boolean: [],
  array: ["items", "minItems", "maxItems"],
};

/** The schema that a tool's arguments are checked by. @throws `bad_input` */
export function toInputSchema(
  schema: Readonly<Record<string, unknown>>,
  what: string,
): z.ZodType {
  const top: Node = { type: "object", ...schema };
  if (top["type"] !== "object") {
    throw refusal(what, "", 'its arguments are not of type "object"');
  }
  return toZod(top, { what, path: "", depth: 0 });
}

interface Place {
  what: string;
  path: string;
  depth: number;
}

function refusal(what: string, path: string, why: string): AppError {
  const at = path === "" ? "" : ` at ${path.slice(1)}`;
  return new AppError(
    "bad_input",
    `Cannot use the input schema of ${what}${at}: ${why}`,
    {
      hint:
        "It may hold type, properties, required, additionalProperties, items, enum, default, description and lengths and bounds",
    },
  );
}

function toZod(node: Node, place: Place): z.ZodType {
  const { what, path, depth } = place;
  const type = node["type"];
  const known = typeof type === "string" && Object.hasOwn(KNOWN, type)
    ? KNOWN[type]
    : undefined;
  if (known === undefined) {
    throw refusal(what, path, `it has no type of ${Object.keys(KNOWN)}`);
  }
  if (depth > DEPTH_MAX) {
    throw refusal(what, path, `it is nested deeper than ${DEPTH_MAX} levels`);
  }
  const other = Object.keys(node).find((key) =>
    !COMMON.includes(key) && !known.includes(key)
  );
  if (other !== undefined) {
    throw refusal(what, path, `"${other.slice(0, 40)}" is not understood`);
  }
  let schema = byType(node, place);
  const { description, default: fallback } = node;
  if (fallback !== undefined) {
    const parsed = schema.safeParse(fallback);
    if (!parsed.success) throw refusal(what, path, "its default does not fit");
    schema = schema.default(parsed.data as never);
  }
  return typeof description === "string"
    ? schema.describe(description.slice(0, 1024))
    : schema;
}

function byType(node: Node, place: Place): z.ZodType {
  const values = node["enum"];
  if (values !== undefined) {
    const texts = z.array(z.string().max(256)).min(1).max(256)
      .safeParse(values);
    if (node["type"] !== "string" || !texts.success) {
      throw refusal(place.what, place.path, "an enum is a list of strings");
    }
    return z.enum(texts.data);
  }
  switch (node["type"]) {
    case "object":
      return objectOf(node, place);
    case "array":
      return arrayOf(node, place);
    case "boolean":
      return z.boolean();
    case "string": {
      const { min, max } = bounds(node, place, ["minLength", "maxLength"]);
      const text = z.string().max(max ?? 262_144);
      return min === undefined ? text : text.min(min);
    }
    default: {
      const { min, max } = bounds(node, place, ["minimum", "maximum"]);
      let number = node["type"] === "integer" ? z.int() : z.number();
      if (min !== undefined) number = number.min(min);
      if (max !== undefined) number = number.max(max);
      return number;
    }
  }
}

function bounds(
  node: Node,
  { what, path }: Place,
  names: readonly [string, string],
): { min: number | undefined; max: number | undefined } {
  const [min, max] = names.map((name) => {
    const value = node[name];
    if (value === undefined) return undefined;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw refusal(what, path, `"${name}" is not a number`);
  });
  return { min, max };
}

function objectOf(node: Node, place: Place): z.ZodType {
  const { what, path, depth } = place;
  const Properties = z.record(z.string(), z.record(z.string(), z.unknown()));
  const properties = Properties.safeParse(node["properties"] ?? {});
  const required = z.array(z.string()).safeParse(node["required"] ?? []);
  if (!properties.success || !required.success) {
    throw refusal(what, path, "its properties are not schemas");
  }
  const entries = Object.entries(properties.data);
  if (entries.length > PROPERTIES_MAX) {
    throw refusal(what, path, `it has more than ${PROPERTIES_MAX} properties`);
  }
  const shape: Record<string, z.ZodType> = {};
  for (const [name, inner] of entries) {
    if (!/^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/.test(name) || name === "__proto__") {
      throw refusal(what, path, `"${name.slice(0, 40)}" is no name`);
    }
    const at = { what, path: `${path}.${name}`, depth: depth + 1 };
    const schema = toZod(inner, at);
    shape[name] = required.data.includes(name) || "default" in inner
      ? schema
      : schema.optional();
  }
  const missing = required.data.find((name) => !Object.hasOwn(shape, name));
  if (missing !== undefined) {
    throw refusal(what, path, `it requires "${missing}", which it has not`);
  }
  return z.strictObject(shape);
}

function arrayOf(node: Node, place: Place): z.ZodType {
  const { what, path, depth } = place;
  const items = z.record(z.string(), z.unknown()).safeParse(node["items"]);
  if (!items.success) throw refusal(what, path, "it has no items");
  const { min, max } = bounds(node, place, ["minItems", "maxItems"]);
  const at = { what, path: `${path}.items`, depth: depth + 1 };
  const list = z.array(toZod(items.data, at)).max(max ?? 10_000);
  return min === undefined ? list : list.min(min);
}
