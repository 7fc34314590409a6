/**
 * The only constructor: opens every room in order, hands each what it needs,
 * closes all in reverse. A house is opened from a configuration and nothing
 * else; it does not know whether it is sandboxed or who stops it.
 *
 * Never: importing this opens anything.
 *
 * @module
 */
import { ChannelInbox } from "./agent/channel_inbox.ts";
import type { AgentDesk } from "./agent/desk.ts";
import { GuardDesk } from "./agent/guard_desk.ts";
import { paidStream } from "./agent/metered.ts";
import { type Identity, openIdentity } from "./auth/open.ts";
import { peerAuthority } from "./auth/principal.ts";
import { Tokens } from "./auth/tokens.ts";
import { storeKey } from "./config/store_key.ts";
import type { HookEvent } from "./core/hooks.ts";
import { PUBLIC_OWNER } from "./core/label.ts";
import { makeEgress } from "./egress/egress.ts";
import { type Gateway, openGateway } from "./gateway/gateway.ts";
import { channelActs, openChannels } from "./house/channels.ts";
import { openConfiguration } from "./house/configuration.ts";
import { makeDesk } from "./house/desk.ts";
import { openEngine, reachables } from "./house/engine.ts";
import { gatewayDeps } from "./house/gateway_view.ts";
import { openGuard } from "./house/guarding.ts";
import { keepHouse } from "./house/housekeeping.ts";
import { offerNodes, tellOfPairing } from "./house/nodes.ts";
import { agentSettings, type HouseOptions } from "./house/options.ts";
import { makePlugins } from "./house/plugins.ts";
import { openPurse } from "./house/purse.ts";
import { openMetrics, probes } from "./house/readiness.ts";
import { follow, openSchedule } from "./house/schedule.ts";
import { toolRoof } from "./house/tool_roof.ts";
import type { ConfigDesk } from "./ops/config_desk.ts";
import { LoopLag } from "./ops/loop_lag.ts";
import { ProvidersProbe } from "./ops/probes.ts";
import { Readiness } from "./ops/ready.ts";
import type { PluginRoomDeps } from "./plugins/room.ts";
import type { ScheduleDesk } from "./schedule/desk.ts";
import type { Settings } from "./settings.ts";
import { makeCipher } from "./store/cipher.ts";
import { lockState } from "./store/files.ts";
import { openStore, type Store } from "./store/store.ts";
import { mcpServersOf } from "./tools/mcp/config.ts";
import { openTools } from "./tools/open.ts";
import { isSetIn } from "./tools/skill_needs.ts";

export type { HouseOptions } from "./house/options.ts";

/** How long a stop waits for turns that run. */
export const DRAIN_MS = 20_000;
/** Before a restart turns may finish for this long; the others go on after it. */
const RESTART_MS = 1_000;
/** What is with a network then may come to its end for this long. */
const SENDS_MS = 5_000;

/** An open house. Disposing closes it at once; `stop` lets turns finish first. */
export interface House extends AsyncDisposable {
  readonly gateway: Gateway;
  readonly store: Store;
  readonly tokens: Tokens;
  readonly identity: Identity;
  readonly desk: AgentDesk;
  readonly model: { model: string; because: string };
  /** How to get a real model, when the only one is a stand-in. */
  readonly setupHint: string | undefined;
  /** What the gateway may be configured with, and what it was. */
  readonly configuration: Pick<ConfigDesk<Settings>, "record">;
  /** Takes new limits, agents, policy and tools; they hold from the next turn. */
  adopt(settings: Settings): void;
  /** Ends what the new lines no longer give a login, whatever else they change. */
  adoptLogins(settings: Settings): void;
  /** Nobody comes in by the password, and who did is out. */
  endPassword(): void;
  /** Goes on with turns that a crash or a stop cut off. How many. */
  resume(): Promise<number>;
  /** Admits nothing more and waits for turns that run, within a limit. */
  stop(options?: { limitMs?: number; isRestart?: boolean }): Promise<void>;
}

function gatewayEvent(point: "gateway_start" | "gateway_stop"): HookEvent {
  return { point, label: PUBLIC_OWNER };
}

/**
 * Opens a house.
 *
 * @throws {AppError} `locked` when another process has the state directory,
 * `conflict` when the port is taken, and what the rooms throw
 */
