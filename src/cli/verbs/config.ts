/**
 * `carapace config`: shows, checks and changes the configuration.
 *
 * Never: a secret is printed; a file is written that would not load.
 *
 * @module
 */
import { type Edit, editConfig } from "../../config/edit.ts";
import { type Env, withConfigFile } from "../../config/env.ts";
import { loadConfig, type LoadOptions } from "../../config/load.ts";
import {
  dotted,
  formatProblem,
  parsePath,
  type Problem,
} from "../../config/problem.ts";
import { redacted } from "../../config/redact.ts";
import { toJsonSchema } from "../../config/schema.ts";
import { openSecrets } from "../../config/secrets.ts";
import { keysAt, shapeAt } from "../../config/shape.ts";
import { originOf } from "../../config/source.ts";
import { stateDir, systemPlace } from "../../config/state.ts";
import { AppError } from "../../core/errors.ts";
import { Secret } from "../../core/secret.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { type Good, placesOf, showConfig } from "./config_view.ts";
import { diffRevision, showRevisions, undoRevision } from "./config_history.ts";
import { didYouMean } from "../help.ts";
import { jsonLine, printable } from "../printable.ts";
import { makePaint } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const config: Verb = {
  name: "config",
  about: "Show, check and change the configuration",
  usage: [
    "carapace config path [--json]",
    "carapace config show [--json]",
    "carapace config get KEY [--json]",
    "carapace config set KEY VALUE [--base-hash HASH] [--json]",
    "carapace config unset KEY [--base-hash HASH] [--json]",
    "carapace config validate [FILE] [--json]",
    "carapace config schema",
    "carapace config revisions [--json]   (of a running gateway, as the next two)",
    "carapace config diff [ID] [--json]",
    "carapace config undo [ID] [--json]",
  ],
  examples: [
    "carapace config show",
    "carapace config get gateway.port",
    "carapace config set gateway.port 8080",
    "carapace config set providers.openai.apiKey '${secret:OPENAI_API_KEY}'",
    "carapace config validate ./carapace.jsonc",
    "carapace config diff",
    "carapace config undo",
  ],
  needs: "files",
  run: runConfig,
};

interface Asked {
  io: Io;
  roof: Roof;
  json: boolean;
  baseHash: string | undefined;
}

async function runConfig(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    "base-hash": { type: "string" },
  });
  const [form, first, second] = positionals;
  const json = values.json === true;
  const asked: Asked = { io, roof, json, baseHash: values["base-hash"] };
  switch (form) {
    case "path":
      positionalsMax(positionals, 1);
      return await showPath(asked);
    case "show":
      positionalsMax(positionals, 1);
      return await show(asked);
    case "get":
      positionalsMax(positionals, 2);
      return await get(asked, readKey(first));
    case "set":
      positionalsMax(positionals, 3);
      if (second === undefined) {
        throw usageError("The argument VALUE is missing");
      }
      return await change(asked, {
        path: readKey(first),
        value: readValue(second),
      });
    case "unset":
      positionalsMax(positionals, 2);
      return await change(asked, { path: readKey(first), value: undefined });
    case "validate":
      positionalsMax(positionals, 2);
      return await validate(asked, first);
    case "schema":
      positionalsMax(positionals, 1);
      io.out(`${JSON.stringify(toJsonSchema(await roof.schema()), null, 2)}\n`);
      return EXIT.ok;
    case "revisions":
      positionalsMax(positionals, 1);
      return await showRevisions(asked);
    case "diff":
      positionalsMax(positionals, 2);
      return await diffRevision(asked, first);
    case "undo":
      positionalsMax(positionals, 2);
      return await undoRevision(asked, first);
    default:
      throw usageError(
        form === undefined
          ? "Say what to do: path, show, get, set, unset, validate, schema, revisions, diff or undo"
          : `Unknown form "${form.slice(0, 40)}"`,
      );
  }
}

function readKey(text: string | undefined): string[] {
  if (text === undefined) throw usageError("The argument KEY is missing");
  const path = parsePath(text);
  if (path !== undefined && path.length > 0) return path;
  throw usageError(
    `Cannot read the key ${JSON.stringify(text.slice(0, 80))}`,
    'Write it like gateway.port, or agents."a.b".prompt',
  );
}

/** JSON where it is JSON, else the text itself. */
function readValue(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text; // not JSON: a string without quotes
  }
}

async function loadOptions(env: Env): Promise<LoadOptions> {
  const dir = await stateDir(env, systemPlace());
  const secrets = openSecrets({ dir, env });
  return { env, stateDir: dir, findSecret: (name) => secrets.find(name) };
}

/** The loaded configuration; its problems end the command. */
async function load({ io, roof, json }: Asked): Promise<Good | undefined> {
  const loaded = await roof.load();
  if (loaded.ok) return loaded;
  refuse(io, loaded, json);
  return undefined;
}

