/**
 * Skills: folders with a `SKILL.md`, known by name and description, read when
 * they are needed. A skill is text and nothing else; whose words it is depends
 * on where it lies.
 *
 * Never: an install step is run; what a stranger could have written is part of
 * every prompt.
 *
 * @module
 */
import { z } from "zod";
import { AppError, errorText } from "../core/errors.ts";
import { join, joinAll, type Label, label } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import type { MethodOutput } from "../core/methods.ts";
import { type Tool, tool } from "../core/tool.ts";
import { sha256Hex } from "../core/ids.ts";
import type { FileLabels } from "../store/file_labels.ts";
import { Roots } from "./files/root_path.ts";
import {
  missingOf,
  needsOf,
  needsText,
  type SkillFacts,
} from "./skill_needs.ts";

/** Bounds of skills. */
export const SKILL_LIMITS = {
  /** Skills that are found; the others are left out. */
  skillsMax: 256,
  /** Bytes of one skill; a larger one is left out. */
  bytesMax: 262_144,
  /** Characters of a skill's name; the same. */
  nameCharsMax: 64,
  /** Characters of what it says of itself; the rest is cut. */
  aboutCharsMax: 300,
  /** Characters of the list in a prompt; the rest is left out. */
  indexCharsMax: 8_000,
  /** How long what was found is good for. */
  keptMs: 60_000,
} as const;

/** One skill, without its text. */
export interface Skill {
  name: string;
  about: string;
  /** Its folder, absolute. */
  folder: string;
  /** What it says it needs, in words. Nothing is installed. */
  needs: readonly string[];
  /** What of it is not there; with anything here it is not offered. */
  missing: readonly string[];
  label: Label;
}

/** What skills are read from. */
export interface SkillDeps {
  folders(): readonly string[];
  /** The folders whose files are the owner's words. */
  trusted(): readonly string[];
  labels: FileLabels;
  facts: SkillFacts;
  now(): number;
  log: Log;
}

/** The head of a SKILL.md: plain `key: value` lines between two `---`. */
export function readHead(
  text: string,
): { head: Map<string, string>; body: string } {
  const head = new Map<string, string>();
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  if (lines[0]?.trim() !== "---") return { head, body: text };
  const end = lines.findIndex((line, n) => n > 0 && line.trim() === "---");
  if (end < 0 || end > 200) return { head, body: text };
  let key = "";
  for (const line of lines.slice(1, end)) {
    const found = /^([A-Za-z][\w-]{0,63}):\s*(.*)$/.exec(line);
    if (found !== null) {
      key = found[1]?.toLowerCase() ?? "";
      const value = found[2]?.trim() ?? "";
      head.set(key, /^[>|][+-]?$/.test(value) ? "" : unquote(value));
    } else if (key !== "" && /^\s+\S/.test(line)) {
      head.set(key, `${head.get(key) ?? ""} ${line.trim()}`.trim());
    }
  }
  return { head, body: lines.slice(end + 1).join("\n").trim() };
}

function unquote(text: string): string {
  const found = /^"((?:[^"\\]|\\.)*)"$|^'([^']*)'$/.exec(text);
  return found === null ? text : found[1]?.replaceAll(/\\(.)/g, "$1") ??
    found[2] ?? text;
}

function plain(text: string, charsMax: number): string {
  return text.normalize("NFKC").replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ")
    .replaceAll(/\s+/g, " ").trim().slice(0, charsMax);
}

function isBelow(path: string, folder: string): boolean {
  return `${path}/`.startsWith(`${folder.replace(/[\\/]+$/, "")}/`);
}

/** The skills of the configured folders. */
export class SkillBook {
  readonly #deps: SkillDeps;
  #kept: { at: number; skills: Promise<Skill[]> } | undefined;

  constructor(deps: SkillDeps) {
    this.#deps = deps;
  }

  /** Every skill there is; looked for again after a minute. */
  async list(): Promise<Skill[]> {
    const now = this.#deps.now();
    if (
      this.#kept === undefined || now - this.#kept.at > SKILL_LIMITS.keptMs
    ) {
      this.#kept = { at: now, skills: this.#find() };
    }
    return await this.#kept.skills;
  }

  /** All of them, as the owner is shown them. */
  async status(): Promise<MethodOutput<"skills.status">["skills"]> {
    return (await this.list()).map((skill) => ({
      name: skill.name,
      skillKey: skill.name,
      description: skill.about,
      source: skill.label.integrity,
      filePath: `${skill.folder}/SKILL.md`,
      requirements: [...skill.needs],
      eligible: skill.missing.length === 0,
      missing: [...skill.missing],
    }));
  }

  /** Those that can be used here. */
  async offered(): Promise<Skill[]> {
    return (await this.list()).filter(({ missing }) => missing.length === 0);
  }

  /** The owner's own skills, for the prompt; nothing when there are none. */
  async index(): Promise<{ text: string; label: Label } | undefined> {
    const own = (await this.offered())
      .filter((skill) => skill.label.integrity === "owner");
    if (own.length === 0) return undefined;
    const lines = own.map((skill) => `- ${skill.name}: ${skill.about}`);
    const text = `Skills, to be read with skill_read when one fits:\n${
      lines.join("\n").slice(0, SKILL_LIMITS.indexCharsMax)
    }`;
    return { text, label: joinAll(own.map((skill) => skill.label)) };
  }

