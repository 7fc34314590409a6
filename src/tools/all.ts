/**
 * Every tool of this house, made from what the roof hands in. What is not
 * configured is not made, so a model is never shown a tool that cannot act.
 *
 * @module
 */
import type { Tool } from "../core/tool.ts";
import type { ScheduleBus } from "../core/methods/schedule.ts";
import { configRead } from "./config_read.ts";
import { cronTools } from "./cron.ts";
import { type AskModel, mediaAnalyze } from "./media.ts";
import { type Carrier, messageSend } from "./message.ts";
import { type SessionDeps, sessionTools } from "./sessions.ts";
import { type RunChild, sessionSpawn } from "./spawn.ts";
import type { FileDesk } from "./files/desk.ts";
import { fileTools } from "./files/files.ts";
import { execTool } from "./exec.ts";
import { type ExecConfig, templatesOf } from "./exec_config.ts";
import type { Runner } from "./runner.ts";
import { toolSearch } from "./loading.ts";
import { mathEval } from "./math.ts";
import { memoryTools } from "./memory.ts";
import type { MemoryBook } from "./memory_book.ts";
import type { SearchConfig } from "./config.ts";
import type { Outputs } from "./outputs.ts";
import { type SkillBook, skillTool } from "./skills.ts";
import { currentTime } from "./time.ts";
import { type WebDeps, webFetch } from "./web/fetch.ts";
import { webSearch } from "./web/search.ts";

/** What tools are made of. */
export interface ToolDeps {
  memory: MemoryBook;
  outputs: Outputs;
  sessions?: SessionDeps;
  /** The whole configuration, as it is now. */
  config?: () => unknown;
  carriers?: readonly Carrier[];
  runChild?: RunChild;
  askModel?: AskModel;
  schedule?: ScheduleBus;
  /** Set when there are roots. */
  files?: FileDesk;
  /** Set when folders of skills are named. */
  skills?: SkillBook;
  /** Set when there is a host to reach. */
  web?: WebDeps;
  /** Set under a launcher that runs programs. */
  exec?: { config: ExecConfig; runner: Runner };
  /** Set when an engine is configured. */
  search?: { config: SearchConfig; fetch: typeof fetch };
}

/** The tools, those that every conversation may need first. */
export function makeTools(deps: ToolDeps): Tool[] {
  const { memory, outputs, files, web, search, exec, skills } = deps;
  const { sessions, config, carriers = [], runChild, askModel } = deps;
  const { schedule } = deps;
  return [
    currentTime,
    mathEval,
    ...memoryTools(memory),
    outputs.tool(),
    toolSearch,
    ...web === undefined ? [] : [webFetch(web)],
    ...search === undefined ? [] : [webSearch(search.config, search)],
    ...files === undefined ? [] : fileTools(files),
    ...carriers.length === 0 ? [] : [messageSend(carriers)],
    ...sessions === undefined ? [] : sessionTools(sessions),
    ...config === undefined ? [] : [configRead(config)],
    ...skills === undefined ? [] : [skillTool(skills)],
    ...files === undefined || askModel === undefined
      ? []
      : [mediaAnalyze({ files, ask: askModel })],
    ...runChild === undefined ? [] : [sessionSpawn(runChild)],
    ...schedule === undefined ? [] : cronTools(schedule),
    ...exec === undefined ? [] : execTools(exec),
  ];
}

function execTools({ config, runner }: NonNullable<ToolDeps["exec"]>): Tool[] {
  return Object.entries(templatesOf(config)).map(([name, template]) =>
    execTool(name, template, {
      runner,
      trusted: config.commands[name]?.trusted ?? false,
    })
  );
}
