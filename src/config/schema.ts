/**
 * The configuration's schema for others: editors (JSON Schema) and readers
 * (Markdown). Both come from the zod schemas, so they cannot say anything else.
 *
 * @module
 */
import { z } from "zod";

/** What a secret field holds in the file: one whole reference. */
const REFERENCE =
  "^\\$\\{(secret:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|[A-Za-z_][A-Za-z0-9_]{0,127})\\}$";

const INCLUDE = { $ref: "#/$defs/include" } as const;

/** A JSON Schema, as far as it is looked at here. */
export type JsonSchema = z.core.JSONSchema.JSONSchema;

/**
 * The JSON Schema (draft 2020-12) of what may be written in the file: with
 * defaults and descriptions, `$include` in every object, references in secret
 * fields.
 */
export function toJsonSchema(schema: z.core.$ZodType): JsonSchema {
  const json = z.toJSONSchema(schema, {
    io: "input",
    target: "draft-2020-12",
    unrepresentable: "any",
    override: ({ jsonSchema }) => {
      if (jsonSchema["secret"] === true) {
        delete jsonSchema["secret"];
        jsonSchema.type = "string";
        jsonSchema.pattern = REFERENCE;
        jsonSchema.writeOnly = true;
      }
    },
  });
  allowInclude(json);
  const file = { type: "string", pattern: "\\.jsonc?$" } as const;
  json.$defs = {
    ...json.$defs,
    include: {
      description:
        "Files whose objects are merged under this one; what is written here wins",
      anyOf: [file, { type: "array", items: file }],
    },
  };
  return json;
}

/** What holds values, not schemas. */
const VALUES = new Set(["default", "const", "enum", "examples"]);

/** Lets every object of the schema hold an `$include`. */
function allowInclude(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  for (const [name, inner] of Object.entries(node)) {
    if (!VALUES.has(name)) allowInclude(inner);
  }
  const schema = node as JsonSchema;
  if (schema.type !== "object") return;
  schema.properties = { ...schema.properties, $include: INCLUDE };
  if (typeof schema.propertyNames === "object") {
    const names = [schema.propertyNames, { const: "$include" }];
    schema.propertyNames = { anyOf: names };
  }
}

interface Row {
  key: string;
  type: string;
  fallback: string;
  what: string;
}

/** A table of every key: its type, its default, what it is for. */
export function toMarkdown(schema: z.core.$ZodType): string {
  const json = toJsonSchema(schema);
  const sections = Object.entries(properties(json, json)).map(
    ([name, section]) => {
      const rows = rowsOf(name, section, json);
      const table = aligned([
        ["key", "type", "default", "what"],
        ...rows.map(({ key, type, fallback, what }) => [
          `\`${key}\``,
          type,
          fallback,
          what,
        ]),
      ]);
      return `## ${name}\n\n${table}`;
    },
  );
  return sections.join("\n");
}

/** A Markdown table with its columns aligned, as the formatter would. */
function aligned(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map(cell));
  const widths = (cells[0] ?? []).map((_, n) =>
    Math.max(3, ...cells.map((row) => row[n]?.length ?? 0))
  );
  const line = (row: readonly string[], fill: string) =>
    `| ${widths.map((w, n) => (row[n] ?? "").padEnd(w, fill)).join(" | ")} |\n`;
  const [head = [], ...body] = cells;
  return [line(head, " "), line([], "-"), ...body.map((row) => line(row, " "))]
    .join("");
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("\n", " ");
}

type Maybe = JsonSchema | boolean | undefined;

function follow(schema: Maybe, root: JsonSchema): JsonSchema {
  if (schema === undefined || typeof schema === "boolean") return {};
  const name = /^#\/\$defs\/(.+)$/.exec(schema.$ref ?? "")?.[1];
  const target = name === undefined ? undefined : root.$defs?.[name];
  return target === undefined ? schema : { ...target, ...schema };
}

function properties(
  schema: JsonSchema,
  root: JsonSchema,
): Record<string, JsonSchema> {
  return Object.fromEntries(
    Object.entries(schema.properties ?? {})
      .filter(([name]) => !name.startsWith("$"))
      .map(([name, inner]) => [name, follow(inner, root)]),
  );
}

/** Keys deeper than this are a schema's recursion, not a place to write. */
const DEPTH_MAX = 8;

function rowsOf(key: string, schema: JsonSchema, root: JsonSchema): Row[] {
  if (key.split(".").length > DEPTH_MAX) return [];
  const inner = Object.entries(properties(schema, root));
  const below = inner.flatMap(([name, s]) => rowsOf(`${key}.${name}`, s, root));
  const members = follow(schema.additionalProperties as Maybe, root);
  const named = Object.keys(members).length === 0
    ? []
    : rowsOf(`${key}.<name>`, members, root);
  const items = follow(schema.items as Maybe, root);
  const listed = items.type === "object"
    ? rowsOf(`${key}[]`, items, root)
    : (schema.anyOf ?? schema.oneOf ?? []).map((s) => follow(s, root))
      .flatMap((s) =>
        Object.entries(properties(s, root))
          .flatMap(([name, p]) => rowsOf(`${key}.${name}`, p, root))
      );
  const own: Row = {
    key,
    type: typeText(schema, root),
    fallback: fallbackText(schema),
    what: schema.description ?? "",
  };
  const rest = [...below, ...named, ...listed];
  const isShown = rest.length === 0 || own.what !== "";
  return [...(isShown ? [own] : []), ...unique(rest)];
}

function unique(rows: readonly Row[]): Row[] {
  return [...new Map(rows.map((row) => [row.key, row])).values()];
}

function fallbackText(schema: JsonSchema): string {
  if (schema.default === undefined) return "";
  const text = JSON.stringify(schema.default);
  return text === "{}" ? "" : `\`${text}\``;
}

function typeText(schema: JsonSchema, root: JsonSchema): string {
  if (schema.writeOnly === true) return "secret reference";
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``;
  if (schema.enum !== undefined) {
    return schema.enum.map((v) => `\`${JSON.stringify(v)}\``).join(", ");
  }
  const members = schema.anyOf ?? schema.oneOf;
  if (members !== undefined) {
    const texts = members.map((s) => typeText(follow(s, root), root));
    return [...new Set(texts)].join(" or ");
  }
  switch (schema.type) {
    case "integer":
    case "number": {
      const name = schema.type === "integer" ? "whole number" : "number";
      const { minimum, maximum } = schema;
      const isSafe = maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER;
      if (minimum === undefined) return name;
      return isSafe
        ? `${name}, ${minimum} to ${maximum}`
        : `${name}, ${minimum} or more`;
    }
    case "array":
      return `list of ${typeText(follow(schema.items as Maybe, root), root)}`;
    case "string":
      return schema.format === "uri" ? "URL" : "string";
    case "boolean":
      return "`true` or `false`";
    default:
      return String(schema.type ?? "any");
  }
}
