/**
 * Documents that are made from the program: each row is a file and the function
 * that makes it. `deno task docs` writes them, `--check` only compares.
 */
import { toJsonSchema, toMarkdown } from "../../src/config/schema.ts";
import { Settings } from "../../src/settings.ts";
import { makeCliDoc } from "./cli.ts";
import { makeLimitsDoc } from "./limits.ts";
import { makePermissionsDoc } from "./permissions.ts";
import { makePluginAbi } from "./plugin_abi.ts";
import { makeSafetyDoc } from "./safety.ts";
import { makeOpenClawDoc } from "./openclaw.ts";
import { makeProvidersDoc } from "./providers.ts";
import { makeUsageDoc } from "./usage.ts";
import { makeProtocolDoc } from "./protocol.ts";
import { makeToolsDoc } from "./tools.ts";

/** One generated file. */
export interface GeneratedDocument {
  /** From the top of the repository. */
  path: string;
  make(): Promise<string>;
}

export const DOCUMENTS: readonly GeneratedDocument[] = [
  { path: "docs/config.schema.json", make: makeConfigSchema },
  { path: "docs/config.md", make: makeConfigReference },
  { path: "docs/cli.md", make: makeCliDoc },
  { path: "docs/permissions.md", make: makePermissionsDoc },
  { path: "docs/safety.md", make: makeSafetyDoc },
  { path: "docs/providers.md", make: makeProvidersDoc },
  { path: "docs/usage.md", make: makeUsageDoc },
  { path: "docs/protocol.md", make: makeProtocolDoc },
  { path: "docs/plugin-abi.json", make: makePluginAbi },
  { path: "docs/tools.md", make: makeToolsDoc },
  { path: "docs/limits.md", make: makeLimitsDoc },
  { path: "docs/openclaw-client.md", make: makeOpenClawDoc },
];

function makeConfigSchema(): Promise<string> {
  return Promise.resolve(
    `${JSON.stringify(toJsonSchema(Settings), null, 2)}\n`,
  );
}

function makeConfigReference(): Promise<string> {
  return Promise.resolve(`# Configuration

Every key of \`carapace.jsonc\`. Made from the program's own schemas by
\`deno task docs\`; [examples](config-examples.md) are apart, and
[config.schema.json](config.schema.json) tells editors the same.

All keys are optional. The file is the one \`CARAPACE_CONFIG_PATH\` names, else
\`carapace.jsonc\` in the state directory; \`CARAPACE_CONFIG_JSON\` can hold the
text itself. \`carapace config path\` says which, \`carapace config validate\`
checks it, \`carapace config show\` prints what is in force and where it is
written.

- Comments and trailing commas are allowed; an unknown key, a key written twice
  and a file that others may write are mistakes.
- \`"$include": "more.jsonc"\`, or a list, in any object merges those files under
  it. They must be inside the configuration's folder; lists are replaced, not
  joined; what the including file says wins.
- \`\${NAME}\` in a string is that environment variable. \`$$\` is a plain \`$\`.
- A secret is a reference: \`"\${secret:NAME}"\` after \`carapace secret set NAME\`,
  or \`"\${NAME}"\` for a variable. It is the whole string and stands only in
  fields of the type _secret reference_.

${toMarkdown(Settings)}`);
}

const top = new URL("../../", import.meta.url);

/** The file as it is now; empty when there is none. */
export async function readDocument(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(new URL(path, top));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

/** Writes what is stale, or with `isCheck` says so. */
async function run({ isCheck }: { isCheck: boolean }): Promise<void> {
  for (const { path, make } of DOCUMENTS) {
    const text = await make();
    if (text === await readDocument(path)) continue;
    if (isCheck) {
      console.error(`${path} is not what the program says: run deno task docs`);
      Deno.exitCode = 1;
    } else {
      await Deno.writeTextFile(new URL(path, top), text);
      console.log(`wrote ${path}`);
    }
  }
}

if (import.meta.main) run({ isCheck: Deno.args.includes("--check") });
