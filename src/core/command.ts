/**
 * Named commands: an argv template with typed arguments, and the one function
 * that fills it. Both sides of the launcher's pipe use it; the launcher believes
 * nothing but its own copy of the template.
 *
 * Never: a shell; a value that becomes an option; an argument the template does
 * not have.
 *
 * @module
 */
import { canonicalJson } from "./canonical.ts";
import { AppError } from "./errors.ts";

/** What a parameter may be. */
export type CommandParam =
  & { about?: string | undefined; optional?: boolean | undefined }
  & (
    | { type: "int"; min: number; max: number }
    | { type: "choice"; values: readonly string[] }
    | { type: "text"; charsMax: number; pattern?: string | undefined }
    /** A path below a folder, without links; relative ones begin there. */
    | { type: "path"; below: string }
  );

/** A command as the configuration names it. */
export interface CommandTemplate {
  about: string;
  /** The program, absolute. */
  run: string;
  /** Literal arguments, and `{name}` where a parameter goes. */
  args: readonly string[];
  params: Readonly<Record<string, CommandParam>>;
  /** Where it runs, absolute. */
  cwd: string;
  /** Its whole environment. */
  env: Readonly<Record<string, string>>;
  timeoutMs: number;
  outputBytesMax: number;
}

/** A name as it stands in `{name}`. */
export const PARAM_NAME = /^[a-z][a-z0-9_]{0,31}$/;
const HOLE = /\{([a-z][a-z0-9_]{0,31})\}/g;

/**
 * Variables that make a program run something else; a command's environment
 * cannot hold them.
 */
export const STEERING_ENV =
  /^(LD_|DYLD_|BASH_|DENO_|NODE_|NPM_|PYTHON|PERL|RUBY|JAVA_|JDK_|GIT_(?!AUTHOR_|COMMITTER_)|CARGO_|RUST|HG|SSL_|GCONV_|GLIBC_)|^(ENV|SHELL|SHELLOPTS|PS4|IFS|CDPATH|PROMPT_COMMAND|EDITOR|VISUAL|PAGER|BROWSER|CLASSPATH|HOSTALIASES|LOCPATH|NLSPATH|TMPDIR|ZDOTDIR|_JAVA_OPTIONS)$/;

/**
 * Programs whose arguments are programs: a template over one of these would say
 * nothing about what runs.
 */
export const CARRIERS: ReadonlySet<string> = new Set([
  "sh",
  "bash",
  "rbash",
  "dash",
  "ash",
  "zsh",
  "ksh",
  "mksh",
  "fish",
  "csh",
  "tcsh",
  "busybox",
  "toybox",
  "cmd",
  "cmd.exe",
  "powershell",
  "powershell.exe",
  "pwsh",
  "env",
  "xargs",
  "sudo",
  "doas",
  "su",
  "runuser",
  "nohup",
  "setsid",
  "nice",
  "ionice",
  "timeout",
  "time",
  "watch",
  "script",
  "flock",
  "parallel",
  "eval",
  "expect",
  "nsenter",
  "unshare",
  "chroot",
  "stdbuf",
  "strace",
  "ltrace",
  "gdb",
  "ssh",
]);

/** The parameters an argument has holes for. */
export function holesIn(arg: string): string[] {
  return [...arg.matchAll(HOLE)].map(([, name]) => name ?? "");
}

