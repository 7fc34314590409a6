/**
 * The heartbeat: wakes an agent now and then in a conversation of its own, with
 * as little context as will do, and gives it the words that were left for it.
 *
 * It ends itself after five beats in a row that had nothing to say, when the
 * model's key is refused, and when who turned it on is no longer let in.
 *
 * Never: a beat with more authority than who turned it on; a beat in quiet
 * hours or over the day's number.
 *
 * @module
 */
import type { Authority, AuthorityRecord } from "../core/authority.ts";
import { AppError, errorText } from "../core/errors.ts";
import { makeId } from "../core/ids.ts";
import { join, joinAll, type Label, label } from "../core/label.ts";
import { heartbeatKey, ownZone } from "../core/schedule.ts";
import type { HeartbeatView } from "../core/methods/schedule.ts";
import type { HeartState, OpenTick, WakeWord } from "../store/jobs.ts";
import { SCHEDULE_LIMITS } from "./book.ts";
import type { Alone, ScheduleDeps } from "./deps.ts";
import type { Follower, RunEnd } from "./follower.ts";
import { isSilent, scheduleInbound } from "./runner.ts";
import { clockIn, isQuiet } from "./times.ts";

/** After so many beats in a row without a word it stops. */
export const EMPTY_BEATS_MAX = 5;
const PREVIEW_CHARS_MAX = 200;
const RETRY_MS = 5_000;

const PROMPT =
  "Heartbeat. If a HEARTBEAT.md is shown, do what it asks for now; invent no tasks and repeat none of before. If there is nothing to do and nothing to tell, answer exactly HEARTBEAT_OK.";

const FRESH: HeartState = { empty: 0, day: "", beats: 0 };

/** The heart. */
export class Heart {
  readonly #deps: ScheduleDeps;
  readonly #alone: Alone;
  readonly #follower: Follower;
  #state: HeartState = FRESH;
  #words: WakeWord[] = [];

  constructor(
    deps: ScheduleDeps,
    room: { alone: Alone; follower: Follower },
  ) {
    this.#deps = deps;
    this.#alone = room.alone;
    this.#follower = room.follower;
  }

