/**
 * What was typed at the chat prompt, for the arrow keys: one line an entry, in
 * a file for the owner's eyes only.
 *
 * Never: a line that begins with a space is kept, nor an answer to a question.
 *
 * @module
 */
import { writeWhole } from "../../config/files.ts";
import { AppError, ignore } from "../../core/errors.ts";

const LIMITS = { linesMax: 1000, lineCharsMax: 4096 } as const;

/** Typed lines, the newest first (as `node:readline` wants them). */
export class ChatHistory {
  readonly #path: string;
  readonly #lines: string[];
  #isWritable = true;

  private constructor(path: string, lines: string[]) {
    this.#path = path;
    this.#lines = lines;
  }

  /** Reads `<dir>/chat_history`; an unreadable one is an empty one. */
  static async open(dir: string): Promise<ChatHistory> {
    const path = `${dir}/chat_history`;
    const text = await Deno.readTextFile(path).catch((error) => {
      ignore("no chat history yet")(error);
      return "";
    });
    const lines = text.split("\n").filter((line) => line !== "");
    return new ChatHistory(path, lines.slice(-LIMITS.linesMax).reverse());
  }

  get lines(): readonly string[] {
    return this.#lines;
  }

  /** Adds a line and writes the file; a repetition of the last is left out. */
  async add(line: string): Promise<void> {
    const isKept = line !== "" && !line.startsWith(" ") &&
      line.length <= LIMITS.lineCharsMax && line !== this.#lines[0];
    if (!isKept) return;
    this.#lines.unshift(line);
    this.#lines.length = Math.min(this.#lines.length, LIMITS.linesMax);
    if (!this.#isWritable) return;
    const text = this.#lines.toReversed().map((entry) => `${entry}\n`).join("");
    await writeWhole(this.#path, text).catch((error) => {
      if (!isUnwritable(error)) throw error;
      // No state directory yet, or no permission: the session's own will do.
      this.#isWritable = false;
    });
  }
}

function isUnwritable(error: unknown): boolean {
  return error instanceof AppError || error instanceof Deno.errors.NotFound ||
    error instanceof Deno.errors.NotCapable ||
    error instanceof Deno.errors.PermissionDenied;
}
