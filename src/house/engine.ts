/**
 * The way to models: the providers the configuration names, each behind a door
 * to its own hosts, the router over them, and which model stands first.
 *
 * Never: a model is called here; who pays is the purse's.
 *
 * @module
 */
import { randomUnit } from "../core/ids.ts";
import type { Models } from "../agent/deps.ts";
import { AppError } from "../core/errors.ts";
import type { Egress } from "../egress/egress.ts";
import type { Reachable } from "../ops/probes.ts";
import { demoRow } from "../providers/demo.ts";
import {
  chooseDefault,
  makeProviders,
  VENDOR_ROWS,
} from "../providers/registry.ts";
import { makeRouter, type Router } from "../providers/route.ts";
import type { Settings } from "../settings.ts";
import type { HouseOptions } from "./options.ts";

/** A door for a provider: its own hosts and ports, nothing else. */
function providerDoor(egress: Egress) {
  const toRule = ({ hostname: host, port, protocol }: URL) => {
    const scheme = protocol === "http:" ? "http" as const : "https" as const;
    const standard = scheme === "http" ? 80 : 443;
    return { host, port: Number(port) || standard, scheme };
  };
  return (caller: string, baseUrl: URL, alsoAt: readonly URL[]) =>
    egress.door({
      caller,
      hosts: [baseUrl, ...alsoAt].map(toRule),
      // The router keeps the clocks: each provider has its own line for them.
      limits: { answerMs: Infinity, totalMs: Infinity },
      fix: () => "Check the provider's baseUrl",
    });
}

export interface Engine {
  router: Router;
  models: Omit<Models, "windowOf">;
  model: { model: string; because: string };
  setupHint: string | undefined;
}

/** The ways to a real model, as the vendors' rows say. */
function howToSetUp(): string {
  const keys = VENDOR_ROWS.flatMap((row) =>
    row.needsKey && row.onDemand === undefined ? [row.keyEnv] : []
  );
  const local = VENDOR_ROWS.find((row) =>
    !row.needsKey && row.baseUrl?.startsWith("http:")
  );
  return `set ${keys.join(" or ")}, or run ${local?.title}`;
}

export async function openEngine(
  options: HouseOptions,
  egress: Egress,
): Promise<Engine> {
  const { settings, env, clock, log } = options;
  const entries = await makeProviders({
    config: settings.providers,
    env,
    door: providerDoor(egress),
    clock,
    log,
  });
  const router = makeRouter({
    entries,
    clock,
    log,
    random: randomUnit,
  });
  const configured = settings.agents.main.model;
  const model = configured === undefined
    ? chooseDefault(entries, env)
    : { model: configured, because: "agents.main.model" };
  const isDemo = model.model.startsWith(`${demoRow.kind}:`);
  return {
    router,
    model,
    setupHint: isDemo ? howToSetUp() : undefined,
    models: {
      resolve: (name) => router.resolve(name),
      settle: (name, signal) => router.settle(name, signal),
      stream: (name, request, signal) => router.stream(name, request, signal),
      chosen: () => Promise.resolve(model),
    },
  };
}

/** A model by its name; one that nobody serves has no price either. */
export function findModel(
  router: Router,
  name: string,
): ReturnType<Router["resolve"]> | undefined {
  try {
    return router.resolve(name);
  } catch (error) {
    if (error instanceof AppError && error.code === "not_found") {
      return undefined;
    }
    throw error;
  }
}

/** The providers that agents' models are of, each asked for its models. */
export function reachables(engine: Engine, settings: Settings): Reachable[] {
  const models = Object.values(settings.agents).map(({ model }) => model);
  const found = new Map<string, Reachable>();
  for (const name of [engine.model.model, ...models]) {
    if (name === undefined) continue;
    const provider = findModel(engine.router, name)?.provider;
    if (provider === undefined) continue;
    const ask = (signal: AbortSignal) => provider.models(signal);
    found.set(provider.id, { name: provider.id, ask });
  }
  return [...found.values()];
}
