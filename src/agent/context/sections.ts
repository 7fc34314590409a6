/**
 * What is shown to a model beside the conversation: the owner's workspace
 * files, what memory pins, the index of skills. Each is a labelled part in the
 * user role, within a size.
 *
 * A workspace's files are the owner's words because the configuration names the
 * folder, and for no other reason. `USER.md` and `MEMORY.md` are about the
 * owner: they are shown in the owner's own conversations only.
 *
 * Never: one of these in the system role; one of the owner's private files in a
 * conversation others read.
 *
 * @module
 */
import type { Authority } from "../../core/authority.ts";
import { AppError, errorText } from "../../core/errors.ts";
import { joinAll, type Label, label } from "../../core/label.ts";
import type { Log } from "../../core/log.ts";
import { isHeartbeatKey } from "../../core/schedule.ts";
import type { Message, TextPart } from "../../core/message.ts";
import type { Session } from "../../store/sessions.ts";
import { Roots } from "../../tools/files/root_path.ts";
import type { AgentConfig } from "../config.ts";
import { estimateText } from "./tokens.ts";

/** A piece of context and whose words it is. */
export interface ContextPart {
  /** What it is, for the model and for the account: `AGENTS.md`, `Pinned memory`. */
  title: string;
  text: string;
  label: Label;
}

/** What a source of context is told. */
export interface ContextQuery {
  agentId: string;
  sessionKey: string;
  authority: Authority;
  /** Whether only this principal (and the owner) reads this conversation. */
  isPrivate: boolean;
}

/** Where context comes from beside the workspace; given by the roof. */
export interface ContextSources {
  memory?(
    query: ContextQuery,
  ): Promise<readonly ContextPart[]> | readonly ContextPart[];
  skills?(
    query: ContextQuery,
  ): Promise<readonly ContextPart[]> | readonly ContextPart[];
}

export type SectionName = "workspace" | "memory" | "skills";

/** One section's parts, cut to size. */
export interface Section {
  name: SectionName;
  parts: readonly TextPart[];
  titles: readonly string[];
  tokens: number;
}

/** All of it, gathered once a turn. */
export interface Sections {
  list: readonly Section[];
  /** The join of every part's label. */
  label: Label;
}

export const NO_SECTIONS: Sections = { list: [], label: joinAll([]) };

/** Files of a workspace in the order they are shown; `own`: only to the owner. */
const WORKSPACE_FILES: readonly { name: string; own?: true }[] = [
  { name: "AGENTS.md" },
  { name: "SOUL.md" },
  { name: "IDENTITY.md" },
  { name: "USER.md", own: true },
  { name: "TOOLS.md" },
  { name: "MEMORY.md", own: true },
];

/** What a heartbeat is shown instead: as little as will do. */
const HEARTBEAT_FILES: typeof WORKSPACE_FILES = [
  { name: "HEARTBEAT.md", own: true },
];

const LIMITS = {
  /** Bytes of one file of a workspace in a prompt; what is longer is cut, and says so. */
  fileBytesMax: 65_536,
  /** Characters of one part, and of one section. */
  partCharsMax: 20_000,
  sectionCharsMax: {
    workspace: 60_000,
    memory: 24_000,
    skills: 16_000,
  } satisfies Record<SectionName, number>,
  /** Of all that a model may be shown, sections take at most this share. */
  share: 0.4,
} as const;

/** Whether only this principal (and the owner) reads a conversation. */
export function isPrivateTo(session: Session, authority: Authority): boolean {
  return session.kind !== "group" && session.owner === authority.principal;
}

