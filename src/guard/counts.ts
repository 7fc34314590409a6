/**
 * What the guard did since the start, as numbers: for metrics and tests.
 *
 * @module
 */
import type { Decision } from "./decide.ts";

/** The counters. */
export interface GuardCounts {
  allowed: number;
  asked: number;
  denied: number;
  /** Turns that used at least one tool or answered. */
  tasks: number;
  screened: number;
  redacted: number;
  defused: number;
}

/** How often a rule said so: a policy line, an effect, the owner's answer. */
export interface RuleCount {
  rule: string;
  verdict: Decision["verdict"];
  count: number;
}

/** Counts, and says how often the owner is asked. */
export class GuardMeter {
  readonly #rules = new Map<string, RuleCount>();
  readonly #counts: GuardCounts = {
    allowed: 0,
    asked: 0,
    denied: 0,
    tasks: 0,
    screened: 0,
    redacted: 0,
    defused: 0,
  };

  decided({ verdict, rule }: Pick<Decision, "verdict" | "rule">): void {
    const key = `${rule} ${verdict}`;
    const row = this.#rules.get(key);
    if (row === undefined) this.#rules.set(key, { rule, verdict, count: 1 });
    else row.count++;
    if (verdict === "allow") this.#counts.allowed++;
    else if (verdict === "ask") this.#counts.asked++;
    else this.#counts.denied++;
  }

  add(name: "tasks" | "screened" | "redacted" | "defused", by = 1): void {
    this.#counts[name] += by;
  }

  /** Every rule that spoke; a question and its answer are two. */
  get rules(): readonly RuleCount[] {
    return [...this.#rules.values()];
  }

  get counts(): Readonly<GuardCounts> {
    return { ...this.#counts };
  }

  /** How often the owner was asked, for every hundred turns. */
  get promptsPer100Tasks(): number {
    const { asked, tasks } = this.#counts;
    return tasks === 0 ? 0 : Math.round(asked * 10_000 / tasks) / 100;
  }
}
