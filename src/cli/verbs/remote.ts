/**
 * `carapace remote`: the other gateways that agents of this one may be on.
 *
 * Never: a token is an argument, or is sent to a gateway that was not accepted.
 *
 * @module
 */
import { type Edit, editConfig } from "../../config/edit.ts";
import { formatProblem } from "../../config/problem.ts";
import { openSecrets, type Secrets } from "../../config/secrets.ts";
import { AppError } from "../../core/errors.ts";
import { lookAtCertificate } from "../../egress/tls.ts";
import {
  hostPortOf,
  RemoteName,
  type RemotesConfig,
} from "../../remote/config.ts";
import { connectRemote } from "../../remote/connect.ts";
import { UnknownCertificate } from "../../remote/trust.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { acceptsKey, findStateDir } from "../gateway.ts";
import { readNamedToken, toSocketUrl } from "../locate.ts";
import { jsonLine, printable } from "../printable.ts";
import { makePaint, table } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const LOOK_MS = 10_000;

export const remote: Verb = {
  name: "remote",
  about: "Name other gateways, so that agents of this one can be on them",
  usage: [
    "carapace remote add NAME URL --token FILE|- [--pin sha256:…|--accept-new] [--trust untrusted|peer|owner] [--json]",
    "carapace remote list [--json]",
    "carapace remote test NAME [--json]",
    "carapace remote remove NAME [--json]",
  ],
  examples: [
    "carapace remote add office wss://192.168.1.5:18789 --token office.token",
    "carapace remote test office",
    "carapace config set agents.work.remote office",
    "carapace remote remove office",
  ],
  needs: "files",
  takesTarget: true,
  run: runRemote,
};

interface Asked {
  io: Io;
  roof: Roof;
  stateDir: string;
  secrets: Secrets;
  json: boolean;
}

async function runRemote(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    trust: { type: "string" },
  });
  const [form, name, url] = positionals;
  if (io.target?.url !== undefined) {
    throw usageError(
      'Cannot use --url here: write "carapace remote add NAME URL"',
    );
  }
  const stateDir = await findStateDir(io);
  const secrets = openSecrets({ dir: stateDir, env: io.env });
  const asked = { io, roof, stateDir, secrets, json: values.json === true };
  positionalsMax(positionals, form === "add" ? 3 : form === "list" ? 1 : 2);
  switch (form) {
    case "add":
      return await add(asked, {
        name: named(name),
        url: toSocketUrl(url ?? missing("URL")),
        trust: values.trust,
      });
    case "list":
      return await list(asked);
    case "test":
      return await test(asked, named(name));
    case "remove":
      return await remove(asked, named(name));
    default:
      throw usageError(
        form === undefined
          ? "Say what to do: add, list, test or remove"
          : `Unknown form "${form.slice(0, 40)}"`,
      );
  }
}

function missing(what: string): never {
  throw usageError(`The argument ${what} is missing`);
}

function named(name: string | undefined): string {
  if (name === undefined) return missing("NAME");
  if (RemoteName.safeParse(name).success) return name;
  throw usageError(
    `Cannot use "${name}" as a remote's name`,
    "Write 1 to 40 of a-z, 0-9, _ and -",
  );
}

async function remotesOf({ roof }: Asked): Promise<RemotesConfig> {
  const loaded = await roof.load();
  if (loaded.ok) return (loaded.value as { remotes: RemotesConfig }).remotes;
  const [problem] = loaded.problems;
  throw new AppError(
    "bad_input",
    `The configuration is not valid: ${
      problem === undefined ? "" : formatProblem(problem)
    }`,
    { details: { exit: EXIT.badConfig } },
  );
}

async function edit(
  { io, roof, stateDir, secrets }: Asked,
  edits: readonly Edit[],
): Promise<string> {
  const edited = await editConfig(await roof.schema(), {
    env: io.env,
    stateDir,
    findSecret: (name) => secrets.find(name),
    edits,
  });
  if (edited.ok) return edited.file;
  throw new AppError(
    "bad_input",
    `The configuration was not changed: ${
      edited.problems.map(formatProblem).join("; ")
    }`,
    { details: { exit: EXIT.badConfig } },
  );
}

