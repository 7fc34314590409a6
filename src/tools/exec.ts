/**
 * `exec_NAME`: one tool for each command the configuration names. The launcher
 * runs it and checks it again; it is not sandboxed.
 *
 * @module
 */
import { z } from "zod";
import {
  buildArgs,
  type CommandParam,
  type CommandTemplate,
  type ProgramPlan,
} from "../core/command.ts";
import { canonicalJson } from "../core/canonical.ts";
import { type Tool, tool } from "../core/tool.ts";
import type { Runner } from "./runner.ts";

/** A parameter as a model is shown it; the template checks it again. */
function schemaOf(param: CommandParam): z.ZodType {
  const of = (): z.ZodType => {
    switch (param.type) {
      case "int":
        return z.int().min(param.min).max(param.max);
      case "choice":
        return z.enum(param.values as [string, ...string[]]);
      case "text":
        return z.string().max(param.charsMax);
      case "path":
        return z.string().min(1).max(4096).describe(
          param.about ?? `A path below ${param.below}`,
        );
    }
  };
  const schema = param.about === undefined ? of() : of().describe(param.about);
  return param.optional === true ? schema.optional() : schema;
}

const WHY = {
  exit: "",
  killed: " (it was ended)",
  timeout: " (it took too long and was ended)",
  output: " (it said too much and was ended)",
} as const;

/** A plan as the owner is shown it: what runs, byte for byte. */
function planCard(plan: ProgramPlan): string[] {
  const { program, args, cwd, env, files } = plan;
  const variables = Object.entries(env);
  return [
    `runs: ${JSON.stringify(program.path)} (${program.digest})`,
    `with the arguments: ${JSON.stringify(args)}`,
    `in the folder: ${JSON.stringify(cwd.path)}`,
    `environment: ${
      variables.length === 0
        ? "none"
        : variables.map(([key, value]) => `${key}=${JSON.stringify(value)}`)
          .join(" ")
    }`,
    ...files.map(({ path, digest }) =>
      `the file: ${JSON.stringify(path)} (${digest})`
    ),
  ];
}

/** The tool of one command. */
export function execTool(
  name: string,
  template: CommandTemplate,
  options: { runner: Runner; trusted: boolean },
): Tool {
  const shape = Object.fromEntries(
    Object.entries(template.params).map(([key, param]) => [
      key,
      schemaOf(param),
    ]),
  );
  const { runner, trusted } = options;
  return tool({
    name: `exec_${name}`,
    about: template.about,
    input: z.strictObject(shape) as z.ZodType<Record<string, unknown>>,
    scope: "write",
    effect: "exec",
    reach: "owner",
    result: {
      integrity: trusted ? "inherit" : "untrusted",
      secrecy: "private",
    },
    destinations: [],
    binding: canonicalJson(template),
    limitMs: template.timeoutMs + 5_000,
    plan: async (values, signal) => {
      buildArgs(template, values);
      const plan = await runner.plan(name, template, { values, signal });
      return { binding: canonicalJson(plan), card: planCard(plan) };
    },
    run: async (values, { signal, plan }) => {
      // Refused here in words, before the launcher refuses it.
      buildArgs(template, values);
      const { out, err, code, why } = await runner.run(name, template, {
        values,
        signal,
        plan: plan === undefined ? undefined : JSON.parse(plan),
      });
      const said = [
        out.trimEnd(),
        ...(err.trim() === "" ? [] : [`[stderr]\n${err.trimEnd()}`]),
      ].filter((text) => text !== "").join("\n");
      const head = code === 0 && why === "exit"
        ? ""
        : `[exit code ${code}${WHY[why]}]\n`;
      return {
        text: `${head}${said}` || "(no output)",
        isError: code !== 0 || why !== "exit",
      };
    },
  });
}
