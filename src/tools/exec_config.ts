/**
 * Named commands in the configuration: what can be run at all.
 *
 * @module
 */
import { z } from "zod";
import {
  CARRIERS,
  type CommandTemplate,
  holesIn,
  PARAM_NAME,
  STEERING_ENV,
} from "../core/command.ts";

const AbsolutePath = z.string().min(1).max(1024).refine(
  (path) =>
    (path.startsWith("/") || /^[A-Za-z]:[\\/]/.test(path)) &&
    !/(^|[\\/])\.\.?([\\/]|$)/.test(path) && !path.includes("\0"),
  "write the whole path",
);

const about = z.string().max(200).optional();
const optional = z.boolean().optional();

const Param = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("int"),
    about,
    optional,
    min: z.int().default(0),
    max: z.int().default(1_000_000),
  }),
  z.strictObject({
    type: z.literal("choice"),
    about,
    optional,
    values: z.array(z.string().min(1).max(256)).min(1).max(64),
  }),
  z.strictObject({
    type: z.literal("text"),
    about,
    optional,
    charsMax: z.int().min(1).max(65_536).default(256),
    pattern: z.string().max(256).refine(isPattern, "it is no pattern")
      .optional().describe("A regular expression the whole text must fit"),
  }),
  z.strictObject({
    type: z.literal("path"),
    about,
    optional,
    below: AbsolutePath.describe(
      "The folder it must be below; one of the roots",
    ),
  }),
]);

function isPattern(text: string): boolean {
  try {
    return new RegExp(`^(?:${text})$`, "u").source !== "";
  } catch {
    return false;
  }
}

/** A variable's name and value that may be handed to a program. */
export const ProgramEnvName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/)
  .refine(
    (name) => !STEERING_ENV.test(name.toUpperCase()),
    "this variable makes programs run other programs",
  );

/** The last part of a program's path. */
export function programName(path: string): string {
  return path.split(/[\\/]/).at(-1)?.toLowerCase() ?? "";
}

export const CommandConfig = z.strictObject({
  about: z.string().min(1).max(300).describe("What it does, for the model"),
  run: AbsolutePath.refine(
    (path) => !CARRIERS.has(programName(path)),
    "a shell or wrapper would run whatever its arguments say; name the program itself",
  ).describe("The program"),
  args: z.array(z.string().max(1024)).max(64).default([]).describe(
    "Its arguments; {name} stands for a parameter",
  ),
  params: z.record(
    z.string().regex(PARAM_NAME, "a parameter is a-z, 0-9 and _"),
    Param,
  ).default({}).describe("The parameters"),
  cwd: AbsolutePath.describe("Where it runs: one of the roots, or below one"),
  env: z.record(ProgramEnvName, z.string().max(4096)).default({}).describe(
    "Its whole environment",
  ),
  timeoutMs: z.int().min(100).max(600_000).default(60_000).describe(
    "When it is ended",
  ),
  outputBytesMax: z.int().min(1024).max(4_194_304).default(262_144).describe(
    "When its output is too much and it is ended",
  ),
  trusted: z.boolean().default(false).describe(
    "Whether what it prints counts as the owner's words",
  ),
}).superRefine(({ args, params }, context) => {
  const holes = new Set(args.flatMap(holesIn));
  for (const name of holes) {
    if (Object.hasOwn(params, name)) continue;
    context.addIssue({
      code: "custom",
      path: ["args"],
      message: `there is no parameter "${name}"`,
    });
  }
  for (const name of Object.keys(params)) {
    if (holes.has(name)) continue;
    context.addIssue({
      code: "custom",
      path: ["params", name],
      message: "no argument uses it",
    });
  }
});

export const ExecConfig = z.strictObject({
  commands: z.record(
    z.string().regex(/^[a-z][a-z0-9_]{0,39}$/, "a command is a-z, 0-9 and _"),
    CommandConfig,
  ).default({}).describe(
    "Programs the agent may run, each by name; they are not sandboxed",
  ),
}).prefault({});
export type ExecConfig = z.infer<typeof ExecConfig>;

/** The templates, in the one shape that both sides of the pipe hash. */
export function templatesOf(
  config: ExecConfig,
): Record<string, CommandTemplate> {
  return Object.fromEntries(
    Object.entries(config.commands).map(([name, command]) => [name, {
      about: command.about,
      run: command.run,
      args: command.args,
      params: command.params,
      cwd: command.cwd,
      env: command.env,
      timeoutMs: command.timeoutMs,
      outputBytesMax: command.outputBytesMax,
    }]),
  );
}

/** The folders a command names that are not below a root. */
export function outsideRoots(
  { commands }: ExecConfig,
  roots: readonly string[],
): { path: (string | number)[]; folder: string }[] {
  const isBelow = (folder: string) =>
    roots.some((root) =>
      `${folder}/`.startsWith(`${root.replace(/[\\/]+$/, "")}/`)
    );
  return Object.entries(commands).flatMap(([name, { cwd, params }]) => [
    ...isBelow(cwd) ? [] : [{
      path: ["exec", "commands", name, "cwd"],
      folder: cwd,
    }],
    ...Object.entries(params).flatMap(([param, spec]) =>
      spec.type !== "path" || isBelow(spec.below) ? [] : [{
        path: ["exec", "commands", name, "params", param, "below"],
        folder: spec.below,
      }]
    ),
  ]);
}