/** What binds a request, and an approval, to a template. */
export async function templateHash(template: CommandTemplate): Promise<string> {
  const bytes = new TextEncoder().encode(canonicalJson(template));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

function bad(name: string, why: string): AppError {
  return new AppError("bad_input", `Cannot use "${name}": ${why}`);
}

/** Tabs and line feeds aside, what a terminal or a parser would take for more. */
const HIDDEN = /(?![\t\n])[\p{Cc}\u2028\u2029]/u;

/** Whether a text has no character that ends or hides one. */
function isPlain(text: string): boolean {
  return text.isWellFormed() && !HIDDEN.test(text);
}

function pathText(name: string, below: string, value: string): string {
  const root = below.replace(/\/+$/, "");
  const rest = value.startsWith("/")
    ? value === root
      ? ""
      : value.startsWith(`${root}/`)
      ? value.slice(root.length + 1)
      : undefined
    : value;
  if (rest === undefined) throw bad(name, `it is not below ${root}`);
  const parts = rest === "" ? [] : rest.replace(/\/$/, "").split("/");
  const isBad = parts.some((part) =>
    part === "" || part === "." || part === ".." || !isPlain(part) ||
    /[\t\n]/.test(part) || part.length > 255
  );
  if (isBad || parts.length > 64) throw bad(name, "it is not a plain path");
  return [root, ...parts].join("/");
}

/** A value as the text it will be. @throws {AppError} `bad_input` */
function valueText(name: string, param: CommandParam, value: unknown): string {
  switch (param.type) {
    case "int":
      if (
        typeof value !== "number" || !Number.isSafeInteger(value) ||
        value < param.min || value > param.max
      ) {
        throw bad(
          name,
          `it is a whole number from ${param.min} to ${param.max}`,
        );
      }
      return String(value);
    case "choice":
      if (typeof value !== "string" || !param.values.includes(value)) {
        throw bad(name, `it is one of ${param.values.join(", ")}`);
      }
      return value;
    case "text": {
      if (typeof value !== "string" || value.length > param.charsMax) {
        throw bad(name, `it is a text of at most ${param.charsMax} characters`);
      }
      if (!isPlain(value)) throw bad(name, "it holds control characters");
      const { pattern } = param;
      if (
        pattern !== undefined &&
        !new RegExp(`^(?:${pattern})$`, "u").test(value)
      ) {
        throw bad(name, `it does not fit ${pattern}`);
      }
      return value;
    }
    case "path":
      if (typeof value !== "string" || value.length > 4096) {
        throw bad(name, "it is a path");
      }
      return pathText(name, param.below, value);
  }
}

/**
 * The arguments of a call, without the program. An element whose optional
 * parameter is absent is left out whole.
 *
 * @throws {AppError} `bad_input` for a value that does not fit, that would begin
 * an argument with `-`, or that the template does not have
 */
export function buildArgs(
  template: CommandTemplate,
  values: Readonly<Record<string, unknown>>,
): string[] {
  const { params } = template;
  const texts = new Map<string, string>();
  for (const [name, value] of Object.entries(values)) {
    if (!Object.hasOwn(params, name)) {
      throw bad(name, "there is no such parameter");
    }
    const param = params[name];
    if (param === undefined || value === undefined) continue;
    texts.set(name, valueText(name, param, value));
  }
  for (const [name, { optional }] of Object.entries(params)) {
    if (optional !== true && !texts.has(name)) throw bad(name, "it is missing");
  }
  const args: string[] = [];
  let isOperand = false; // after a literal `--` nothing is an option
  for (const arg of template.args) {
    const holes = holesIn(arg);
    if (holes.some((name) => !texts.has(name))) continue;
    const text = arg.replaceAll(HOLE, (_, name) => texts.get(name) ?? "");
    const [first = ""] = holes;
    if (arg.startsWith("{") && text.startsWith("-") && !isOperand) {
      throw bad(first, "it would be read as an option");
    }
    if (holes.length === 0 && arg === "--") isOperand = true;
    args.push(text);
  }
  return args;
}

/** Every path a call's values name, for looking at each part of them. */
export function pathsOf(
  template: CommandTemplate,
  values: Readonly<Record<string, unknown>>,
): { below: string; path: string }[] {
  return Object.entries(template.params).flatMap(([name, param]) => {
    const value = values[name];
    if (param.type !== "path" || typeof value !== "string") return [];
    return [{ below: param.below, path: pathText(name, param.below, value) }];
  });
}

/** A file as it is when it is looked at. */
export interface SeenFile {
  /** Absolute, without links. */
  path: string;
  /** `sha256:` of all its bytes; of a very large one, `stat:` of what it is. */
  digest: string;
}

/**
 * All that a run of a command would be, as the launcher sees it: what the owner
 * is shown and answers, and what is looked at again right before the start.
 */
export interface ProgramPlan {
  program: SeenFile;
  /** Without the program. */
  args: readonly string[];
  /** Where it runs, and which folder that is. */
  cwd: { path: string; dev: number; ino: number | null };
  env: Readonly<Record<string, string>>;
  /** Files that arguments name, as they are. */
  files: readonly SeenFile[];
}

/** What differs between two plans, in words; nothing when they are one. */
export function planDifference(
  asked: ProgramPlan,
  now: ProgramPlan,
): string | undefined {
  const isSame = (one: unknown, other: unknown) =>
    canonicalJson(one) === canonicalJson(other);
  if (!isSame(asked.program, now.program)) return "the program is another file";
  if (!isSame(asked.args, now.args)) return "the arguments are others";
  if (!isSame(asked.cwd, now.cwd)) return "the folder is another";
  if (!isSame(asked.env, now.env)) return "the environment is another";
  if (!isSame(asked.files, now.files)) {
    return "a file that the arguments name is another";
  }
  return isSame(asked, now) ? undefined : "it is another plan";
}

/** A program that speaks MCP on its standard streams, as configured. */
export interface McpProgram {
  command: string;
  args: readonly string[];
  cwd: string;
  env: Readonly<Record<string, string>>;
  /** Names whose values are secrets, which the service sends along. */
  secretEnv: readonly string[];
}

/** What the launcher may start for the service. */
export interface Programs {
  commands: Readonly<Record<string, CommandTemplate>>;
  mcp: Readonly<Record<string, McpProgram>>;
}

/** What the service may ask of the launcher. */
export type ProgramRequest =
  | {
    op: "run";
    id: number;
    command: string;
    /** The template's hash, as the service knows it. */
    hash: string;
    values: Record<string, unknown>;
    /** What was approved; anything else does not run. */
    plan?: ProgramPlan | undefined;
  }
  /** What a run would be, without running it. */
  | {
    op: "plan";
    id: number;
    command: string;
    hash: string;
    values: Record<string, unknown>;
  }
  | { op: "open"; id: number; server: string; secrets: Record<string, string> }
  | { op: "write"; id: number; text: string }
  | { op: "kill"; id: number };

/** What the launcher says of a program. */
export type ProgramEvent =
  | { op: "started"; id: number }
  | { op: "planned"; id: number; plan: ProgramPlan }
  /** Text of its output; `err` is what it says beside. */
  | { op: "out" | "err"; id: number; text: string }
  | {
    op: "ended";
    id: number;
    code: number;
    why: "exit" | "killed" | "timeout" | "output";
  }
  | { op: "refused"; id: number; why: string };