  /**
   * A file of a skill, `SKILL.md` if none is named.
   *
   * @throws {AppError} `not_found`, `unavailable` (something it needs is not
   * there), `forbidden` (a link, outside the skill)
   */
  async read(
    name: string,
    file = "SKILL.md",
  ): Promise<{ text: string; label: Label; skill: Skill }> {
    const skill = (await this.list()).find((one) => one.name === name);
    if (skill === undefined) {
      throw new AppError(
        "not_found",
        `There is no skill "${name.slice(0, 64)}"`,
        {
          hint: "skill_read without a name lists them",
        },
      );
    }
    if (skill.missing.length > 0) {
      // A stranger's words are not for an error: it says itself what it needs.
      throw new AppError(
        "unavailable",
        `Cannot use the skill "${name}": something it needs is not there`,
        { hint: "The owner sees what with: carapace skills" },
      );
    }
    const { text, label } = await this.#file(skill.folder, file);
    return { text, label, skill };
  }

  async #file(
    folder: string,
    file: string,
  ): Promise<{ text: string; label: Label }> {
    const roots = new Roots([{ path: folder, trusted: false }]);
    const place = roots.parse(`${folder}/${file}`);
    const { bytesMax } = SKILL_LIMITS;
    const { bytes, isCut } = await roots.read(place, { bytesMax });
    if (isCut || bytes.includes(0)) {
      throw new AppError(
        "bad_input",
        `Cannot read "${file}": too large, or no text`,
      );
    }
    return {
      text: new TextDecoder().decode(bytes),
      label: await this.#labelOf(place.text, bytes),
    };
  }

  /** The owner's where the owner's files are, unless we wrote it ourselves. */
  async #labelOf(
    path: string,
    bytes: Uint8Array<ArrayBuffer>,
  ): Promise<Label> {
    const root = this.#deps.trusted().find((one) => isBelow(path, one));
    const origin = {
      kind: "file" as const,
      ref: path.slice(-512),
      at: this.#deps.now(),
    };
    if (root === undefined) return label("untrusted", [], origin);
    const plainRoot = root.replace(/[\\/]+$/, "");
    const sha256 = await sha256Hex(bytes);
    const row = await this.#deps.labels.find(plainRoot, path);
    const copied = await this.#deps.labels.findBytes(sha256);
    const isChanged = row !== undefined && row.sha256 !== sha256;
    const own = label(isChanged ? "untrusted" : "owner", [], origin);
    const known = joinAll(
      [row?.label, copied].filter((one) => one !== undefined),
    );
    return join(own, known);
  }

  async #find(): Promise<Skill[]> {
    const skills = new Map<string, Skill>();
    for (const folder of this.#deps.folders()) {
      try {
        const roots = new Roots([{ path: folder, trusted: false }]);
        const top = roots.parse(folder);
        const max = SKILL_LIMITS.skillsMax;
        for (const entry of await roots.entries(top, { max })) {
          if (!entry.isDirectory || skills.size >= max) continue;
          const skill = await this.#skill(roots.below(top, entry.name).text);
          // The first of a name counts: folders are listed in their order.
          if (skill !== undefined && !skills.has(skill.name)) {
            skills.set(skill.name, skill);
          }
        }
      } catch (error) {
        this.#deps.log("warn", "skills.unreadable", {
          folder,
          error: errorText(error),
        });
      }
    }
    return [...skills.values()];
  }

  async #skill(folder: string): Promise<Skill | undefined> {
    let file: { text: string; label: Label };
    try {
      file = await this.#file(folder, "SKILL.md");
    } catch (error) {
      if (error instanceof AppError) return undefined;
      throw error;
    }
    const { head } = readHead(file.text);
    const name = plain(
      head.get("name") ?? folder.split("/").at(-1) ?? "",
      SKILL_LIMITS.nameCharsMax,
    );
    if (!/^[\w .-]+$/.test(name)) return undefined;
    const needs = needsOf(head.get("metadata"));
    const words = (list: string[]) => list.map((one) => plain(one, 512));
    return {
      name,
      about: plain(head.get("description") ?? "", SKILL_LIMITS.aboutCharsMax),
      folder,
      needs: words(needsText(needs)),
      missing: words(missingOf(needs, this.#deps.facts)),
      label: file.label,
    };
  }
}

/** `skill_read` over a book. */
export function skillTool(book: SkillBook): Tool {
  return tool({
    name: "skill_read",
    about:
      "Read a skill's instructions, or a file of it; without a name, list them",
    input: z.strictObject({
      name: z.string().min(1).max(SKILL_LIMITS.nameCharsMax).optional(),
      file: z.string().min(1).max(512).optional(),
    }),
    scope: "chat",
    effect: "read_private",
    reach: "owner",
    result: { integrity: "inherit", secrecy: "inherit" },
    destinations: [],
    run: async ({ name, file }) => {
      if (name === undefined) {
        const skills = await book.offered();
        return {
          text: skills.map((one) => `- ${one.name}: ${one.about}`).join("\n") ||
            "There are no skills",
          label: joinAll(skills.map((one) => one.label)),
        };
      }
      const { text, label, skill } = await book.read(name, file);
      const needs = skill.needs.length === 0
        ? ""
        : `\n\n[It says it needs: ${
          skill.needs.join(", ")
        }. Nothing is installed; use only the tools there are]`;
      return { text: text + needs, label };
    },
  });
}
