/**
 * Puts the guard together: approvals, counters, the secrets that are looked
 * for, the classifier where one is configured.
 *
 * @module
 */
import { Secret } from "../core/secret.ts";
import type { Clock } from "../core/time.ts";
import type { Store } from "../store/store.ts";
import { Approvals } from "./approvals.ts";
import type { GuardConfig } from "./config.ts";
import { GuardMeter } from "./counts.ts";
import type { GuardDeps } from "./rules.ts";
import { type AskClassifier, Classifier } from "./screen/classifier.ts";
import { SecretSet } from "./screen/leaks.ts";

const DEPTH_MAX = 12;

/** Every secret inside a configuration, as text. */
export function secretsIn(value: unknown, depth = 0): string[] {
  if (value instanceof Secret) return [value.reveal()];
  if (typeof value !== "object" || value === null || depth > DEPTH_MAX) {
    return [];
  }
  return Object.values(value).flatMap((inner) => secretsIn(inner, depth + 1));
}

/** What a guard is made of. */
export interface GuardOptions {
  store: Pick<Store, "approvals" | "policyLines" | "journal" | "audit">;
  clock: Clock;
  config(): GuardConfig;
  /** The program's own secrets, as they are now. */
  secrets?(): Iterable<string>;
  scratchOf?(agentId: string): string;
  /** Asks the configured classifier's model. */
  ask?: AskClassifier;
}

/** Everything the agent is given of the guard. */
export interface Guarding {
  approvals: Approvals;
  guard: GuardDeps;
}

/** Makes a guard. */
export function makeGuard(options: GuardOptions): Guarding {
  const { store, clock, config, scratchOf, ask } = options;
  let known: { key: string; set: SecretSet } | undefined;
  const { classifier } = config();
  return {
    approvals: new Approvals({
      rows: store.approvals,
      lines: store.policyLines,
      audit: store.audit,
      journal: store.journal,
      clock,
    }),
    guard: {
      audit: store.audit,
      meter: new GuardMeter(),
      secrets: () => {
        const secrets = [...options.secrets?.() ?? []];
        const key = secrets.join("\0");
        if (known?.key !== key) known = { key, set: new SecretSet(secrets) };
        return known.set;
      },
      ...(scratchOf === undefined ? {} : { scratchOf }),
      ...(classifier === undefined || ask === undefined ? {} : {
        classifier: new Classifier(ask, {
          timeoutMs: classifier.timeoutMs,
          clock,
        }),
      }),
    },
  };
}
