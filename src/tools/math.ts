/**
 * `math_eval`: arithmetic that is right. Numbers, operators, a few functions
 * and constants; no names, no assignment, no code.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { type Tool, tool } from "../core/tool.ts";

type Node = import("jsep").Expression;

const FUNCTIONS: Readonly<Record<string, (...args: number[]) => number>> = {
  group: (value = NaN) => value,
  abs: Math.abs,
  acos: Math.acos,
  asin: Math.asin,
  atan: Math.atan,
  atan2: Math.atan2,
  cbrt: Math.cbrt,
  ceil: Math.ceil,
  cos: Math.cos,
  exp: Math.exp,
  floor: Math.floor,
  ln: Math.log,
  log: Math.log,
  log10: Math.log10,
  log2: Math.log2,
  max: Math.max,
  min: Math.min,
  pow: Math.pow,
  round: Math.round,
  sin: Math.sin,
  sqrt: Math.sqrt,
  tan: Math.tan,
  trunc: Math.trunc,
};

const CONSTANTS: Readonly<Record<string, number>> = {
  e: Math.E,
  pi: Math.PI,
  tau: 2 * Math.PI,
};

const BINARY: Readonly<Record<string, (a: number, b: number) => number>> = {
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => a / b,
  "%": (a, b) => a % b,
  "**": (a, b) => a ** b,
};

function own<T>(table: Readonly<Record<string, T>>, name: unknown): T {
  if (typeof name === "string" && Object.hasOwn(table, name)) {
    return table[name] as T;
  }
  throw new AppError("bad_input", `Cannot evaluate: "${name}" is not known`, {
    hint: `Known: ${Object.keys(table).join(", ")}`,
  });
}

function evaluate(node: Node): number {
  switch (node.type) {
    case "Literal":
      if (typeof node["value"] === "number") return node["value"];
      break;
    case "Identifier":
      return own(CONSTANTS, String(node["name"]).toLowerCase());
    case "UnaryExpression": {
      const value = evaluate(node["argument"] as Node);
      if (node["operator"] === "-") return -value;
      if (node["operator"] === "+") return value;
      break;
    }
    case "BinaryExpression": {
      const apply = own(BINARY, node["operator"]);
      const left = node["left"] as Node;
      const right = evaluate(node["right"] as Node);
      // The parser binds a sign tighter than a power; arithmetic does not.
      return node["operator"] === "**" && left.type === "UnaryExpression"
        ? -apply(-evaluate(left), right)
        : apply(evaluate(left), right);
    }
    case "CallExpression": {
      const callee = node["callee"] as Node;
      if (callee.type !== "Identifier") break;
      const apply = own(FUNCTIONS, String(callee["name"]).toLowerCase());
      return apply(...(node["arguments"] as Node[]).map(evaluate));
    }
  }
  throw new AppError(
    "bad_input",
    `Cannot evaluate: ${node.type} is not arithmetic`,
    { hint: "Use numbers, + - * / % ^, parentheses and functions like sqrt()" },
  );
}

/**
 * The value of an arithmetic expression; `^` is a power.
 *
 * @throws {AppError} `bad_input` for anything that is not arithmetic
 */
export async function evalMath(expression: string): Promise<number> {
  const { default: jsep } = await import("jsep");
  // `**` binds tighter than a product and to the right; `^` means the same here.
  jsep.addBinaryOp("**", 11, true);
  let tree: Node;
  try {
    tree = jsep(
      expression.replaceAll("^", "**").replaceAll(/[×·]/g, "*")
        .replaceAll("÷", "/").replaceAll("−", "-")
        // Parentheses leave no trace in the tree; a call does.
        .replaceAll(/(?<=^|[^\w\s])\s*\(/g, " group("),
    );
  } catch (error) {
    throw new AppError(
      "bad_input",
      `Cannot read "${expression}": ${(error as Error).message}`,
      { cause: error },
    );
  }
  return evaluate(tree);
}

/** Arithmetic for a model. */
export const mathEval: Tool = tool({
  name: "math_eval",
  about: "Evaluate arithmetic exactly, e.g. (2 + 3) * sqrt(16) ^ 2",
  input: z.strictObject({
    expression: z.string().min(1).max(1000).describe(
      "Numbers, + - * / % ^, parentheses, sqrt, sin, log10, pi, …",
    ),
  }),
  scope: "chat",
  effect: "none",
  result: { integrity: "inherit", secrecy: "inherit" },
  destinations: [],
  run: async ({ expression }) => {
    const value = await evalMath(expression);
    if (Number.isNaN(value)) return "not a number";
    return Number.isFinite(value)
      ? String(Number(value.toPrecision(15)))
      : value > 0
      ? "infinity"
      : "-infinity";
  },
});