async function workspaceParts(
  agent: AgentConfig,
  options: { query: ContextQuery; log: Log },
): Promise<ContextPart[]> {
  const root = agent.workspace;
  if (root === undefined) return [];
  const { query, log } = options;
  const all = isHeartbeatKey(query.sessionKey)
    ? HEARTBEAT_FILES
    : WORKSPACE_FILES;
  const files = all.filter((file) =>
    query.isPrivate && query.authority.kind === "owner" || file.own !== true
  );
  const roots = new Roots([{ path: root, trusted: true }]);
  const read = await Promise.all(files.map(async ({ name, own }) => {
    try {
      const file = await roots.read(
        roots.parse(`${root.replace(/[\\/]+$/, "")}/${name}`),
        { bytesMax: LIMITS.fileBytesMax },
      );
      // A cut may fall inside a character; what it leaves of it goes.
      const text = new TextDecoder().decode(file.bytes, {
        stream: file.isCut,
      });
      if (text.trim() === "") return [];
      // What may be said to anyone is public; the rest is the owner's.
      const secrecy = own === true ? [query.authority.principal] : [];
      return [{
        title: name,
        text,
        label: label("owner", secrecy, {
          kind: "file",
          ref: name,
          // The file's own time: an ask that waits must look the same later.
          at: file.info.mtime?.getTime() ?? 0,
        }),
      }];
    } catch (error) {
      if (error instanceof AppError && error.code === "not_found") return [];
      log("warn", "workspace.unreadable", {
        agent: query.agentId,
        file: name,
        error: errorText(error),
      });
      return [];
    }
  }));
  return read.flat();
}

function cut(text: string, charsMax: number): string {
  if (text.length <= charsMax) return text;
  const head = text.slice(0, Math.max(0, charsMax)).replace(
    /[\ud800-\udbff]$/,
    "",
  );
  return `${head}\n[cut: ${text.length} characters, ${head.length} shown]`;
}

const FRAME: Readonly<Record<SectionName, (title: string) => string>> = {
  workspace: (title) => `From the owner's file ${title}`,
  memory: (title) => title,
  skills: (title) => title,
};

function toSection(
  name: SectionName,
  parts: readonly ContextPart[],
  charsMax: number,
): Section | undefined {
  let left = Math.min(LIMITS.sectionCharsMax[name], charsMax);
  const shown: TextPart[] = [];
  const titles: string[] = [];
  for (const part of parts) {
    if (left <= 0) break;
    const body = cut(part.text.trim(), Math.min(left, LIMITS.partCharsMax));
    left -= body.length;
    const head = FRAME[name](part.title);
    shown.push({
      kind: "text",
      text: `[${head}]\n${body}\n[End of ${part.title}]\n`,
      label: part.label,
    });
    titles.push(part.title);
  }
  if (shown.length === 0) return undefined;
  const tokens = shown.reduce((sum, { text }) => sum + estimateText(text), 0);
  return { name, parts: shown, titles, tokens };
}

async function from(
  source: ContextSources["memory"],
  { query, log, name }: { query: ContextQuery; log: Log; name: SectionName },
): Promise<readonly ContextPart[]> {
  try {
    return await source?.(query) ?? [];
  } catch (error) {
    // A turn without its memory is better than none, and it is logged.
    log("error", "context.source_failed", { name, error: errorText(error) });
    return [];
  }
}

/** Gathers what a turn is shown beside its conversation. */
export async function gatherSections(
  agent: AgentConfig,
  options: {
    query: ContextQuery;
    sources: ContextSources;
    /** Characters a model may be shown in all. */
    charsMax: number;
    log: Log;
  },
): Promise<Sections> {
  const { query, sources, log } = options;
  const { memory, skills }: ContextSources = isHeartbeatKey(query.sessionKey)
    ? {}
    : sources;
  if (
    agent.workspace === undefined && memory === undefined &&
    skills === undefined
  ) return NO_SECTIONS;
  const found = {
    workspace: await workspaceParts(agent, options),
    memory: await from(memory, { query, log, name: "memory" }),
    skills: await from(skills, { query, log, name: "skills" }),
  };
  const list: Section[] = [];
  let left = Math.floor(options.charsMax * LIMITS.share);
  for (const name of ["workspace", "memory", "skills"] as const) {
    const section = toSection(name, found[name], left);
    if (section === undefined) continue;
    left -= section.parts.reduce((sum, { text }) => sum + text.length, 0);
    list.push(section);
  }
  const labels = list.flatMap(({ parts }) => parts.map((part) => part.label));
  return { list, label: joinAll(labels) };
}

/** The sections as one message before the conversation. */
export function sectionMessages(sections: Sections): Message[] {
  const parts = sections.list.flatMap((section) => section.parts);
  return parts.length === 0 ? [] : [{ role: "user", parts }];
}
