/**
 * The configuration as an owner reads and writes it through the gateway: every
 * accepted one is a revision, every write is audited before it happens.
 *
 * Never: a write without the hash that was looked at; a text that would not
 * load; programs that the launcher may start, which are chosen on the machine.
 *
 * @module
 */
import { isAbsolute, relative, resolve } from "node:path";
import type { z } from "zod";
import { parseDocument, type Tree } from "../config/document.ts";
import {
  type Edit,
  editConfig,
  type Edited,
  replaceConfig,
  type Writing,
} from "../config/edit.ts";
import { judge, type Loaded, type LoadOptions } from "../config/load.ts";
import { formatProblem, type Problem } from "../config/problem.ts";
import { HIDDEN, redacted } from "../config/redact.ts";
import { toJsonSchema } from "../config/schema.ts";
import { shownText, shownTree } from "../config/shown.ts";
import { gather, type Gathered, originOf } from "../config/source.ts";
import type { ConfigIssue } from "../core/methods/config.ts";
import { AppError, errorText } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { MethodInput, MethodOutput } from "../core/methods.ts";
import type { Clock } from "../core/time.ts";
import type { Audit } from "../store/audit.ts";
import type {
  ConfigRevisionRow,
  ConfigRevisions,
} from "../store/config_revisions.ts";
import type { Journal } from "../store/journal.ts";

/** A configuration that loaded. */
type Good<T> = Extract<Loaded<T>, { ok: true }>;
type Via = ConfigRevisionRow["via"];
type Written = MethodOutput<"config.set">;

const REVISIONS_DEFAULT = 20;

/** What the desk works with. */
export interface ConfigDeskDeps<T> extends LoadOptions {
  schema: z.ZodType<T>;
  /** What else keeps a valid configuration from being started with. */
  check(loaded: Good<T>): Promise<readonly Problem[]>;
  /** The programs a configuration names, each with everything it is run with. */
  programs(value: T): Readonly<Record<string, unknown>>;
  revisions: ConfigRevisions;
  journal: Journal;
  audit: Pick<Audit, "row">;
  version: string;
  clock: Clock;
  log: Log;
}

function toIssue(problem: Problem): ConfigIssue {
  return { ...problem };
}

/** An invalid configuration, refused as a whole. */
function refused(problems: readonly Problem[]): AppError {
  const [first] = problems;
  const more = problems.length - 1;
  return new AppError(
    "bad_input",
    `Cannot write the configuration: ${
      first === undefined ? "it is not valid" : formatProblem(first)
    }${more > 0 ? ` (and ${more} more)` : ""}`,
    {
      hint: "Nothing was changed. config.validate lists every problem",
      details: { issues: problems.slice(0, 20).map(toIssue) },
    },
  );
}

/** @throws {AppError} `bad_input` for what `config.get` put in a secret's place */
function checkShown(raw: string): void {
  if (!raw.includes(HIDDEN)) return;
  throw new AppError(
    "bad_input",
    `Cannot write ${HIDDEN}: it stands for what config.get did not show`,
    {
      hint: "Use config.patch, which leaves other lines as they are, " +
        "or a reference like ${secret:NAME}",
    },
  );
}

/** A JSON merge patch (RFC 7396) as changes of single lines. */
function toEdits(patch: Tree): Edit[] {
  if (patch.kind !== "object") {
    throw new AppError("bad_input", "A merge patch is an object");
  }
  const edits: Edit[] = [];
  const walk = (tree: Tree, path: readonly string[]): void => {
    if (tree.kind === "object" && tree.entries.size > 0) {
      for (const [name, { value }] of tree.entries) {
        walk(value, [...path, name]);
      }
    } else if (path.length > 0) {
      const value = plain(tree);
      edits.push({ path, value: value === null ? undefined : value });
    }
  };
  walk(patch, []);
  return edits;
}

function plain(tree: Tree): unknown {
  if (tree.kind === "scalar") return tree.value;
  if (tree.kind === "array") return tree.items.map(plain);
  return Object.fromEntries(
    [...tree.entries].map(([name, { value }]) => [name, plain(value)]),
  );
}

