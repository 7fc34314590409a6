/**
 * House rules that `deno lint` does not ship: no bare `Error`, secrets are not
 * compared with operators, options instead of long parameter lists.
 */
type Fn =
  | Deno.lint.FunctionDeclaration
  | Deno.lint.FunctionExpression
  | Deno.lint.ArrowFunctionExpression;

const PARAMS_MAX = 4;

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
          const isReveal = (side: Deno.lint.Node) =>
            side.type === "CallExpression" &&
            side.callee.type === "MemberExpression" &&
            side.callee.property.type === "Identifier" &&
            side.callee.property.name === "reveal";
          if (
            ["===", "!==", "==", "!="].includes(node.operator) &&
            (isReveal(node.left) || isReveal(node.right))
          ) {
            context.report({
              node,
              message: "Compare secrets with verifySecret()",
            });
          }
        },
      }),
    },
  },
} satisfies Deno.lint.Plugin;
