/**
 * `carapace secret`: keeps secrets, sealed.
 *
 * Never: a value is an argument, is echoed, or is printed again.
 *
 * @module
 */
import {
  openSecrets,
  SECRET_BYTES_MAX,
  type Secrets,
} from "../../config/secrets.ts";
import { stateDir, systemPlace } from "../../config/state.ts";
import { decodeUtf8, readBytes } from "../../core/bounded.ts";
import { AppError } from "../../core/errors.ts";
import { Secret } from "../../core/secret.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { jsonLine, printable } from "../printable.ts";
import { EXIT, type Io, type Verb } from "../verb.ts";

export const secret: Verb = {
  name: "secret",
  about: "Store secrets, sealed",
  usage: [
    "carapace secret set NAME [--json]",
    "carapace secret list [--json]",
    "carapace secret remove NAME [--json]",
    "carapace secret rotate [--json]",
  ],
  examples: [
    "carapace secret set OPENAI_API_KEY",
    "carapace secret set OPENAI_API_KEY < key.txt",
    "carapace secret list",
    "carapace secret remove OPENAI_API_KEY",
  ],
  needs: "files",
  run: runSecret,
};

async function runSecret(io: Io): Promise<number> {
  const { values, positionals } = readArgs(io.args, {});
  const [form, name, value] = positionals;
  const json = values.json === true;
  const dir = await stateDir(io.env, systemPlace());
  const secrets = openSecrets({ dir, env: io.env });
  switch (form) {
    case "set":
      if (value !== undefined) {
        throw usageError(
          "A secret is not an argument: other programs and the shell's history see it",
          `Run "carapace secret set ${name}" and type it, or pipe it in`,
        );
      }
      return await set(io, { secrets, name: named(name), json });
    case "list":
      positionalsMax(positionals, 1);
      return await list(io, { secrets, json });
    case "remove":
      positionalsMax(positionals, 2);
      return await remove(io, { secrets, name: named(name), json });
    case "rotate":
      positionalsMax(positionals, 1);
      await secrets.rotate();
      io.out(json ? jsonLine({ ok: true }) : "All secrets have a new key\n");
      return EXIT.ok;
    default:
      throw usageError(
        form === undefined
          ? "Say what to do: set, list, remove or rotate"
          : `Unknown form "${form.slice(0, 40)}"`,
      );
  }
}

function named(name: string | undefined): string {
  if (name === undefined) throw usageError("The argument NAME is missing");
  return name;
}

type Asked = { secrets: Secrets; name: string; json: boolean };

async function set(io: Io, { secrets, name, json }: Asked): Promise<number> {
  const text = io.stdinIsTerminal
    ? await readHidden(io, `Value of ${printable(name)} (not shown): `)
    : decodeUtf8(await readBytes(io.stdin, SECRET_BYTES_MAX))
      .replace(/\r?\n$/, "");
  if (text === undefined) return EXIT.interrupted;
  const value = new Secret(text, `secret ${name}`);
  const replaced = await secrets.set(name, value);
  const reference = `\${secret:${name}}`;
  if (json) io.out(jsonLine({ name, replaced, reference }));
  else {
    const done = replaced ? "Replaced" : "Stored";
    io.out(`${done}; the configuration refers to it as "${reference}"\n`);
    if (replaced) io.err("A gateway that runs takes it up by itself\n");
  }
  return EXIT.ok;
}

async function list(
  io: Io,
  { secrets, json }: Omit<Asked, "name">,
): Promise<number> {
  const names = await secrets.list();
  if (json) io.out(jsonLine({ names }));
  else io.out(names.map((name) => `${name}\n`).join(""));
  if (!json && names.length === 0) io.err("No secrets are stored\n");
  return EXIT.ok;
}

async function remove(io: Io, { secrets, name, json }: Asked): Promise<number> {
  if (!await secrets.remove(name)) {
    throw new AppError("not_found", `There is no secret "${name}"`, {
      hint: 'Run "carapace secret list"',
    });
  }
  io.out(json ? jsonLine({ name, removed: true }) : "Removed\n");
  return EXIT.ok;
}

const KEY = { interrupt: "\x03", end: "\x04", clear: "\x15" } as const;

/** A line typed without an echo; `undefined` when Ctrl-C ended it. */
async function readHidden(
  io: Io,
  question: string,
): Promise<string | undefined> {
  if (io.setRaw === undefined) {
    throw new AppError("unavailable", "Cannot hide what is typed here", {
      hint: "Pipe the value in: carapace secret set NAME < file",
    });
  }
  io.err(question);
  io.setRaw(true);
  const reader = io.stdin.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    while (text.length <= SECRET_BYTES_MAX) {
      const { done, value } = await reader.read();
      if (done) return text;
      // A terminal marks what is pasted; the marks are not part of it.
      const typed = decoder.decode(value, { stream: true })
        // deno-lint-ignore no-control-regex
        .replaceAll(/\x1b\[20[01]~/g, "");
      for (const [n, key] of [...typed].entries()) {
        if (key === KEY.interrupt) return undefined;
        if (key === "\r" || key === "\n" || key === KEY.end) {
          if (typed.slice(n).trim() === "") return text;
          throw new AppError("bad_input", "Cannot take several lines here", {
            hint: "Pipe the value in: carapace secret set NAME < file",
          });
        }
        if (key === "\x7f" || key === "\b") text = text.slice(0, -1);
        else if (key === KEY.clear) text = "";
        else text += key;
      }
    }
    throw new AppError("too_large", "Cannot take so long a value");
  } finally {
    io.setRaw(false);
    io.err("\n");
    reader.releaseLock();
  }
}
