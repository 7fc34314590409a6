/**
 * Plugins without a gateway: the command line's own process opens the store and
 * runs what it is asked to, in the same way.
 *
 * Never: beside a gateway; the store's lock sees to that.
 *
 * @module
 */
import { configAuthority } from "./auth/principal.ts";
import type { Env } from "./config/env.ts";
import { storeKey } from "./config/store_key.ts";
import { AppError } from "./core/errors.ts";
import { silentLog } from "./core/log.ts";
import { PLUGIN_METHODS } from "./core/methods/plugin.ts";
import type { Clock } from "./core/time.ts";
import type { Tool } from "./core/tool.ts";
import { makeEgress } from "./egress/egress.ts";
import { pluginHandlers } from "./gateway/plugins.ts";
import { PluginDesk } from "./plugins/desk.ts";
import { PluginHost } from "./plugins/host.ts";
import type { PluginWorld } from "./plugins/context.ts";
import type { Settings } from "./settings.ts";
import { makeCipher } from "./store/cipher.ts";
import { lockState } from "./store/files.ts";
import { openStore } from "./store/store.ts";
import type { OfflinePlugins } from "./cli/verb.ts";

/** What it is opened with. */
export interface OfflineOptions {
  /** Reads the configuration anew. */
  load(): Promise<Settings>;
  stateDir: string;
  env: Env;
  clock: Clock;
}

function needsGateway(): never {
  throw new AppError("unavailable", "the gateway does not run");
}

/** Without a gateway nobody is told anything and nothing comes in. */
const ALONE: PluginWorld = {
  decide: ({ label: { secrecy } }) =>
    secrecy.length === 0
      ? { verdict: "allow", reason: "" }
      : { verdict: "deny", reason: "it was shown private text" },
  tellOwner: () => Promise.try(needsGateway),
  receive: () => Promise.resolve({ accepted: false, reason: "refused" }),
  send: () => Promise.try(needsGateway),
};

/** Opens the store and the plugins in it. @throws {AppError} `locked` */
export async function openOfflinePlugins(
  { load, stateDir, env, clock }: OfflineOptions,
): Promise<OfflinePlugins> {
  await using opening = new AsyncDisposableStack();
  let settings = await load();
  const log = silentLog;
  opening.use(lockState(stateDir, `pid ${Deno.pid}, carapace plugin`));
  const key = await storeKey(stateDir, env);
  const store = opening.use(
    await openStore({
      dir: stateDir,
      clock,
      log,
      mayBeRead: settings.gateway.container,
      ...(key === undefined ? {} : { cipher: makeCipher(key) }),
    }),
  );
  const egress = opening.use(
    makeEgress({ config: settings.egress, clock, log }),
  );
  const tools = new Map<string, Tool>();
  const { plugins: rows, journal, audit } = store;
  const host = opening.use(
    new PluginHost({
      rows,
      journal,
      audit,
      egress,
      config: settings.plugins,
      world: ALONE,
      registry: {
        add: (tool) => void tools.set(tool.name, tool),
        remove: (name) => void tools.delete(name),
      },
      clock,
      log,
    }),
  );
  await host.open();
  const config = () => settings.plugins;
  const desk = new PluginDesk({ host, rows, journal, audit, config, stateDir });
  const handlers = pluginHandlers(desk);
  const over = new AbortController();
  opening.defer(() => over.abort());
  const closing = opening.move();
  return {
    call: async (method, params) => {
      const input = PLUGIN_METHODS[method].input.parse(params);
      // Whoever may write the store at this machine is its owner.
      const authority = configAuthority();
      const by = { principal: { id: authority.principal }, authority };
      // Each handler takes what its own contract's schema made.
      const handle = handlers[method] as (
        input: unknown,
        call: unknown,
      ) => Promise<never>;
      return await handle(input, { caller: by, signal: over.signal });
    },
    reload: async () => {
      settings = await load();
      await host.adopt(settings.plugins);
    },
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}
