/**
 * The environment, by name. The only reader of `Deno.env` below the roof.
 *
 * Never: the environment is listed, changed or handed on whole.
 *
 * @module
 */

/** Reads one variable. */
export interface Env {
  /** The value, or `undefined` when unset or empty. */
  get(name: string): string | undefined;
}

/** The process's own environment. */
export const systemEnv: Env = {
  get: (name) => {
    const value = Deno.env.get(name);
    return value === "" ? undefined : value;
  },
};

/** The same environment, with the configuration in another file. */
export function withConfigFile(env: Env, file: string): Env {
  return {
    get: (name) =>
      name === "CARAPACE_CONFIG_PATH"
        ? file
        : name === "CARAPACE_CONFIG_JSON"
        ? undefined
        : env.get(name),
  };
}

/** An environment made of a record, for tests. */
export function recordEnv(record: Readonly<Record<string, string>>): Env {
  return { get: (name) => record[name] === "" ? undefined : record[name] };
}