export async function openHouse(options: HouseOptions): Promise<House> {
  const { stateDir, clock, log, env } = options;
  let settings = options.settings;
  const current = () => settings;
  let opened: Gateway | undefined;
  const publish: Gateway["publish"] = (...event) => opened?.publish(...event);
  await using opening = new AsyncDisposableStack();
  const address = `${settings.gateway.host}:${settings.gateway.port}`;
  opening.use(lockState(stateDir, `pid ${Deno.pid} at ${address}`));
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
  const engine = await openEngine(options, egress);
  const { spending, usage } = await openPurse(options, {
    store,
    router: engine.router,
    settings: current,
    publish,
  });
  opening.use(spending);
  const tokens = new Tokens({ store, clock, log });
  await options.beforeListening?.(tokens);
  const channels = openChannels(options, {
    store,
    egress,
    settings: current,
    publish,
  });
  const { courier } = opening.adopt(
    channels,
    (one) => one.courier[Symbol.asyncDispose](),
  );
  let nodes: ReturnType<typeof offerNodes> | undefined;
  const identity = openIdentity({
    store,
    tokens,
    clock,
    log,
    isAdmitted: (credential) => channels.isLive(credential),
    plugins: () => Object.keys(settings.plugins.granted),
    onPairing: (event) => {
      tellOfPairing(event, opened);
      nodes?.look();
    },
    password: settings.gateway.password,
    tailscale: settings.gateway.tailscale,
  });
  opening.use(identity.whois);
  const toolbox = opening.use(
    await openTools({
      config: () => settings.tools,
      mcp: mcpServersOf(settings),
      egressConfig: settings.egress,
      egress,
      store,
      stateDir,
      facts: {
        os: Deno.build.os,
        hasEnv: (name) => (env.get(name) ?? "") !== "",
        isSet: (key) => isSetIn(settings, key),
      },
      pipe: options.pipe,
      roof: toolRoof(options, {
        helpers: {
          turns: (): AgentDesk => desk,
          sessions: store.sessions,
          clock,
        },
        channels,
        models: engine.models,
        spending,
        settings: current,
        publish,
        // Made after the turns it starts, which are made after the tools.
        schedule: {
          run: (method, params, actor) => schedule.run(method, params, actor),
          words: (text, zone) => schedule.words(text, zone),
        },
      }),
      clock,
      log,
    }),
  );
  if (options.safeMode === undefined) {
    const { registry } = toolbox;
    const gateway = () => opened;
    nodes = opening.use(offerNodes({ identity, registry, gateway, log }));
  }
  const { models } = engine;
  const gatekeeper = { principal: "gateway", credential: "gateway" };
  const guarding = openGuard(options, {
    store,
    models: { stream: paidStream({ spending, models }, gatekeeper) },
    settings: current,
  });
  let onPluginCall: PluginRoomDeps["onCall"];
  const plugins = makePlugins(options, {
    store,
    egress,
    registry: toolbox.registry,
    inbox: { receive: (event) => inbox.receive(event) },
    channels,
    settings: current,
    publish,
    onCall: (call) => onPluginCall?.(call),
  });
  const desk = makeDesk(options, {
    store,
    engine,
    toolbox,
    guarding,
    hooks: plugins.hooks,
    spending,
    usage,
    identity,
    settings: current,
    grantsOf: (inboundId) => schedule.grantsOf(inboundId),
  });
  const inbox = new ChannelInbox({
    door: channels.door,
    turns: desk,
    outbox: store.outbox,
    courier,
    channels: channels.channels,
    peerAuthority,
    clock,
    log,
  });
  opening.defer(() => desk.drain(0));
  opening.use(plugins);
  const schedule: ScheduleDesk = opening.use(
    await openSchedule(options, {
      store,
      desk,
      identity,
      spending,
      settings: current,
      publish,
    }),
  );
  if (options.safeMode === undefined) {
    channels.adopt(settings);
    await plugins.open();
    courier.start();
    await plugins.hooks.run(gatewayEvent("gateway_start"));
  }
  const lag = opening.use(new LoopLag());
  const providers = opening.use(
    new ProvidersProbe(() => reachables(engine, settings), clock),
  );
  const readiness = new Readiness(
    probes(options, {
      ...{ store, lag, providers, channels, identity },
      settings: current,
    }),
    clock,
  );
  const metrics = opening.use(
    openMetrics({
      store,
      egress,
      desk,
      courier,
      guard: guarding.guard,
      spending,
      usage,
      identity,
      lag,
      gateway: () => opened?.counts(),
      watchPlugins: (listener) => {
        onPluginCall = listener;
        return { [Symbol.dispose]: () => onPluginCall = undefined };
      },
    }),
  );
  const configuration = openConfiguration(options, store);
  const gateway = opened = opening.use(
    await openGateway(gatewayDeps(options, {
      store,
      tokens,
      identity,
      desk,
      engine,
      readiness,
      plugins: plugins.desk,
      channels: channelActs({ store, desk, channels }),
      toolbox,
      secrets: () => guarding.guard.secrets(),
      guard: new GuardDesk({
        ...guarding,
        store,
        tools: toolbox.registry,
        settings: () => agentSettings(settings),
      }),
      spending,
      usage,
      metrics,
      configuration,
      schedule: options.safeMode === undefined ? schedule : undefined,
      settings: current,
    })),
  );
  opening.use(
    keepHouse(options, {
      store,
      identity,
      spending,
      settings: current,
      trim: () => desk.operations.trim(),
    }),
  );
  const adoptLogins = ({ gateway }: Settings) => {
    identity.whois.adopt(gateway.tailscale);
    identity.password.change(gateway.password);
  };
  const closing = opening.move();
  return {
    gateway,
    store,
    tokens,
    identity,
    desk,
    model: engine.model,
    setupHint: engine.setupHint,
    configuration,
    adoptLogins,
    adopt: (next) => {
      settings = next;
      adoptLogins(next);
      schedule.tick();
      if (options.safeMode === undefined) channels.adopt(next);
      void plugins.adopt(next.plugins).catch((error) =>
        log("error", "plugins.not_adopted", { error: String(error) })
      );
    },
    endPassword: () => identity.password.change(undefined),
    resume: async () => {
      if (options.safeMode !== undefined) return 0;
      const resumed = await desk.resume();
      schedule.start();
      void follow(options.ticks, schedule);
      return resumed;
    },
    stop: async ({ isRestart = false, ...options } = {}) => {
      const limitMs = options.limitMs ?? (isRestart ? RESTART_MS : DRAIN_MS);
      schedule.stop();
      desk.stopAdmitting();
      await plugins.hooks.run(gatewayEvent("gateway_stop"));
      await Promise.all([
        gateway.drain({ limitMs, isRestart }),
        desk.drain(limitMs),
      ]);
      await courier.drain(Math.min(limitMs, SENDS_MS));
    },
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}
