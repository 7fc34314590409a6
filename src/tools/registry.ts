/**
 * Every tool there is, by name. What a tool is allowed to do is not decided
 * here; what an agent is shown is.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { ToolSpec } from "../core/model.ts";
import { type Tool, toToolSpec } from "../core/tool.ts";

/** The tools of the house. Built once, read by every turn. */
export class Registry {
  readonly #tools = new Map<string, Tool>();
  readonly #specs = new Map<string, ToolSpec>();

  constructor(tools: Iterable<Tool>) {
    for (const tool of tools) this.add(tool);
  }

  /** @throws {AppError} `conflict` when the name is taken */
  add(tool: Tool): void {
    if (this.#tools.has(tool.name)) {
      throw new AppError(
        "conflict",
        `Cannot register tool "${tool.name}": the name is taken`,
      );
    }
    this.#tools.set(tool.name, tool);
  }

  remove(name: string): void {
    this.#tools.delete(name);
    this.#specs.delete(name);
  }

  find(name: string): Tool | undefined {
    return this.#tools.get(name);
  }

  /** The tools a predicate lets through, in the order they were added. */
  list(isShown: (tool: Tool) => boolean): Tool[] {
    return [...this.#tools.values()].filter(isShown);
  }

  /** What a model is shown of a tool; made once, so that prompts are cached. */
  spec(tool: Tool): ToolSpec {
    let spec = this.#specs.get(tool.name);
    if (spec === undefined) {
      this.#specs.set(tool.name, spec = toToolSpec(tool));
    }
    return spec;
  }
}
