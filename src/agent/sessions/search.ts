/**
 * Words in what was said: an index over the transcripts, made when it is first
 * asked for and brought up to date at each search. It is held in memory only,
 * so nothing of a sealed store lies open on the disk, and let go when nobody
 * searches.
 *
 * Never: a result of a session the asker may not read.
 *
 * @module
 */
import type MiniSearch from "minisearch";
import type { Message } from "../../core/message.ts";
import type { Clock } from "../../core/time.ts";
import type { Session } from "../../store/sessions.ts";
import { searchWords } from "../../tools/memory_book.ts";
import type { AgentDeps } from "../deps.ts";

const LIMITS = {
  /** Sessions one search looks through; the answer says when there are more. */
  sessionsMax: 2_000,
  /** Newest sessions first; what is beyond is said to be not searched. */
  messagesMax: 20_000,
  /** Messages of one session that a search reads, the newest. */
  sessionMessagesMax: 2_000,
  /** Characters of one message that are indexed. */
  messageCharsMax: 4_000,
  /** Characters of one tool's result that are indexed. */
  resultCharsMax: 1_500,
  /** Messages indexed before others get a turn. */
  batch: 200,
  /** An index nobody asked for so long is let go of. */
  idleMs: 600_000,
  /** Characters of a hit that are shown. */
  snippetChars: 160,
} as const;

interface Entry {
  id: string;
  sessionId: string;
  seq: number;
  text: string;
}

/** One found message. */
export interface Found {
  key: string;
  seq: number;
  role: string;
  at: number;
  snippet: string;
  score: number;
}

/** What was indexed of one session: `seq` from (exclusive) to (inclusive). */
interface Span {
  from: number;
  to: number;
}

function wordsOf(message: Message): string {
  let text = "";
  for (const part of message.parts) {
    if (part.kind === "text") text += `${part.text}\n`;
    else if (part.kind === "tool_result") {
      text += `${part.text.slice(0, LIMITS.resultCharsMax)}\n`;
    } else if (part.kind === "tool_call") text += `${part.name}\n`;
    if (text.length > LIMITS.messageCharsMax) break;
  }
  return text.slice(0, LIMITS.messageCharsMax);
}

/** The words around the first match, on one line. */
function snippetOf(text: string, query: string): string {
  const flat = text.replaceAll(/\s+/g, " ").trim();
  const lower = flat.toLowerCase();
  const places = searchWords(query).map((word) => lower.indexOf(word))
    .filter((at) => at >= 0);
  const first = places.length === 0 ? 0 : Math.min(...places);
  const from = Math.max(0, first - LIMITS.snippetChars / 4);
  const cut = flat.slice(from, from + LIMITS.snippetChars);
  return `${from > 0 ? "…" : ""}${cut}${
    from + cut.length < flat.length ? "…" : ""
  }`;
}

