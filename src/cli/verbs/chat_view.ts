/**
 * Shows a turn on a terminal as it happens.
 *
 * Never: a text from the wire reaches the terminal unprinted by `printable`.
 *
 * @module
 */
import type { Clock } from "../../core/time.ts";
import { printable, printableLine } from "../printable.ts";
import type { RunEnd } from "../../remote/run_events.ts";
import type { TurnNotice } from "../../remote/run_turn.ts";
import type { Paint } from "../term.ts";

/** Columns a tool's arguments or result may take. */
const BRIEF_CHARS = 100;

export interface ChatViewOptions {
  out(text: string): void;
  paint: Paint;
  clock: Clock;
}

/** One turn's view. Make a new one for the next. */
export class ChatView {
  readonly #options: ChatViewOptions;
  readonly #startedAt: number;
  #section: "none" | "text" | "thinking" = "none";
  #isAtLineStart = true;
  /** Text since the last tool call: what the reply repeats. */
  #tail = "";

  constructor(options: ChatViewOptions) {
    this.#options = options;
    this.#startedAt = options.clock.now();
  }

  /** Says something of our own, on a line. */
  note(text: string): void {
    this.#line(this.#options.paint("dim", text));
  }

  /** Shows one event. */
  show(notice: TurnNotice): void {
    const { paint } = this.#options;
    switch (notice.kind) {
      case "text":
        this.#enter("text");
        this.#tail += notice.text;
        this.#write(printable(notice.text));
        break;
      case "thinking":
        this.#enter("thinking");
        this.#write(paint("dim", printable(notice.text)), notice.text);
        break;
      case "tool_call":
        this.#tail = "";
        this.#line(
          `${paint("cyan", `⚙ ${printableLine(notice.name)}`)} ${
            paint("dim", brief(JSON.stringify(notice.args)))
          }`,
        );
        break;
      case "tool_result":
        this.#line(
          paint(notice.isError ? "red" : "dim", `  ↳ ${brief(notice.text)}`),
        );
        break;
      case "decision":
        this.#decision(notice);
        break;
      case "ask":
        this.#ask(notice);
        break;
      case "queued":
        this.#line(paint(
          "dim",
          notice.position === 0
            ? "waiting for a free place"
            : `waiting: ${notice.position} before this one`,
        ));
        break;
      case "lost":
        this.#line(
          paint("yellow", `${printable(notice.reason)}; connecting …`),
        );
        break;
      case "back":
        this.#line(paint("dim", "connected again"));
        break;
      case "end":
        this.#end(notice);
        break;
      case "started":
      case "step":
        break;
      default:
        notice satisfies never;
    }
  }

  #decision(notice: TurnNotice & { kind: "decision" }): void {
    const { paint } = this.#options;
    const reason = printableLine(notice.reason, { charsMax: 300 });
    if (notice.verdict === "deny") {
      this.#line(paint("red", `  ✗ denied: ${reason}`));
    } else if (notice.verdict === "allow" && reason !== "") {
      this.#line(paint("dim", `  ✓ ${reason}`));
    } // an ask follows as an event of its own
  }

  /** What is asked is shown whole: an approval is for what was seen. */
  #ask(notice: TurnNotice & { kind: "ask" }): void {
    const { paint } = this.#options;
    this.#line(paint("yellow", `? ${printable(notice.question)}`));
    if (notice.card.length === 0) {
      const args = printableLine(JSON.stringify(notice.args) ?? "");
      this.#line(`  ${paint("bold", printableLine(notice.name))} ${args}`);
    }
    for (const line of notice.card) this.#line(`  ${printableLine(line)}`);
    this.#line(paint("dim", `  approval ${printableLine(notice.approvalId)}`));
  }

  #end(end: RunEnd): void {
    const { paint, clock } = this.#options;
    const reply = end.reply.trim();
    const tail = this.#tail.trim();
    if (reply !== "" && !tail.endsWith(reply)) {
      if (tail !== "" && reply.startsWith(tail)) {
        this.#enter("text");
        this.#write(printable(reply.slice(tail.length)));
      } else {
        this.#freshLine();
        this.#write(printable(reply));
      }
    }
    this.#freshLine();
    if (end.state === "aborted") this.#line(paint("yellow", "stopped"));
    if (end.state === "error") {
      this.#line(
        paint("red", `error: ${printable(end.message ?? "the run failed")}`),
      );
      if (end.hint !== undefined) {
        this.#line(paint("dim", `hint:  ${printable(end.hint)}`));
      }
    }
    const seconds = ((clock.now() - this.#startedAt) / 1000).toFixed(1);
    const tokens = end.usage === undefined ||
        end.usage.inputTokens + end.usage.outputTokens === 0
      ? ""
      : `${end.usage.inputTokens} in${
        end.usage.cachedTokens === 0
          ? ""
          : ` (${end.usage.cachedTokens} cached)`
      } · ${end.usage.outputTokens} out · `;
    this.#line(paint("dim", `${tokens}${seconds} s`));
  }

  #enter(section: "text" | "thinking"): void {
    if (this.#section !== section && this.#section !== "none") {
      this.#freshLine();
    }
    this.#section = section;
  }

  #freshLine(): void {
    if (!this.#isAtLineStart) this.#write("\n");
  }

  #line(text: string): void {
    this.#freshLine();
    this.#section = "none";
    this.#write(`${text}\n`);
  }

  /** `plain` is the text without its colours, when it has some. */
  #write(text: string, plain = text): void {
    if (text === "") return;
    this.#options.out(text);
    this.#isAtLineStart = plain.endsWith("\n");
  }
}

function brief(text = ""): string {
  return printableLine(text, { charsMax: BRIEF_CHARS });
}