/** The pin to write: what was said, or what was accepted; none for a known authority. */
async function findPin(io: Io, url: string): Promise<string | undefined> {
  if (!url.startsWith("wss:")) return undefined;
  const peer = await lookAtCertificate(
    new URL(url),
    AbortSignal.timeout(LOOK_MS),
  );
  const host = hostPortOf(url);
  const said = io.target?.pin;
  if (said !== undefined && said !== peer.key) {
    throw new AppError(
      "forbidden",
      `${host} shows another key than was said: ${peer.key}`,
      { hint: 'Compare with "carapace tls show" where that gateway runs' },
    );
  }
  if (said !== undefined) return said;
  if (peer.isTrusted) return undefined;
  const unknown = new UnknownCertificate(host, peer);
  if (!await acceptsKey(io, unknown)) throw unknown;
  return peer.key;
}

async function add(
  asked: Asked,
  { name, url, trust }: {
    name: string;
    url: string;
    trust: string | undefined;
  },
): Promise<number> {
  const { io, secrets, json } = asked;
  const pin = await findPin(io, url);
  const secret = `REMOTE_${name.toUpperCase().replaceAll("-", "_")}`;
  const { tokenFile } = io.target ?? {};
  if (tokenFile !== undefined) {
    await secrets.set(secret, await readNamedToken(io, tokenFile));
  } else if (await secrets.find(secret) === undefined) {
    throw usageError(
      "Say what opens that gateway: --token FILE, or --token - for standard input",
      `Make one there: carapace token create NAME --scopes read,chat; or store it first: carapace secret set ${secret}`,
    );
  }
  const value = {
    url,
    token: `\${secret:${secret}}`,
    ...pin === undefined ? {} : { pin },
    ...trust === undefined ? {} : { trust },
  };
  const file = await edit(asked, [{ path: ["remotes", name], value }]);
  if (json) io.out(jsonLine({ name, ...value, file }));
  else {
    io.out(
      `${name} is ${url}${pin === undefined ? "" : `, key ${pin}`} (${
        printable(file)
      })\n` +
        `Next: carapace remote test ${name}; then carapace config set agents.ID.remote ${name}\n`,
    );
  }
  return EXIT.ok;
}

async function list(asked: Asked): Promise<number> {
  const { io, json } = asked;
  const remotes = Object.entries(await remotesOf(asked)).map((
    [name, { url, pin, trust }],
  ) => ({ name, url, trust, ...pin === undefined ? {} : { pin } }));
  if (json) io.out(jsonLine({ remotes }));
  else if (remotes.length === 0) io.err("No remotes are named\n");
  else {
    const rows = remotes.map(({ name, url, trust, pin }) => [
      name,
      url,
      trust,
      pin ?? "by an authority",
    ]);
    io.out(
      table(["NAME", "URL", "TRUST", "KEY"], rows, makePaint(io)),
    );
  }
  return EXIT.ok;
}

async function test(asked: Asked, name: string): Promise<number> {
  const { io, json } = asked;
  const remotes = await remotesOf(asked);
  const found = Object.hasOwn(remotes, name) ? remotes[name] : undefined;
  if (found === undefined) {
    throw new AppError("not_found", `There is no remote "${name}"`, {
      hint: 'Run "carapace remote list"',
    });
  }
  const startedAt = io.clock.now();
  using client = await connectRemote(name, found, { clock: io.clock });
  const ms = io.clock.now() - startedAt;
  const { server, auth: { scopes } } = client.hello;
  if (json) {
    io.out(jsonLine({ name, ok: true, version: server.version, scopes, ms }));
  } else {
    io.out(
      `${name}: version ${printable(server.version)}, the token may ${
        printable(scopes.join(", "))
      }, connected in ${ms} ms\n`,
    );
  }
  return EXIT.ok;
}

async function remove(asked: Asked, name: string): Promise<number> {
  const { io, json } = asked;
  const remotes = await remotesOf(asked);
  if (!Object.hasOwn(remotes, name)) {
    throw new AppError("not_found", `There is no remote "${name}"`, {
      hint: 'Run "carapace remote list"',
    });
  }
  const path = ["remotes", name];
  const file = await edit(asked, [{ path, value: undefined }]);
  const secret = `REMOTE_${name.toUpperCase().replaceAll("-", "_")}`;
  const isForgotten = await asked.secrets.remove(secret);
  if (json) io.out(jsonLine({ name, removed: true, file }));
  else {
    io.out(
      `Removed (${printable(file)})${
        isForgotten ? `, and the secret ${secret}` : ""
      }\n`,
    );
  }
  return EXIT.ok;
}
