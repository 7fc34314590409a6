/**
 * The handlers of the methods for the configuration.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import type { CONFIG_METHODS } from "../../core/methods/config.ts";
import type { MethodInput, MethodOutput } from "../../core/methods.ts";
import type { Handlers } from "../methods.ts";

/** The configuration, as the gateway is given it. */
export interface ConfigActs {
  get(): Promise<MethodOutput<"config.get">>;
  schema(): MethodOutput<"config.schema">;
  validate(raw?: string): Promise<MethodOutput<"config.validate">>;
  set(
    asked: MethodInput<"config.set">,
    by: string,
    via: "set" | "apply",
  ): Promise<MethodOutput<"config.set">>;
  patch(
    asked: MethodInput<"config.patch">,
    by: string,
  ): Promise<MethodOutput<"config.patch">>;
  undo(
    asked: MethodInput<"config.undo">,
    by: string,
  ): Promise<MethodOutput<"config.undo">>;
  revisions(
    asked: MethodInput<"config.revisions">,
  ): Promise<MethodOutput<"config.revisions">>;
}

/** The rows for the table of methods. */
export function configHandlers(
  config: ConfigActs | undefined,
): Pick<Handlers, keyof typeof CONFIG_METHODS> {
  const acts = (): ConfigActs => {
    if (config !== undefined) return config;
    throw new AppError("unavailable", "The configuration is not served here");
  };
  return {
    "config.get": () => acts().get(),
    "config.schema": () => acts().schema(),
    "config.validate": ({ raw }) => acts().validate(raw),
    "config.set": (params, { caller }) =>
      acts().set(params, caller.principal.id, "set"),
    "config.apply": (params, { caller }) =>
      acts().set(params, caller.principal.id, "apply"),
    "config.patch": (params, { caller }) =>
      acts().patch(params, caller.principal.id),
    "config.undo": (params, { caller }) =>
      acts().undo(params, caller.principal.id),
    "config.revisions": (params) => acts().revisions(params),
  };
}