/** The index over all transcripts. */
export class TranscriptSearch {
  readonly #store: Pick<AgentDeps["store"], "sessions" | "messages">;
  readonly #clock: Clock;
  #index: MiniSearch<Entry> | undefined;
  readonly #spans = new Map<string, Span>();
  #count = 0;
  #usedAt = 0;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(
    store: Pick<AgentDeps["store"], "sessions" | "messages">,
    clock: Clock,
  ) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Lets the index go when nobody searched for a while. */
  trim(): void {
    if (this.#clock.now() - this.#usedAt < LIMITS.idleMs) return;
    this.#index = undefined;
    this.#spans.clear();
    this.#count = 0;
  }

  /** Finds messages that hold the words, best first. */
  async find(
    query: string,
    options: { limit: number; mayRead(session: Session): boolean },
  ): Promise<{ results: Found[]; searched: number; complete: boolean }> {
    this.#usedAt = this.#clock.now();
    const sessions = await this.#sessions();
    const { index, complete } = await this.#refresh(sessions);
    const readable = new Map(
      sessions.filter(options.mayRead).map((one) => [one.id, one]),
    );
    const hits = index.search(query, {
      combineWith: "AND",
      prefix: true,
      fuzzy: (term) => term.length > 4 ? 0.2 : false,
      filter: (hit) => readable.has(hit["sessionId"] as string),
    }).slice(0, options.limit);
    const results: Found[] = [];
    for (const hit of hits) {
      const session = readable.get(hit["sessionId"] as string);
      const seq = hit["seq"] as number;
      if (session === undefined) continue;
      const [message] = await this.#store.messages.tail(session.id, {
        limit: 1,
        beforeSeq: seq + 1,
        afterSeq: seq - 1,
      });
      if (message === undefined) continue;
      results.push({
        key: session.key,
        seq,
        role: message.role,
        at: message.at,
        snippet: snippetOf(wordsOf(message), query),
        score: Math.round(hit.score * 100) / 100,
      });
    }
    return { results, searched: this.#count, complete };
  }

  async #sessions(): Promise<Session[]> {
    const limit = LIMITS.sessionsMax;
    const { sessions } = this.#store;
    const live = await sessions.list({ limit });
    const put = await sessions.list({ limit, archived: true });
    return [...live, ...put].sort((a, b) => b.updatedAt - a.updatedAt)
      .slice(0, limit);
  }

  /** One refresh at a time; a second waits for the first. */
  async #refresh(
    sessions: readonly Session[],
  ): Promise<{ index: MiniSearch<Entry>; complete: boolean }> {
    const turn = this.#busy.then(() => this.#update(sessions));
    this.#busy = turn.catch(() => {});
    return await turn;
  }

  async #update(
    sessions: readonly Session[],
  ): Promise<{ index: MiniSearch<Entry>; complete: boolean }> {
    const index = this.#index ??= await makeIndex();
    const known = new Set(sessions.map(({ id }) => id));
    for (const [id, span] of this.#spans) {
      if (!known.has(id)) this.#drop(index, id, span);
    }
    let complete = sessions.length < LIMITS.sessionsMax;
    for (const session of sessions) {
      const { id, seq } = session;
      const span = this.#spans.get(id);
      const from = span?.to ?? Math.max(0, seq - LIMITS.sessionMessagesMax);
      if ((span?.from ?? from) > 0) complete = false;
      if (seq <= from) continue;
      if (this.#count + seq - from > LIMITS.messagesMax) {
        complete = false;
        continue;
      }
      await this.#add(index, session, from);
      this.#spans.set(id, { from: span?.from ?? from, to: seq });
    }
    return { index, complete };
  }

  async #add(
    index: MiniSearch<Entry>,
    { id: sessionId, seq }: Session,
    from: number,
  ): Promise<void> {
    for (let after = from; after < seq; after += LIMITS.batch) {
      const stored = await this.#store.messages.tail(sessionId, {
        limit: LIMITS.batch,
        afterSeq: after,
        beforeSeq: Math.min(after + LIMITS.batch, seq) + 1,
      });
      for (const message of stored) {
        const id = `${sessionId}:${message.seq}`;
        if (index.has(id)) continue;
        const text = wordsOf(message);
        index.add({ id, sessionId, seq: message.seq, text });
        this.#count++;
      }
    }
  }

  #drop(index: MiniSearch<Entry>, sessionId: string, span: Span): void {
    for (let seq = span.from + 1; seq <= span.to; seq++) {
      const id = `${sessionId}:${seq}`;
      if (!index.has(id)) continue;
      index.discard(id);
      this.#count--;
    }
    this.#spans.delete(sessionId);
  }
}

async function makeIndex(): Promise<MiniSearch<Entry>> {
  const { default: Index } = await import("minisearch");
  return new Index<Entry>({
    fields: ["text"],
    storeFields: ["sessionId", "seq"],
    tokenize: searchWords,
    processTerm: (term) => term,
  });
}
