/// <reference lib="dom" />
/**
 * The conversation: what was said, what is being said, and what waits for an
 * answer of the owner's.
 *
 * @module
 */
import { GatewayError, type GatewaySocket, type Payload } from "./socket.ts";
import { button, el, showState, spoken, visible } from "./view.ts";

const SESSION = "main";
const HISTORY_MAX = 100;

/** As near to its end the conversation is read as it grows. */
const END_PX = 48;

/** The words of each answer, by what the gateway calls it. */
const ANSWERS: Readonly<Record<string, string>> = {
  "allow-once": "Allow once",
  "allow-session": "Allow in this conversation",
  "allow-always": "Always allow",
  "deny": "No",
};

function textIn(content: Payload): string {
  if (typeof content === "string") return content;
  return (Array.isArray(content) ? content : [])
    .flatMap(({ type, text }: Payload) => type === "text" ? [text] : [])
    .join("\n");
}

/** The page once it is connected. */
export class Chat {
  readonly #talk = el("div", {
    class: "talk",
    role: "log",
    "aria-label": "Conversation",
  });
  readonly #cards = el("div", { class: "cards", "aria-live": "assertive" });
  readonly #input = el("textarea", {
    rows: "1",
    placeholder: "Message",
    "aria-label": "Message",
  });
  readonly #stop = button("Stop", () => void this.#abort());
  readonly #form = el("form", { class: "say" });
  readonly #replies = new Map<string, HTMLElement>();
  /** Whether the newest is shown; not while somebody reads what was before. */
  #isAtEnd = true;
  #socket: GatewaySocket | undefined;
  /** Whole, as the gateway names it. */
  #key: string | undefined;

  constructor(main: HTMLElement) {
    const send = el("button", { class: "main", type: "submit" }, "Send");
    this.#stop.hidden = true;
    this.#form.append(this.#input, this.#stop, send);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#send();
    });
    this.#input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#talk.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#talk;
      this.#isAtEnd = scrollHeight - scrollTop - clientHeight < END_PX;
    });
    // A card, a keyboard or a turned phone takes room from the conversation.
    new ResizeObserver(() => this.#follow()).observe(this.#talk);
    main.replaceChildren(this.#talk, this.#cards, this.#form);
    this.#input.focus();
  }

  /** Shows what was said before, and what waits. */
  async open(socket: GatewaySocket): Promise<void> {
    this.#socket = socket;
    const { sessionKey, messages } = await socket.request("chat.history", {
      sessionKey: SESSION,
      limit: HISTORY_MAX,
    });
    this.#key = sessionKey;
    this.#replies.clear();
    this.#talk.replaceChildren();
    for (const { role, content } of messages) {
      const text = textIn(content);
      if (text !== "" && (role === "user" || role === "assistant")) {
        this.#say(role, text);
      }
    }
    await this.#showCards();
  }

  /** Takes an event of the gateway's. */
  onEvent(event: string, payload: Payload): void {
    if (event === "chat" && payload.sessionKey === this.#key) {
      this.#onChat(payload);
    } else if (event.startsWith("exec.approval.")) {
      this.#showCards().catch((error) => this.#note(String(error.message)));
    }
  }

  #onChat({ runId, state, message, errorMessage }: Payload): void {
    this.#stop.hidden = state !== "delta";
    const text = textIn(message?.content);
    if (text !== "") {
      const node = this.#replies.get(runId) ?? this.#say("assistant", "");
      node.replaceChildren(...spoken(text));
      if (state === "delta") this.#replies.set(runId, node);
      this.#follow();
    }
    if (state === "delta") return;
    this.#replies.delete(runId);
    if (state === "aborted") this.#note("stopped");
    if (state === "error") this.#note(errorMessage ?? "the turn failed");
  }

  async #send(): Promise<void> {
    const text = this.#input.value.trim();
    if (text === "" || this.#socket === undefined) return;
    this.#input.value = "";
    const node = this.#say("user", text);
    try {
      await this.#socket.request("chat.send", {
        sessionKey: SESSION,
        message: text,
        idempotencyKey: crypto.randomUUID(),
      });
      this.#stop.hidden = false;
    } catch (error) {
      node.remove();
      this.#input.value = text; // nothing is lost
      this.#note(error instanceof GatewayError ? error.message : `${error}`);
    }
  }

  async #abort(): Promise<void> {
    try {
      await this.#socket?.request("chat.abort", { sessionKey: SESSION });
    } catch (error) {
      this.#note(error instanceof Error ? error.message : `${error}`);
    }
  }

  async #showCards(): Promise<void> {
    const { approvals } = await this.#socket?.request("approval.list", {}) ??
      { approvals: [] };
    this.#cards.replaceChildren(
      ...approvals.map((one: Payload) => this.#card(one)),
    );
    showState(approvals.length > 0 ? "waits for your answer" : "connected");
  }

  #card({ id, hash, question, card, answers }: Payload): HTMLElement {
    const answer = (decision: string) => {
      // The button that has the keyboard is about to go.
      this.#input.focus();
      this.#socket?.request("approval.resolve", { id, hash, decision }).catch(
        (error) => this.#note(error.message),
      );
    };
    const buttons = answers.map((decision: string) =>
      button(
        ANSWERS[decision] ?? decision,
        () => answer(decision),
        decision === "allow-once" ? { class: "main" } : {},
      )
    );
    return el(
      "section",
      { class: "card", "aria-label": "Approval" },
      el("h2", {}, visible(question)),
      el("pre", {}, card.map(visible).join("\n")),
      el("div", { class: "row" }, ...buttons),
    );
  }

  #say(role: string, text: string): HTMLElement {
    const node = el(
      "div",
      { class: "said", "data-role": role },
      ...spoken(text),
    );
    this.#talk.append(node);
    // Whoever writes wants to see what comes of it.
    if (role === "user") this.#isAtEnd = true;
    this.#follow();
    return node;
  }

  #note(text: string): void {
    this.#say("note", text);
  }

  #follow(): void {
    if (this.#isAtEnd) this.#talk.scrollTop = this.#talk.scrollHeight;
  }
}