function refuse(
  io: Io,
  { problems, source }: { problems: readonly Problem[]; source: string },
  json: boolean,
): number {
  if (json) io.out(jsonLine({ ok: false, source, problems }));
  else io.err(problemLines(problems));
  return EXIT.badConfig;
}

function problemLines(problems: readonly Problem[]): string {
  return problems.map((p) => `${printable(formatProblem(p))}\n`).join("");
}

async function showPath({ io, roof, json }: Asked): Promise<number> {
  const loaded = await roof.load();
  const { stateDir: dir } = await loadOptions(io.env);
  const origin = originOf(io.env, dir);
  const path = origin.kind === "file" ? origin.path : origin.name;
  const exists = loaded.source !== "defaults";
  const files = loaded.ok ? loaded.files : [];
  if (json) io.out(jsonLine({ path, exists, files, stateDir: dir }));
  else {
    io.out(`${printable(path)}\n`);
    if (!exists) io.err("There is no such file yet: defaults are used\n");
  }
  return EXIT.ok;
}

async function show(asked: Asked): Promise<number> {
  const loaded = await load(asked);
  if (loaded === undefined) return EXIT.badConfig;
  const { io, json } = asked;
  if (json) {
    const { value, source, hash, files } = loaded;
    const where = placesOf(loaded);
    io.out(jsonLine({ source, hash, files, value: redacted(value), where }));
  } else io.out(showConfig(loaded, makePaint(io)));
  return EXIT.ok;
}

/** The value at a path, and whether there is one. */
function valueAt(value: unknown, path: readonly string[]): unknown {
  let here = value;
  for (const segment of path) {
    if (
      typeof here !== "object" || here === null || here instanceof Secret ||
      !Object.hasOwn(here, segment)
    ) return undefined;
    here = (here as Record<string, unknown>)[segment];
  }
  return here;
}

function asText(value: unknown): string {
  const shown = redacted(value);
  return printable(typeof shown === "string" ? shown : JSON.stringify(shown));
}

async function get(asked: Asked, path: string[]): Promise<number> {
  const loaded = await load(asked);
  if (loaded === undefined) return EXIT.badConfig;
  const { io, roof, json } = asked;
  const key = dotted(path);
  const value = valueAt(loaded.value, path);
  if (value === undefined) {
    const schema = await roof.schema();
    const known = shapeAt(schema, path).length > 0;
    const siblings = keysAt(shapeAt(schema, path.slice(0, -1)));
    const meant = didYouMean(path.at(-1) ?? "", siblings);
    throw new AppError(
      "not_found",
      known ? `"${key}" is not set` : `There is no key "${key}"`,
      known || meant === undefined ? {} : {
        hint: `Did you mean "${dotted([...path.slice(0, -1), meant])}"?`,
      },
    );
  }
  const where = loaded.where(key);
  if (json) io.out(jsonLine({ key, value: redacted(value), where }));
  else io.out(`${asText(value)}\n`);
  return EXIT.ok;
}

async function change(asked: Asked, edit: Edit): Promise<number> {
  const { io, roof, json, baseHash } = asked;
  const old = await roof.load();
  const edited = await editConfig(await roof.schema(), {
    ...await loadOptions(io.env),
    edits: [edit],
    ...(baseHash === undefined ? {} : { baseHash }),
  });
  if (!edited.ok) {
    if (!json) io.err("The configuration was not changed:\n");
    return refuse(io, edited, json);
  }
  const { file, loaded } = edited;
  const key = dotted(edit.path);
  const before = old.ok ? valueAt(old.value, edit.path) : undefined;
  const after = valueAt(loaded.value, edit.path);
  if (json) {
    const [change] = edited.changes;
    io.out(jsonLine({
      ok: true,
      file,
      key,
      before: redacted(before),
      after: redacted(after),
      written: change?.after,
      hash: loaded.hash,
    }));
    return EXIT.ok;
  }
  const shown = (value: unknown) =>
    value === undefined ? "nothing" : asText(value);
  const place = loaded.where(key);
  const note = place === loaded.source ? printable(file) : printable(place);
  io.out(`${printable(key)}: ${shown(before)} → ${shown(after)} (${note})\n`);
  return EXIT.ok;
}

async function validate(
  { io, roof, json }: Asked,
  file: string | undefined,
): Promise<number> {
  const loaded = file === undefined
    ? await roof.load()
    : await loadConfig(await roof.schema(), {
      ...await loadOptions(io.env),
      env: withConfigFile(io.env, file),
    });
  const { source } = loaded;
  const problems = loaded.ok ? [] : loaded.problems;
  if (json) io.out(jsonLine({ ok: loaded.ok, source, problems }));
  else if (!loaded.ok) io.out(problemLines(problems));
  else io.out(`${printable(source)}: valid\n`);
  return loaded.ok ? EXIT.ok : EXIT.badConfig;
}
