/**
 * The guard over this house's store, secrets and models.
 *
 * Never: a decision is made here, or the guard's model asked around the purse.
 *
 * @module
 */
import type { Models } from "../agent/deps.ts";
import { PUBLIC_OWNER } from "../core/label.ts";
import { type Guarding, makeGuard, secretsIn } from "../guard/guarding.ts";
import { CLASSIFIER_PROMPT } from "../guard/screen/classifier.ts";
import { VENDOR_ROWS } from "../providers/registry.ts";
import type { Settings } from "../settings.ts";
import type { Store } from "../store/store.ts";
import type { HouseOptions } from "./options.ts";

/** The guard over this house's store, secrets and models. */
export function openGuard(
  { stateDir, env, clock }: HouseOptions,
  rooms: {
    store: Store;
    models: Pick<Models, "stream">;
    settings(): Settings;
  },
): Guarding {
  const { store, models, settings } = rooms;
  const keys = [
    "CARAPACE_TOKEN",
    "CARAPACE_PASSPHRASE",
    ...VENDOR_ROWS.flatMap((row) => row.keyEnv ?? []),
  ];
  const fromEnv = keys.flatMap((name) => env.get(name) ?? []);
  let of: Settings | undefined;
  let secrets: readonly string[] = [];
  return makeGuard({
    store,
    clock,
    config: () => settings().guard,
    secrets: () => {
      if (of !== settings()) {
        of = settings();
        secrets = [...secretsIn(of), ...fromEnv];
      }
      return secrets;
    },
    scratchOf: (agentId) => `${stateDir}/scratch/${agentId}`,
    ask: async (text, signal) => {
      const model = settings().guard.classifier?.model ?? "";
      const parts = [{ kind: "text" as const, text, label: PUBLIC_OWNER }];
      const events = models.stream(model, {
        system: CLASSIFIER_PROMPT,
        messages: [{ role: "user", parts }],
        outputTokensMax: 16,
      }, signal);
      let answer = "";
      for await (const event of events) {
        if (event.kind === "text") answer += event.text;
      }
      return answer;
    },
  });
}
