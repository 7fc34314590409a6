/**
 * One row of the table of WebSocket methods, as it is written and as it is read.
 *
 * @module
 */
import type { z } from "zod";
import type { Scope } from "../authority.ts";
import { later } from "../later.ts";

/** One method's contract. */
export interface MethodContract {
  /** `node` is for a node's own socket, and for no other. */
  readonly scope: Scope | "node";
  /** Not for anybody else, whatever scopes they hold. */
  readonly owner?: true;
  readonly about: string;
  readonly input: z.ZodType;
  readonly output: z.ZodType;
}

/** A row whose schemas are made when they are first read. */
type Row = Omit<MethodContract, "input" | "output"> & {
  readonly input: () => z.ZodType;
  readonly output: () => z.ZodType;
};

type Contracts<Rows extends Record<string, Row>> = {
  readonly [Name in keyof Rows]:
    & Omit<Rows[Name], "input" | "output">
    & {
      readonly input: ReturnType<Rows[Name]["input"]>;
      readonly output: ReturnType<Rows[Name]["output"]>;
    };
};

/**
 * Contracts whose schemas are made when somebody first reads them, and kept: a
 * gateway calls a few of its methods, and of none but its clients the output.
 */
export function contracts<const Rows extends Record<string, Row>>(
  rows: Rows,
): Contracts<Rows> {
  const made = Object.entries(rows).map(([name, { input, output, ...row }]) => {
    const schemas = {
      input: { get: later(input), enumerable: true },
      output: { get: later(output), enumerable: true },
    };
    return [name, Object.defineProperties(row, schemas)];
  });
  return Object.fromEntries(made);
}
