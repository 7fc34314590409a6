/**
 * One turn's state between two commits: the run, its session, the history, what
 * is not saved yet. Everything a step changes is saved as one atomic.
 *
 * Never: an event that says something is done before it is stored.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { join, joinAll, type Label } from "../core/label.ts";
import {
  addUsage,
  type Message,
  type Part,
  type StoredMessage,
  type Usage,
} from "../core/message.ts";
import type { ToolSpec } from "../core/model.ts";
import type { Row } from "../store/journal.ts";
import type { Run } from "../store/runs.ts";
import type { Session } from "../store/sessions.ts";
import type { Summary } from "../store/summaries.ts";
import type { AgentConfig } from "./config.ts";
import type { AgentDeps, AgentSettings } from "./deps.ts";
import type { Deadline } from "./deadline.ts";
import { NO_SECTIONS, type Sections } from "./context/sections.ts";

/** What a turn holds while it runs; given back while it waits for an approval. */
export interface Seat {
  /** Gives the running slot back, waits, and takes one again at the front. */
  away<T>(wait: () => Promise<T>): Promise<T>;
}

/** What a turn is made of. */
export interface TurnParts {
  deps: AgentDeps;
  settings: AgentSettings;
  agent: AgentConfig;
  authority: Authority;
  run: Run;
  session: Session;
  /** Everything since the last notes, oldest first. */
  history: StoredMessage[];
  summary: Summary | undefined;
  /** Messages before the history that are in no notes and were not read. */
  unread: number;
  /** Whether the session's row was ever stored. */
  isNew: boolean;
  clientTools: readonly ToolSpec[];
  channel: string;
  replyTo: string | undefined;
}

/** A running turn. */
export class Turn {
  readonly deps: AgentDeps;
  readonly settings: AgentSettings;
  readonly agent: AgentConfig;
  readonly authority: Authority;
  readonly clientTools: readonly ToolSpec[];
  readonly channel: string;
  readonly replyTo: string | undefined;
  readonly history: StoredMessage[];
  run: Run;
  session: Session;
  /** Notes of the messages before {@linkcode history}. */
  summary: Summary | undefined;
  unread: number;
  /** What is shown beside the conversation; gathered when the turn begins. */
  sections: Sections = NO_SECTIONS;
  /** Unasked fetches so far. */
  fetches = 0;
  #savedRun: Run | undefined;
  #savedSession: Session | undefined;
  #unsaved: StoredMessage[] = [];
  #notes: Row[] = [];

  constructor(parts: TurnParts, savedRun?: Run) {
    this.deps = parts.deps;
    this.settings = parts.settings;
    this.agent = parts.agent;
    this.authority = parts.authority;
    this.clientTools = parts.clientTools;
    this.channel = parts.channel;
    this.replyTo = parts.replyTo;
    this.history = parts.history;
    this.summary = parts.summary;
    this.unread = parts.unread;
    this.run = parts.run;
    this.session = parts.session;
    this.#savedRun = savedRun;
    this.#savedSession = parts.isNew ? undefined : parts.session;
  }

  /** The label of all the model has read. */
  get joined(): Label {
    return join(this.session.joined, this.sections.label);
  }

  /** New notes stand for the oldest messages; the next save stores that. */
  shorten(summary: Summary): void {
    const tail = this.history.findIndex(({ seq }) => seq > summary.throughSeq);
    this.history.splice(0, tail < 0 ? this.history.length : tail);
    this.summary = summary;
    this.unread = 0;
    this.session = { ...this.session, compactedSeq: summary.throughSeq };
  }

  /** Adds a message; it is stored by the next {@linkcode save}. */
  append(
    role: Message["role"],
    parts: readonly Part[],
    extra: Pick<Partial<StoredMessage>, "sender" | "model" | "usage"> = {},
  ): StoredMessage {
    const at = this.deps.clock.now();
    const message: StoredMessage = {
      role,
      parts,
      seq: this.session.seq + 1,
      at,
      runId: this.run.id,
      ...extra,
    };
    this.session = {
      ...this.session,
      seq: message.seq,
      updatedAt: at,
      joined: join(
        this.session.joined,
        joinAll(parts.map((part) => part.label)),
      ),
    };
    this.history.push(message);
    this.#unsaved.push(message);
    return message;
  }

  /** Puts other parts in a message's place; the next {@linkcode save} stores it. */
  replace(message: StoredMessage, parts: readonly Part[]): StoredMessage {
    const next = { ...message, parts };
    const put = (list: StoredMessage[]) => {
      const at = list.findIndex(({ seq }) => seq === message.seq);
      if (at >= 0) list[at] = next;
      return at >= 0;
    };
    put(this.history);
    if (!put(this.#unsaved)) this.#unsaved.push(next);
    this.taint(joinAll(parts.map((part) => part.label)));
    return next;
  }

  /** Whether something of it is not stored yet. */
  get hasUnsaved(): boolean {
    return this.#unsaved.length > 0 || this.#savedSession !== this.session;
  }

  /** Something of this label went into the conversation without being a message. */
  taint(label: Label): void {
    this.session = {
      ...this.session,
      joined: join(this.session.joined, label),
    };
  }

  /** Counts a model call's tokens to the run and the session. */
  spend(usage: Usage): void {
    this.run = { ...this.run, usage: addUsage(this.run.usage, usage) };
    this.session = {
      ...this.session,
      usage: addUsage(this.session.usage, usage),
    };
  }

  /** A row of the audit log; it goes out with the next {@linkcode save}. */
  note(row: Row): void {
    this.#notes.push(row);
  }

  /** The ask was answered; the next save says so. */
  forgetApproval(): void {
    const { approvalId: _, ...run } = this.run;
    this.run = run;
  }

  /** Changes settings of the session while the turn runs, and stores that. */
  async patch(change: (session: Session) => Session): Promise<void> {
    this.session = change(this.session);
    await this.save({});
  }

  /** Commits everything that changed, with the run's new state, as one atomic. */
  async save(
    change: Partial<Run>,
    more: readonly Row[] = [],
  ): Promise<void> {
    const { store, clock } = this.deps;
    this.run = { ...this.run, ...change, updatedAt: clock.now() };
    const messages = this.#unsaved;
    const notes = this.#notes;
    const before = { run: this.#savedRun, session: this.#savedSession };
    const now = { run: this.run, session: this.session };
    this.#unsaved = [];
    this.#notes = [];
    const kept = [...notes, ...this.deps.spending.rowsFor(this.run.id)];
    const rows = [
      ...more,
      ...store.runs.rows(now.run, before.run),
      ...now.session === before.session
        ? []
        : store.sessions.rows(now.session, before.session),
      ...messages.flatMap((message) =>
        store.messages.rows(now.session.id, message)
      ),
      ...kept,
    ];
    this.#savedRun = now.run;
    this.#savedSession = now.session;
    try {
      await store.journal.commit(rows);
    } catch (error) {
      // A later save must not leave a gap where these belong.
      this.#unsaved.unshift(...messages);
      this.#notes.unshift(...kept);
      if (this.#savedRun === now.run) this.#savedRun = before.run;
      if (this.#savedSession === now.session) {
        this.#savedSession = before.session;
      }
      throw error;
    }
  }
}

/** What the loop is given beside the turn. */
export interface Running {
  turn: Turn;
  deadline: Deadline;
  seat: Seat;
  /** Takes in what the same sender said meanwhile (`steer`); how many turns. */
  takeAlong(): Promise<number>;
}