  get #config() {
    return this.#deps.config().heartbeat;
  }

  get #everyMs(): number {
    return this.#config.everyMinutes * 60_000;
  }

  get isOn(): boolean {
    return this.#state.enabled ??
      (this.#config.enabled && this.#state.stoppedBecause === undefined);
  }

  get last(): HeartbeatView | undefined {
    return this.#state.last;
  }

  get waiting(): number {
    return this.#words.length;
  }

  get stoppedBecause(): string | undefined {
    return this.isOn ? undefined : this.#state.stoppedBecause;
  }

  get isRunning(): boolean {
    return this.#state.running !== undefined;
  }

  /** When the next beat is due; it waits for the end of the one before. */
  nextAt(): number | undefined {
    if (!this.isOn || this.isRunning) return undefined;
    return this.#state.nextAt ?? this.#deps.clock.now();
  }

  /** Reads what is stored, and follows a beat of before the start. */
  async open(): Promise<void> {
    const { jobs } = this.#deps.store;
    this.#state = await jobs.heart() ?? FRESH;
    this.#words = await jobs.wakeWords();
  }

  async resume(): Promise<void> {
    const { running } = this.#state;
    if (running === undefined) return;
    await this.#follower.again(
      running.runId,
      (end) => this.#alone.run(() => this.#settle(running, end)),
    );
  }

  async #keep(state: HeartState): Promise<void> {
    const { jobs, journal } = this.#deps.store;
    await journal.commit([jobs.heartRow(state)]);
    this.#state = state;
  }

  // --- turning on and off -------------------------------------------------

  /** Turns it on, acting as whoever says so, or off. Call it alone. */
  async set(enabled: boolean, by: Authority): Promise<void> {
    const { stoppedBecause: _, authority: __, ...rest } = this.#state;
    const scopes = ["read", "chat", "tools", "write"];
    await this.#keep({
      ...rest,
      enabled,
      empty: 0,
      ...(enabled
        ? {
          authority: by.narrow({ scopes }).toRecord(),
          nextAt: this.#deps.clock.now() + this.#everyMs,
        }
        : {}),
    });
  }

  async #stop(why: string): Promise<void> {
    const { authority: _, nextAt: __, ...rest } = this.#state;
    await this.#keep({ ...rest, enabled: false, stoppedBecause: why });
    this.#deps.log("warn", "heartbeat.stopped", { why });
  }

  /** A word for the next beat, stored. Call it alone. */
  async leave(
    left: { text: string; label: Label; authority: AuthorityRecord },
  ): Promise<void> {
    const word = toWord(left);
    const max = SCHEDULE_LIMITS.wakeWordsMax;
    if (this.#words.length >= max) {
      throw new AppError(
        "rate_limited",
        `Cannot leave a word: ${max} wait for a heartbeat`,
        { hint: 'Turn heartbeats on, or use mode "now"' },
      );
    }
    const at = this.#deps.clock.now();
    const whole: WakeWord = { ...word, id: makeId("wake", at), at };
    const { jobs, journal } = this.#deps.store;
    await journal.commit([jobs.wakeRow(whole)]);
    this.#words = [...this.#words, whole];
  }

  // --- a beat -------------------------------------------------------------

  /** Beats, when it is time. Call it alone. */
  async beatIfDue(): Promise<void> {
    const { clock } = this.#deps;
    const now = clock.now();
    const at = this.nextAt();
    if (at === undefined || at > now) return;
    if (this.#state.nextAt === undefined) {
      // Turned on by the configuration: the first beat is a whole pause away.
      return await this.#keep({ ...this.#state, nextAt: now + this.#everyMs });
    }
    const authority = await this.#authority();
    if (authority === undefined) {
      return await this.#stop("the credential that turned it on was revoked");
    }
    const { quiet, perDayMax } = this.#config;
    const zone = this.#config.zone ?? this.#deps.config().zone ?? ownZone();
    const { day } = clockIn(now, zone);
    const beats = this.#state.day === day ? this.#state.beats : 0;
    const next = { ...this.#state, day, beats, nextAt: now + this.#everyMs };
    const why = quiet !== undefined && isQuiet(now, quiet, zone)
      ? "quiet hours"
      : beats >= perDayMax
      ? `${perDayMax} beats a day are allowed`
      : undefined;
    if (why !== undefined) {
      return await this.#say(next, { status: "skipped", reason: why });
    }
    try {
      await this.#beat({ ...next, beats: beats + 1 }, { authority, dueAt: at });
    } catch (error) {
      const isShort = error instanceof AppError && error.code === "unavailable";
      if (isShort) {
        this.#state = { ...this.#state, nextAt: now + RETRY_MS };
        return;
      }
      await this.#say(next, { status: "failed", reason: errorText(error) });
    }
  }

  async #authority(): Promise<Authority | undefined> {
    const { authority: record } = this.#state;
    if (record === undefined) return this.#deps.configAuthority();
    return await this.#deps.isLive(record)
      ? this.#deps.authorityOf(record)
      : undefined;
  }

  async #beat(
    state: HeartState,
    { authority, dueAt }: { authority: Authority; dueAt: number },
  ): Promise<void> {
    const { store: { jobs }, turns, clock } = this.#deps;
    const { agent, model, prompt = PROMPT } = this.#config;
    const left = this.#words = await jobs.wakeWords();
    const words = await this.#standing(left);
    const now = clock.now();
    const own = label("owner", [], {
      kind: "schedule",
      ref: "heartbeat",
      at: now,
    });
    const joined = joinAll([own, ...words.map((word) => word.label)]);
    const text = words.length === 0
      ? prompt
      : `${prompt}\n\nWhat was left for this heartbeat:\n${
        words.map((word) => `- ${word.text}`).join("\n")
      }`;
    let next = state;
    try {
      await turns.start({
        inbound: scheduleInbound({
          id: `heartbeat:${dueAt}`,
          text,
          label: joined,
          from: "heartbeat",
          now,
        }),
        authority: words.reduce(
          (own, word) => own.narrow(word.authority ?? {}),
          authority.narrow({ integrity: joined.integrity }),
        ),
        sessionKey: heartbeatKey(agent),
        agentId: agent,
        attended: false,
        isPlain: true,
        isFresh: true,
        ...(model === undefined ? {} : { model }),
        alsoStore: (runId) => {
          const running: OpenTick = { runId, dueAt, at: now };
          next = { ...state, running };
          this.#follower.add(
            runId,
            (end) => this.#alone.run(() => this.#settle(running, end)),
          );
          return [
            jobs.heartRow(next),
            ...left.map(({ id }) => jobs.wakeDeletion(id)),
          ];
        },
      });
    } catch (error) {
      this.#follower.drop(next.running?.runId ?? "");
      throw error;
    }
    this.#state = next;
    this.#words = [];
  }

  /** Words of those who are still let in; nobody else's count. */
  async #standing(words: readonly WakeWord[]): Promise<WakeWord[]> {
    const standing: WakeWord[] = [];
    for (const word of words) {
      const { authority } = word;
      const isLive = authority === undefined ||
        await this.#deps.isLive(authority);
      if (isLive) standing.push(word);
    }
    return standing;
  }

  async #settle(running: OpenTick, end: RunEnd): Promise<void> {
    if (this.#state.running?.runId !== running.runId) return;
    const { running: _, ...rest } = this.#state;
    const isEmpty = end.isOk && isSilent(end.reply);
    const state = { ...rest, empty: isEmpty ? rest.empty + 1 : 0 };
    const { runId } = running;
    const durationMs = Math.max(0, end.at - running.at);
    const view = end.isOk
      ? {
        status: !isEmpty
          ? "sent" as const
          : end.reply.trim() === ""
          ? "ok-empty" as const
          : "ok-token" as const,
        ...(isEmpty ? {} : { preview: end.reply.slice(0, PREVIEW_CHARS_MAX) }),
      }
      : { status: "failed" as const, reason: (end.reason ?? "").slice(0, 500) };
    await this.#say(state, { ...view, runId, durationMs });
    if (end.errorClass === "auth") {
      return await this.#stop("the model's key was refused");
    }
    if (state.empty >= EMPTY_BEATS_MAX) {
      return await this.#stop(
        `${EMPTY_BEATS_MAX} beats in a row had nothing to say`,
      );
    }
    if (end.isOk && !isEmpty) await this.#deliver(running, end.reply);
  }

  async #say(
    state: HeartState,
    said: Omit<HeartbeatView, "ts">,
  ): Promise<void> {
    const last: HeartbeatView = { ts: this.#deps.clock.now(), ...said };
    await this.#keep({ ...state, last });
    const principal = this.#state.authority?.principal ?? "owner";
    this.#deps.publish("heartbeat", { ...last }, principal);
  }

  /** Sends what a beat had to say where the configuration says. */
  async #deliver({ dueAt }: OpenTick, text: string): Promise<void> {
    const { deliver: to, agent } = this.#config;
    const authority = await this.#authority();
    if (to === undefined || authority === undefined) return;
    const { clock, turns, log } = this.#deps;
    try {
      await turns.start({
        inbound: scheduleInbound({
          id: `heartbeat:${dueAt}:deliver`,
          text: "",
          label: label("owner", []),
          from: "heartbeat",
          now: clock.now(),
          replyTo: to,
        }),
        authority,
        sessionKey: heartbeatKey(agent),
        agentId: agent,
        attended: false,
        isPlain: true,
        call: { name: "message_send", args: { to, text } },
      });
    } catch (error) {
      log("warn", "heartbeat.not_sent", { error: errorText(error) });
    }
  }
}

/**
 * A word as it is kept. The beat acts as the owner, so that what others say is
 * nobody's there, however much their own words count elsewhere.
 */
function toWord(
  { text, label: said, authority }: {
    text: string;
    label: Label;
    authority: AuthorityRecord;
  },
): Omit<WakeWord, "id" | "at"> {
  const { kind, principal: by } = authority;
  const words = kind === "owner" ? said : join(said, label("untrusted", []));
  return { text, label: words, by, authority };
}
