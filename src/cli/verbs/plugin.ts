/**
 * `carapace plugin`: installs, grants, calls and watches plugins; signs and
 * begins them.
 *
 * Never: a capability is granted whose words were not shown; a grant is written
 * anywhere but in the configuration.
 *
 * @module
 */
import { positionalsMax, readArgs, usageError } from "../args.ts";
import type { PluginAsked } from "./plugin/asked.ts";
import { grant, revoke, setEnabled } from "./plugin/grants.ts";
import { install, remove, update } from "./plugin/install.ts";
import { callTool, info, list, logs } from "./plugin/look.ts";
import { keygen, sign, verify } from "./plugin/sign.ts";
import { newPlugin } from "./plugin/new.ts";
import type { Io, Roof, Verb } from "../verb.ts";

export const plugin: Verb = {
  name: "plugin",
  about: "Install, grant and call plugins",
  usage: [
    "carapace plugin install PATH|URL [--allow-unsigned] [--yes] [--sha256 HASH] [--json]",
    "carapace plugin list [--json]",
    "carapace plugin info ID [--json]",
    "carapace plugin grant ID [--secret NAME=SEALED] [--set NAME=VALUE] [--sender ACCOUNT/ID] [--yes] [--json]",
    "carapace plugin revoke ID [--json]",
    "carapace plugin enable|disable ID [--json]",
    "carapace plugin update PATH|URL [--allow-unsigned] [--yes] [--sha256 HASH] [--json]",
    "carapace plugin remove ID [--json]",
    "carapace plugin call ID TOOL [JSON] [--json]",
    "carapace plugin logs ID [--limit N] [--json]",
    "carapace plugin new NAME [--kind tool|webhook|hook|channel] [--dir FOLDER] [--json]",
    "carapace plugin keygen FILE [--json]",
    "carapace plugin sign PATH --key FILE [--publisher NAME] [--json]",
    "carapace plugin verify PATH|URL [--sha256 HASH] [--json]",
  ],
  examples: [
    "carapace plugin install plugins/qr --allow-unsigned --yes",
    `carapace plugin call qr encode '{"text":"hello"}'`,
    "carapace plugin grant ntfy --set topic=my-topic --secret token=NTFY_TOKEN",
    "carapace plugin install https://example.com/weather/plugin.jsonc --sha256 HASH",
    "carapace plugin new weather --kind tool",
  ],
  needs: "gateway",
  run: runPlugin,
};

const OPTIONS = {
  "allow-unsigned": { type: "boolean" },
  yes: { type: "boolean" },
  sha256: { type: "string" },
  secret: { type: "string", multiple: true },
  set: { type: "string", multiple: true },
  sender: { type: "string", multiple: true },
  limit: { type: "string" },
  kind: { type: "string" },
  dir: { type: "string" },
  key: { type: "string" },
  publisher: { type: "string" },
} as const;

async function runPlugin(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, OPTIONS);
  const [form, first, second, third] = positionals;
  const asked: PluginAsked = {
    io,
    roof,
    json: values.json === true,
    yes: values.yes === true,
    allowUnsigned: values["allow-unsigned"] === true,
    sha256: values.sha256,
  };
  const named = (name = "ID") => {
    if (first !== undefined && first !== "") return first;
    throw usageError(`The argument ${name} is missing`);
  };
  const most = (count: number) => positionalsMax(positionals, count);
  switch (form) {
    case "install":
      most(2);
      return await install(asked, named("PATH"));
    case "update":
      most(2);
      return await update(asked, named("PATH"));
    case "list":
      most(1);
      return await list(asked);
    case "info":
      most(2);
      return await info(asked, named());
    case "grant":
      most(2);
      return await grant(asked, named(), {
        secrets: values.secret ?? [],
        settings: values.set ?? [],
        senders: values.sender ?? [],
      });
    case "revoke":
      most(2);
      return await revoke(asked, named());
    case "enable":
    case "disable":
      most(2);
      return await setEnabled(asked, named(), form === "enable");
    case "remove":
      most(2);
      return await remove(asked, named());
    case "call":
      most(4);
      if (second === undefined) {
        throw usageError("The argument TOOL is missing");
      }
      return await callTool(asked, named(), { tool: second, json: third });
    case "logs":
      most(2);
      return await logs(asked, named(), values.limit);
    case "new":
      most(2);
      return await newPlugin(io, {
        name: named("NAME"),
        kind: values.kind ?? "tool",
        dir: values.dir,
        json: asked.json,
      });
    case "keygen":
      most(2);
      return await keygen(asked, named("FILE"));
    case "sign":
      most(2);
      return await sign(asked, named("PATH"), {
        key: values.key,
        publisher: values.publisher,
      });
    case "verify":
      most(2);
      return await verify(asked, named("PATH"));
    default:
      throw usageError(
        form === undefined
          ? "Say what to do with plugins: install, list, info, grant, revoke, enable, disable, update, remove, call, logs, new, keygen, sign or verify"
          : `Unknown form "${form.slice(0, 40)}"`,
      );
  }
}
