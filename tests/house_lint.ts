/**
 * House rules that `deno lint` does not ship: no bare `Error`, secrets are not
 * compared with operators, options instead of long parameter lists.
 */
type Fn =
  | Deno.lint.FunctionDeclaration
  | Deno.lint.FunctionExpression
  | Deno.lint.ArrowFunctionExpression;

const PARAMS_MAX = 4;

/** What is called so opens something. */
const SECRET_NAME =
  /(^|[a-z_])(secret|password|passphrase|signature|hmac|mac|apiKey|token|nonce|verifier)$/i;

/** The last name of `a`, `a.b`, `a?.b`, `this.#b`. */
function nameOf(node: Deno.lint.Node): string | undefined {
  switch (node.type) {
    case "Identifier":
    case "PrivateIdentifier":
      return node.name;
    case "MemberExpression":
      return node.computed ? undefined : nameOf(node.property);
    case "ChainExpression":
      return nameOf(node.expression);
    default:
      return undefined;
  }
}

function isSecretName(node: Deno.lint.Node): boolean {
  return SECRET_NAME.test(nameOf(node) ?? "");
}

/** `undefined`, `null`, a text of our own: whether there is one at all. */
function isFixed(node: Deno.lint.Node): boolean {
  return node.type === "Literal" ||
    node.type === "Identifier" && node.name === "undefined";
}

export default {
  name: "house",
  rules: {
    "few-parameters": {
      create(context) {
        const visit = (node: Fn) => {
          if (node.params.length > PARAMS_MAX) {
            context.report({
              node,
              message: "Put all but two parameters in an options object",
            });
          }
        };
        return {
          FunctionDeclaration: visit,
          FunctionExpression: visit,
          ArrowFunctionExpression: visit,
        };
      },
    },
    "no-plain-error": {
      create: (context) => ({
        NewExpression(node) {
          if (
            node.callee.type === "Identifier" && node.callee.name === "Error"
          ) {
            context.report({
              node,
              message:
                "Throw AppError with a code, or a built-in that says more",
            });
          }
        },
      }),
    },
    "secrets-by-verify": {
      create: (context) => ({
        BinaryExpression(node) {
          const { left, right } = node;
          const isOurs = context.filename.includes("/src/");
          const isReveal = (side: Deno.lint.Node) =>
            side.type === "CallExpression" &&
            side.callee.type === "MemberExpression" &&
            side.callee.property.type === "Identifier" &&
            side.callee.property.name === "reveal";
          if (
            ["===", "!==", "==", "!="].includes(node.operator) &&
            (isReveal(left) || isReveal(right) ||
              isOurs &&
                (isSecretName(left) || isSecretName(right)) &&
                !isFixed(left) && !isFixed(right))
          ) {
            context.report({
              node,
              message: "Compare secrets with verifySecret()",
            });
          }
        },
        ImportSpecifier(node) {
          const { imported } = node;
          const isHome = context.filename.endsWith("/src/core/secret.ts") ||
            /\/tests\//.test(context.filename);
          if (
            imported.type === "Identifier" &&
            imported.name === "timingSafeEqual" && !isHome
          ) {
            context.report({
              node,
              message: "Only core/secret.ts compares: use verifySecret()",
            });
          }
        },
      }),
    },
  },
} satisfies Deno.lint.Plugin;
