/**
 * Puts values where the configuration refers to them: `${ENV}` inside strings,
 * `${secret:NAME}` as the whole of a secret field. `$$` is a plain `$`.
 *
 * Never: a secret becomes text here, or stands in a field that prints.
 *
 * @module
 */
import type { z } from "zod";
import { AppError } from "../core/errors.ts";
import { Secret } from "../core/secret.ts";
import { problemAt, type Tree } from "./document.ts";
import type { Env } from "./env.ts";
import { dotted, type Problem } from "./problem.ts";
import { isSecret, step } from "./shape.ts";

/** A secret's name, as in `${secret:NAME}`. */
export const SECRET_NAME = /^(?!__proto__$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

/** Variables that a configuration may not read: they open the store or are it. */
const CLOSED = new Set(["CARAPACE_PASSPHRASE", "CARAPACE_CONFIG_JSON"]);

/** What a variable is called when its value must not be shown. */
const SECRET_LIKE =
  /(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASS|PASSWORD|PASSPHRASE)$/i;

/** Where values come from. */
export interface Sources {
  env: Env;
  /** The secret of this name, if it is set. May reject: the vault is locked. */
  findSecret(name: string): Promise<Secret | undefined>;
}

/** A tree with its references followed, as the plain value a schema reads. */
export interface Resolved {
  value: unknown;
  problems: Problem[];
  /** Dotted paths that already have a problem. */
  failed: Set<string>;
  /** Names of the variables that are referred to, set or not. */
  variables: Set<string>;
}

/** Follows every reference of a tree. */
export async function resolveReferences(
  tree: Tree,
  schema: z.core.$ZodType,
  sources: Sources,
): Promise<Resolved> {
  const run = new Run(sources);
  const value = await run.visit(tree, [schema], []);
  const { problems, failed, variables } = run;
  return { value, problems, failed, variables };
}

class Run {
  readonly problems: Problem[] = [];
  readonly failed = new Set<string>();
  readonly variables = new Set<string>();
  readonly #sources: Sources;
  readonly #secrets = new Map<string, Promise<Secret | undefined>>();

  constructor(sources: Sources) {
    this.#sources = sources;
  }

  async visit(
    tree: Tree,
    shape: readonly z.core.$ZodType[],
    path: readonly string[],
  ): Promise<unknown> {
    if (tree.kind === "array") {
      const items: unknown[] = [];
      for (const [n, item] of tree.items.entries()) {
        items.push(await this.visit(item, step(shape, n), [...path, `${n}`]));
      }
      return items;
    }
    if (tree.kind === "object") {
      const object: Record<string, unknown> = {};
      for (const [name, entry] of tree.entries) {
        const inner = step(shape, name);
        object[name] = await this.visit(entry.value, inner, [...path, name]);
      }
      return object;
    }
    if (typeof tree.value !== "string") return tree.value;
    return isSecret(shape)
      ? await this.#secret(tree, path)
      : this.#text(tree, path);
  }

  #fail(
    tree: Tree,
    path: readonly string[],
    what: { message: string; hint?: string },
  ): void {
    const name = dotted(path);
    this.failed.add(name);
    this.problems.push(problemAt(tree.at, { path: name, ...what }));
  }

  /** A whole reference becomes a secret; anything else is left for the schema to refuse. */
  async #secret(tree: Tree, path: readonly string[]): Promise<unknown> {
    const raw = String(tree.kind === "scalar" ? tree.value : "");
    const name = /^\$\{([^{}]*)\}$/.exec(raw)?.[1];
    if (name === undefined) return raw;
    const nothing = new Secret("", "nothing");
    if (!name.startsWith("secret:")) {
      const value = this.#variable(name, tree, path);
      return value === undefined ? nothing : new Secret(value, `env ${name}`);
    }
    const key = name.slice("secret:".length);
    if (!SECRET_NAME.test(key)) {
      this.#fail(tree, path, {
        message: `${JSON.stringify(key)} cannot be a secret's name`,
        hint: "letters, digits, _ . and -, at most 128",
      });
      return nothing;
    }
    try {
      const found = this.#secrets.get(key) ?? this.#sources.findSecret(key);
      this.#secrets.set(key, found);
      const secret = await found;
      if (secret !== undefined) return secret;
      this.#fail(tree, path, {
        message: `there is no secret "${key}"`,
        hint: `run "carapace secret set ${key}"`,
      });
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      this.#fail(tree, path, {
        message: error.message,
        ...(error.hint === undefined ? {} : { hint: error.hint }),
      });
    }
    return nothing;
  }

  #text(tree: Tree, path: readonly string[]): string {
    const raw = String(tree.kind === "scalar" ? tree.value : "");
    return raw.replaceAll(
      /\$\$|\$\{([^{}]*)\}|\$\{/g,
      (piece, name: string | undefined) => {
        if (piece === "$$") return "$";
        if (name === undefined) {
          const message = "a ${ is not closed";
          this.#fail(tree, path, { message, hint: "write $${ for a plain ${" });
          return piece;
        }
        if (name.startsWith("secret:")) {
          this.#fail(tree, path, {
            message: `a secret cannot stand here: this field is not a secret's`,
            hint: "only fields for keys and tokens take ${secret:NAME}",
          });
          return piece;
        }
        if (SECRET_LIKE.test(name)) {
          this.#fail(tree, path, {
            message:
              `\${${name}} looks like a secret, and this field is shown as text`,
            hint:
              "use a field for keys and tokens, or give the variable another name",
          });
          return piece;
        }
        return this.#variable(name, tree, path) ?? piece;
      },
    );
  }

  #variable(
    name: string,
    tree: Tree,
    path: readonly string[],
  ): string | undefined {
    if (!ENV_NAME.test(name)) {
      const message = `${
        JSON.stringify(name.slice(0, 40))
      } cannot be a variable's name`;
      this.#fail(tree, path, { message, hint: "write $${ for a plain ${" });
      return undefined;
    }
    if (CLOSED.has(name)) {
      const message = `the configuration may not read ${name}`;
      this.#fail(tree, path, { message });
      return undefined;
    }
    this.variables.add(name);
    const value = this.#sources.env.get(name);
    if (value === undefined) {
      this.#fail(tree, path, {
        message: `the environment variable ${name} is not set`,
        hint: `set ${name}, or write the value here`,
      });
    }
    return value;
  }
}
