/**
 * `config_read`: the configuration as it may be shown. No tool writes it.
 *
 * @module
 */
import { z } from "zod";
import { redacted } from "../config/redact.ts";
import { AppError } from "../core/errors.ts";
import { type Tool, tool } from "../core/tool.ts";

const TEXT_CHARS_MAX = 20_000;

/** `config_read` over whatever is in force now. */
export function configRead(config: () => unknown): Tool {
  return tool({
    name: "config_read",
    about: "Read this program's configuration, secrets left out",
    input: z.strictObject({
      path: z.string().max(256).optional().describe("Such as tools.roots"),
    }),
    scope: "admin",
    effect: "read_private",
    reach: "owner",
    result: { integrity: "inherit", secrecy: "private" },
    destinations: [],
    run: ({ path }) => {
      let value: unknown = redacted(config());
      for (
        const key of path === undefined || path === "" ? [] : path.split(".")
      ) {
        const isThere = typeof value === "object" && value !== null &&
          Object.hasOwn(value, key);
        if (!isThere) {
          throw new AppError("not_found", `There is no "${path}"`);
        }
        value = (value as Record<string, unknown>)[key];
      }
      return (JSON.stringify(value, null, 1) ?? "null").slice(
        0,
        TEXT_CHARS_MAX,
      );
    },
  });
}