/** The desk. */
export class ConfigDesk<T> {
  readonly #deps: ConfigDeskDeps<T>;
  /** One thing at a time: a write and a file that is followed record in turn. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(deps: ConfigDeskDeps<T>) {
    this.#deps = deps;
  }

  #alone<R>(run: () => Promise<R>): Promise<R> {
    const done = this.#turn.then(run, run);
    this.#turn = done.catch(() => {}); // its caller hears it
    return done;
  }

  /** Where the configuration is, and why it cannot be written from here. */
  async #place(): Promise<{ path: string; read: Gathered; why?: string }> {
    const { env, stateDir } = this.#deps;
    const origin = originOf(env, stateDir);
    const read = await gather(origin);
    if (origin.kind === "text") {
      const why = `it comes from the variable ${origin.name}`;
      return { path: origin.name, read, why };
    }
    const path = read.mainPath ?? resolve(origin.path);
    const dir = await Deno.realPath(stateDir).catch(() => stateDir);
    const isIn = [stateDir, dir].some((folder) => {
      const below = relative(folder, path);
      return below !== "" && !below.startsWith("..") && !isAbsolute(below);
    });
    return isIn ? { path, read } : {
      path,
      read,
      why:
        `it is ${path}, and this process may write in its state directory only (${stateDir})`,
    };
  }

  async get(): Promise<MethodOutput<"config.get">> {
    const { schema } = this.#deps;
    const { path, read, why } = await this.#place();
    const loaded = await judge(schema, read, this.#deps);
    const problems = loaded.ok
      ? await this.#deps.check(loaded)
      : loaded.problems;
    return {
      path,
      exists: read.source !== "defaults",
      writable: why === undefined,
      ...(why === undefined ? {} : { why }),
      raw: read.main === undefined
        ? null
        : shownText(read.main, schema) ?? null,
      parsed: read.tree === undefined ? {} : shownTree(read.tree, [schema]),
      config: loaded.ok ? redacted(loaded.value) : null,
      valid: problems.length === 0,
      hash: read.hash,
      issues: problems.map(toIssue),
    };
  }

  schema(): MethodOutput<"config.schema"> {
    return {
      schema: toJsonSchema(this.#deps.schema) as Record<string, unknown>,
      uiHints: {},
      version: this.#deps.version,
      generatedAt: new Date(this.#deps.clock.now()).toISOString(),
    };
  }

  async validate(raw?: string): Promise<MethodOutput<"config.validate">> {
    const { env, stateDir, schema } = this.#deps;
    const origin = originOf(env, stateDir);
    const read = origin.kind === "text" && raw !== undefined
      ? await gather({ ...origin, text: raw })
      : await gather(origin, raw === undefined ? {} : { text: raw });
    const loaded = await judge(schema, read, this.#deps);
    const problems = loaded.ok
      ? await this.#deps.check(loaded)
      : loaded.problems;
    return { ok: problems.length === 0, issues: problems.map(toIssue) };
  }

  /** @throws {AppError} `conflict`, `bad_input`, `forbidden` (programs, place) */
  async set(
    { raw, baseHash, note }: MethodInput<"config.set">,
    by: string,
    via: Via = "set",
  ): Promise<Written> {
    return await this.#alone(async () => {
      await this.#checkPlace();
      checkShown(raw);
      return await this.#write(
        { by, via, note },
        (options) =>
          replaceConfig(this.#deps.schema, { ...options, text: raw, baseHash }),
      );
    });
  }

  /** @throws {AppError} as `set` */
  async patch(
    { raw, baseHash, note }: MethodInput<"config.patch">,
    by: string,
  ): Promise<Written> {
    return await this.#alone(async () => {
      await this.#checkPlace();
      const { tree, problems } = parseDocument({ name: "patch", text: raw });
      if (tree === undefined || problems.length > 0) throw refused(problems);
      const edits = toEdits(tree);
      checkShown(raw);
      if (edits.length === 0) {
        throw new AppError("bad_input", "The patch changes nothing");
      }
      return await this.#write(
        { by, via: "patch", note },
        (options) =>
          editConfig(this.#deps.schema, { ...options, edits, baseHash }),
      );
    });
  }

  /** @throws {AppError} as `set`; `not_found` when there is no such revision */
  async undo(
    { baseHash, to }: MethodInput<"config.undo">,
    by: string,
  ): Promise<Written> {
    const { read } = await this.#place();
    const rows = await this.#deps.revisions.list();
    const now = rows.findIndex(({ text }) => text === read.main?.text);
    const row = to === undefined
      ? rows.slice(now + 1).find(({ text }) => text !== read.main?.text)
      : rows.find(({ id }) => id === to);
    if (row === undefined) {
      throw new AppError(
        "not_found",
        to === undefined
          ? "There is no earlier configuration to go back to"
          : `There is no revision "${to}"`,
        { hint: "config.revisions lists those that are kept" },
      );
    }
    return await this.#alone(async () => {
      await this.#checkPlace();
      const note = `back to ${row.id}`;
      return await this.#write(
        { by, via: "undo", note },
        (options) =>
          replaceConfig(this.#deps.schema, {
            ...options,
            text: row.text,
            baseHash,
          }),
      );
    });
  }

  async revisions(
    { limit = REVISIONS_DEFAULT, id }: MethodInput<"config.revisions">,
  ): Promise<MethodOutput<"config.revisions">> {
    const { revisions, schema } = this.#deps;
    const { read } = await this.#place();
    const rows = await revisions.list();
    const shown = id === undefined
      ? rows.slice(0, limit)
      : rows.filter((row) => row.id === id);
    if (id !== undefined && shown.length === 0) {
      throw new AppError("not_found", `There is no revision "${id}"`);
    }
    const current = rows.find(({ hash }) => hash === read.hash)?.id;
    return {
      revisions: shown.map(({ text: _, ...row }) => ({
        ...row,
        current: row.id === current,
      })),
      ...(id === undefined ? {} : {
        raw: shownText({ name: id, text: shown[0]?.text ?? "" }, schema) ??
          null,
      }),
    };
  }

  /**
   * Keeps what the gateway runs with as a revision, when it is not the last one
   * already. A failure is logged: nothing depends on it.
   */
  async record(via: "start" | "file"): Promise<void> {
    try {
      await this.#alone(async () => {
        const { read } = await this.#place();
        await this.#keep(read, { by: "file", via });
      });
    } catch (error) {
      this.#deps.log("warn", "config.not_recorded", {
        error: errorText(error),
      });
    }
  }

  async #keep(
    { main, hash }: Gathered,
    { by, via }: { by: string; via: Via },
  ): Promise<void> {
    const { revisions, journal, audit, clock } = this.#deps;
    const [last] = await revisions.list(1);
    if (main === undefined || last?.hash === hash) return;
    const at = clock.now();
    const id = makeId("rev", at);
    const row = { id, at, by, via, hash, text: main.text };
    await journal.commit([
      ...await revisions.rows(row),
      audit.row({ event: "config.accepted", fields: { id, hash, via } }),
    ]);
  }

  async #checkPlace(): Promise<void> {
    const { why } = await this.#place();
    if (why === undefined) return;
    throw new AppError("forbidden", `Cannot write the configuration: ${why}`, {
      hint: "Change it on the gateway's machine: carapace config set KEY VALUE",
    });
  }

  async #write(
    { by, via, note }: { by: string; via: Via; note?: string | undefined },
    run: (
      options: LoadOptions & { onWrite(write: Writing<T>): Promise<void> },
    ) => Promise<Edited<T>>,
  ): Promise<Written> {
    const { revisions, journal, audit, clock } = this.#deps;
    const { env, stateDir, findSecret } = this.#deps;
    let id = "";
    const onWrite = async (write: Writing<T>) => {
      const { before, loaded } = write;
      const problems = await this.#deps.check(loaded);
      if (problems.length > 0) throw refused(problems);
      await this.#checkPrograms(before, loaded.value);
      // What is there now can be gone back to, whoever wrote it.
      await this.#keep(before, { by: "file", via: "file" });
      const at = clock.now();
      id = makeId("rev", at);
      const { hash } = loaded;
      const row = { id, at, by, via, hash, text: write.text };
      await journal.commit([
        ...await revisions.rows({
          ...row,
          ...(note === undefined ? {} : { note }),
        }),
        audit.row({
          event: "config.write",
          fields: { id, by, via, from: before.hash, to: hash },
        }),
      ]);
    };
    try {
      const edited = await run({ env, stateDir, findSecret, onWrite });
      if (!edited.ok) throw refused(edited.problems);
      const { file, changes, loaded: { hash } } = edited;
      const shown = changes.map((change) => ({ ...change }));
      return { ok: true, path: file, hash, revision: id, changes: shown };
    } catch (error) {
      if (id !== "") {
        await journal.commit([
          ...revisions.deletion(id),
          audit.row({ event: "config.write_failed", fields: { id } }),
        ]);
      }
      throw error;
    }
  }

  /** @throws {AppError} `forbidden` when a program is added or changed */
  async #checkPrograms(before: Gathered, next: T): Promise<void> {
    const { programs, schema } = this.#deps;
    const loaded = await judge(schema, before, this.#deps);
    const known = loaded.ok ? programs(loaded.value) : {};
    const added = Object.entries(programs(next)).filter(([name, program]) =>
      JSON.stringify(known[name]) !== JSON.stringify(program)
    );
    if (added.length === 0) return;
    const names = added.map(([name]) => name).join(", ");
    throw new AppError(
      "forbidden",
      `Cannot write the configuration: it would let the launcher start ${names}`,
      {
        hint:
          "Which programs may run is chosen on the gateway's machine: carapace config set KEY VALUE",
      },
    );
  }
}
