/**
 * `docs/cli.md`, made from the verbs themselves.
 *
 * @module
 */
import { EXIT_MEANINGS } from "../../src/cli/help.ts";
import { EXIT, type Verb } from "../../src/cli/verb.ts";
import { VERBS } from "../../src/cli/verbs.ts";
import { markdownTable } from "./markdown.ts";

const NEEDS = {
  gateway: "a running gateway",
  store: "the state directory for itself",
  files: "no gateway",
} as const satisfies Record<Verb["needs"], string>;

function block(lines: readonly string[]): string {
  return ["```text", ...lines, "```"].join("\n");
}

function section(verb: Verb): string {
  return `## ${verb.name}

${verb.about}. Needs ${NEEDS[verb.needs]}.

${block(verb.usage)}

Examples:

${block(verb.examples)}
`;
}

/** The whole document. */
export async function makeCliDoc(): Promise<string> {
  const verbs: Verb[] = [];
  for (const row of VERBS) verbs.push(await row.load());
  const list = VERBS.map(({ name, about }) =>
    `- [\`${name}\`](#${name}): ${about}`
  );
  const codes = Object.entries(EXIT_MEANINGS).map((
    [name, meaning],
  ) => [String(EXIT[name as keyof typeof EXIT]), meaning]);
  return `# Command line

\`deno task carapace VERB\`, or \`carapace VERB\` after \`deno task link\`. Every
verb knows \`--help\`, and \`--json\` for programs. Messages go to standard error,
results to standard output.

${list.join("\n")}

A verb finds the gateway by \`CARAPACE_URL\`, else \`CARAPACE_PORT\` on this machine,
else the configuration's \`gateway.host\` and \`gateway.port\`; and its token in
\`CARAPACE_TOKEN\`, else in the file \`cli-token\` of the state directory, which
only its owner may read and which is never sent to another machine. A gateway
elsewhere is reached by \`https://\` only.

In \`chat\`, lines that begin with \`/\` are commands of the gateway (\`/help\` lists
them), a line that ends with \`\\\` goes on in the next, one that begins with a
space is not kept in the history. Ctrl-C stops the turn, twice it leaves.

${markdownTable(["exit code", "meaning"], codes)}

${verbs.map(section).join("\n")}`;
}
