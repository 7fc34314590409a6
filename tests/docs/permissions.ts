/**
 * `docs/permissions.md`, made from the computed sandbox of a configuration
 * without lines.
 *
 * @module
 */
import { recordEnv } from "../../src/config/env.ts";
import { DENIED_V4, DENIED_V6 } from "../../src/egress/cidr.ts";
import { postureActs } from "../../src/ops/posture.ts";
import {
  type Facts,
  grantsOf,
  holesOf,
  permissionsFor,
} from "../../src/permissions.ts";
import { Settings } from "../../src/settings.ts";
import { markdownTable } from "./markdown.ts";

const facts: Facts = {
  stateDir: "/STATE",
  sourceDir: "/PROGRAM",
  configFiles: [],
  env: recordEnv({}),
  os: "linux",
};

function code(text: string): string {
  return text === "" ? "" : `\`${text}\``;
}

/** The whole document. */
export function makePermissionsDoc(): Promise<string> {
  const permissions = permissionsFor("start", Settings.parse({}), facts);
  const rows = grantsOf(permissions)
    .filter(({ flag }) => flag !== "--deny-net")
    .map(({ flag, value, because }) => [code(flag), code(value), because]);
  const acts = postureActs({
    ...facts,
    isOpen: false,
    holes: holesOf(permissions.net).v4,
    read: [],
    sys: [],
  }).map(({ name }) => `- ${name}`);
  const denied = [...DENIED_V4, ...DENIED_V6]
    .map(([range, why]) => [code(range), why]);
  return Promise.resolve(`# Permissions

The flags the service runs with are computed from the configuration and hold
nothing else. \`deno task permissions\` shows yours, \`--explain\` with the
configuration line behind each entry. This is what a configuration without any
line gets; \`/STATE\` is the state directory.

${markdownTable(["flag", "value", "because"], rows)}

No program can be started, no native library loaded, no code fetched. A host, a
path or a variable that a configuration line names is added to its list; a bare
flag without a list exists only with \`egress.open\`, and is called open wherever
it is shown. A value that would mean something else inside a flag (white space, a
comma, a quote, a leading \`-\`), a range in place of a host, and a file root that
holds the state directory, the configuration or the program are mistakes in the
configuration. With \`gateway.tailscale\` one Unix socket is added, by its exact path:
connecting to it takes \`unix:PATH\` in net and the path itself in read and write.

## Three processes

\`deno task start\` runs the **launcher**, \`src/launch.ts\`. It may start programs, so
it does nothing else: it hears nothing from outside, and holds no package. It asks
the **planner**, \`src/plan.ts\`, a process that may read files and variables, prints
the flags and ends. Then it starts the **service** with these flags and an
environment built from empty: only the variables of the table, where they are
set, and a few that the runtime itself reads (\`HOME\`, \`DENO_DIR\`,
\`XDG_CACHE_HOME\`, \`TZ\`, certificates), which the program cannot see.
\`HTTP_PROXY\` and its relatives never reach it. The tasks set
\`DENO_NO_UPDATE_CHECK\`, because the runtime would otherwise ask its vendor for a
newer version on its own, past every permission; who starts \`src/launch.ts\` by
hand should set it too.

- SIGINT, SIGTERM and SIGHUP to the launcher reach the service. When the launcher
  dies without a word, the end of a pipe tells the service, and it ends too.
- A change of the configuration inside the present flags holds at once. One that
  needs others makes the service exit 75, and the launcher starts it again and
  says what came and went: \`restarting with: +api.example.com:443\`.
- A configuration that cannot be used gets the state directory, the default
  address and the variables it refers to: the gateway comes up, says what is
  wrong, and starts again when it is repaired.
- \`npx\` does not pass signals on: with \`npx -y deno@2.9.6 task start\` stop the
  gateway with Ctrl-C or through the process below it, not by killing \`npx\`.
- \`deno task compile\` builds one executable with these flags baked in. It has no
  launcher: what a changed configuration needs beyond them is refused at start.

## Denied addresses

The deny list wins over the allow list and is checked against the address a name
resolved to. Exact addresses that the configuration names, and \`127.0.0.1\`, are
cut out of the ranges by arithmetic; there the ports of the allow list decide. A
_name_ that resolves to a private address is refused: write the address.

${markdownTable(["range", "why"], denied)}

Deno takes no ranges of IPv6: beside these single addresses the private ones are
held by \`src/egress\` alone.

## What is tried at start

The service does what it must not be able to do, and serves only if the runtime
refused every act. That an act failed for another reason does not count. Each is
harmless if it succeeds.

${acts.join("\n")}

With \`egress.open\` the unlisted host and the other port are left out, because they
are granted on purpose; the private address stays. \`--unsafe-sandbox-off\` is the
only way to serve without this, and every surface says so.
`);
}
