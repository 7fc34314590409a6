/**
 * The only constructor: opens every room in order, hands each what it needs,
 * closes all in reverse. A house is opened from a configuration and nothing
 * else; it does not know whether it is sandboxed or who stops it.
 *
 * Never: importing this opens anything.
 *
 * @module
 */
import { AgentDesk } from "./agent/desk.ts";
import { GuardDesk } from "./agent/guard_desk.ts";
import type { AgentSettings, Models } from "./agent/deps.ts";
import { ChannelInbox, isSenderLive } from "./agent/channel_inbox.ts";
import {
  channelCarrier,
  childRunner,
  type HelperDeps,
  modelAsker,
  ownerCarrier,
  sessionCarrier,
} from "./agent/helpers.ts";
import { paidStream } from "./agent/metered.ts";
import { makePluginWorld } from "./agent/plugin_world.ts";
import type { Turns } from "./agent/turns.ts";
import { type Identity, openIdentity } from "./auth/open.ts";
import type { PairEvent } from "./auth/pairing.ts";
import {
  authorityFromRun,
  CONFIG_CREDENTIAL,
  configAuthority,
  peerAuthority,
  pluginAuthority,
} from "./auth/principal.ts";
import { Tokens } from "./auth/tokens.ts";
import { Channels } from "./channels/channels.ts";
import { Courier } from "./channels/courier.ts";
import { WebhookChannel } from "./channels/webhook.ts";
import type { Env } from "./config/env.ts";
import { openSecrets } from "./config/secrets.ts";
import { storeKey } from "./config/store_key.ts";
import { AppError, errorText } from "./core/errors.ts";
import { PUBLIC_OWNER } from "./core/label.ts";
import type { HookEvent } from "./core/hooks.ts";
import type { Log } from "./core/log.ts";
import type { StatusPayload } from "./core/methods.ts";
import type { ScheduleBus } from "./core/schedule_methods.ts";
import { type Clock, repeat } from "./core/time.ts";
import { VERSION } from "./core/version.ts";
import { type Egress, makeEgress } from "./egress/egress.ts";
import {
  type ChannelActs,
  channelsOf,
  toOutboxSummary,
} from "./gateway/channels.ts";
import { type Gateway, openGateway } from "./gateway/gateway.ts";
import type { GatewayDeps } from "./gateway/deps.ts";
import { type Guarding, makeGuard, secretsIn } from "./guard/guarding.ts";
import { toRules } from "./guard/rules.ts";
import { SenderDoor, type SenderRules } from "./guard/senders.ts";
import { CLASSIFIER_PROMPT } from "./guard/screen/classifier.ts";
import { openSpending, type Spending } from "./guard/spending.ts";
import { noticePayload, UsageDesk } from "./guard/usage_desk.ts";
import { ConfigDesk } from "./ops/config_desk.ts";
import type { LogRing } from "./ops/log_ring.ts";
import { Metrics } from "./ops/metrics.ts";
import {
  channelsProbe,
  configurationProbe,
  diskProbe,
  lagProbe,
  memoryProbe,
  outboxProbe,
  postureProbe,
  ProvidersProbe,
  type Reachable,
  storeProbe,
} from "./ops/probes.ts";
import { LoopLag } from "./ops/loop_lag.ts";
import { type Probe, Readiness } from "./ops/ready.ts";
import { PluginRoom, type PluginRoomDeps } from "./plugins/room.ts";
import { demoRow } from "./providers/demo.ts";
import {
  chooseDefault,
  makeProviders,
  VENDOR_ROWS,
} from "./providers/registry.ts";
import { windowOf } from "./providers/models.ts";
import { priceOf } from "./providers/prices.ts";
import { makeRouter, type Router } from "./providers/route.ts";
import { programsOf, startProblems } from "./plan.ts";
import { ScheduleDesk } from "./schedule/desk.ts";
import { Remotes } from "./remote/remotes.ts";
import { Settings } from "./settings.ts";
import { makeCipher } from "./store/cipher.ts";
import { lockState, readHolder } from "./store/files.ts";
import { memorySpace } from "./store/memory.ts";
import { openStore, type Store } from "./store/store.ts";
import { mcpServersOf } from "./tools/mcp/config.ts";
import { nodeTool } from "./tools/node_invoke.ts";
import {
  openTools,
  type OpenToolsOptions,
  type Toolbox,
} from "./tools/open.ts";
import type { ProgramPipe } from "./tools/runner.ts";

/** How long a stop waits for turns that run. */
export const DRAIN_MS = 20_000;
/** Before a restart turns may finish for this long; the others go on after it. */
const RESTART_MS = 1_000;
/** What is with a network then may come to its end for this long. */
const SENDS_MS = 5_000;
const HOUSEKEEPING_MS = 600_000;

/** What a house is made of. */
export interface HouseOptions {
  settings: Settings;
  stateDir: string;
  env: Env;
  clock: Clock;
  log: Log;
  /** Set when the configuration is bad: no agents, only what an owner needs. */
  safeMode?: string;
  /** Gives the owner a way in, before anybody can knock. */
  beforeListening?(tokens: Tokens): Promise<void>;
  /** What `gateway.tls` names, read: PEM texts. */
  tls?: { cert: string; key: string } | undefined;
  /** What the sandbox was found to be. */
  posture: StatusPayload["posture"];
  /** The newest log lines, for an owner who asks. */
  logs?: LogRing | undefined;
  /** The way to the launcher, which runs the programs that are configured. */
  pipe?: ProgramPipe | undefined;
  /** Looks at what is due beside the schedule's own timer: every minute. */
  ticks?: AsyncIterable<Date>;
}

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
  /** Goes on with turns that a crash or a stop cut off. How many. */
  resume(): Promise<number>;
  /** Admits nothing more and waits for turns that run, within a limit. */
  stop(options?: { limitMs?: number; isRestart?: boolean }): Promise<void>;
}

function agentSettings(settings: Settings): AgentSettings {
  return {
    agents: settings.agents,
    bindings: settings.bindings,
    sessions: settings.sessions,
    limits: settings.limits,
    rules: toRules(settings.guard),
    toolsDenied: settings.tools.deny,
  };
}

/** The guard over this house's store, secrets and models. */
function openGuard(
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

interface Engine {
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

async function openEngine(
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
    random: () => randomUnit(),
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

function randomUnit(): number {
  return (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) / 2 ** 32;
}

function refuseInSafeMode(why: string): never {
  throw new AppError("unavailable", `The agents are off: ${why}`, {
    hint: "Run: carapace config validate; the gateway reads it again by itself",
  });
}

/** What ran before can be seen and stopped; nothing new begins. */
function refusingTurns(desk: Turns, why: string): Turns {
  return {
    start: () => Promise.try(() => refuseInSafeMode(why)),
    abort: (sessionKey, runId) => desk.abort(sessionKey, runId),
    abortCredential: (credential) => desk.abortCredential(credential),
    wait: (runId, options) => desk.wait(runId, options),
    watch: (listener) => desk.watch(listener),
    replay: (sessionKey, runId, seq) => desk.replay(sessionKey, runId, seq),
    find: (runId) => desk.find(runId),
    counts: () => desk.counts(),
  };
}

/** A model by its name; one that nobody serves has no price either. */
function findModel(
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

/** Who pays for model calls, and who knows what they came to. */
async function openPurse(
  { clock, log }: HouseOptions,
  rooms: {
    store: Store;
    router: Router;
    settings(): Settings;
    publish(...event: Parameters<Gateway["publish"]>): void;
  },
): Promise<{ spending: Spending & AsyncDisposable; usage: UsageDesk }> {
  const { store, router, settings, publish } = rooms;
  const config = () => settings().budgets;
  const spending = await openSpending({
    rows: store.usage,
    journal: store.journal,
    priceOf: (name) => {
      const found = findModel(router, name);
      if (found === undefined) return undefined;
      const { provider: { id, kind }, model } = found;
      return priceOf(`${id}:${model}`, { kind, config: settings().prices });
    },
    config,
    clock,
    log,
    onNotice: (notice) => {
      const { scope, name } = notice.limit;
      publish(
        "usage.budget",
        noticePayload(notice),
        (caller) =>
          caller.isOwner ||
          scope === "sender" && name === caller.principal.id ||
          scope === "key" && name === caller.authority.credential,
      );
    },
  });
  const rows = store.usage;
  return { spending, usage: new UsageDesk({ rows, spending, config, clock }) };
}

/** The rules of every account of every channel, as the configuration has them. */
function senderRules(
  { plugins }: Settings,
): { channel: string; rules: SenderRules }[] {
  return Object.entries(plugins.granted).filter(([, grant]) => grant.channel)
    .map(([id, { policy, senders }]) => ({
      channel: `plugin:${id}`,
      rules: { policy, listed: senders },
    }));
}

interface ChannelRooms {
  channels: Channels;
  courier: Courier;
  door: SenderDoor;
  isLive(credential: string): Promise<boolean>;
  /** Takes the channels the configuration names now. */
  adopt(settings: Settings): void;
}

/** The channels, the outbox's courier, and the door for who writes. */
function openChannels(
  { clock, log }: HouseOptions,
  rooms: {
    store: Store;
    egress: Egress;
    settings(): Settings;
    publish(...event: Parameters<Gateway["publish"]>): void;
  },
): ChannelRooms {
  const { store, egress, settings, publish } = rooms;
  const { outbox, pairings, journal, audit } = store;
  const channels = new Channels(clock);
  const courier = new Courier({
    outbox,
    journal,
    audit,
    channels,
    clock,
    log,
    random: randomUnit,
    onChange: (row) =>
      publish("outbox", toOutboxSummary(row), (caller) => caller.isOwner),
  });
  const door = new SenderDoor({
    rows: pairings,
    journal,
    audit,
    rulesOf: (channel) =>
      senderRules(settings()).find((one) => one.channel === channel)?.rules,
    clock,
    bytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
  });
  let webhook: Disposable | undefined;
  return {
    channels,
    courier,
    door,
    isLive: (credential) =>
      isSenderLive(credential, {
        pairings,
        rules: () => senderRules(settings()),
        credentialOf: async (one) => (await peerAuthority(one)).credential,
      }),
    adopt: (next) => {
      const hasAny = Object.keys(next.channels.webhook).length > 0;
      if (hasAny) {
        const accounts = () => settings().channels.webhook;
        webhook ??= channels.add(
          new WebhookChannel({ accounts, egress, clock }),
        );
      } else {
        webhook?.[Symbol.dispose]();
        webhook = undefined;
      }
    },
  };
}

/** What the gateway is given of the channels. */
function channelActs(
  { store, desk, channels: { channels, courier, door } }: {
    store: Store;
    desk: AgentDesk;
    channels: ChannelRooms;
  },
): ChannelActs {
  const { outbox, audit } = store;
  return {
    channels,
    courier,
    door,
    outbox,
    audit,
    onRevoked: async ({ channel: network, account, sender: id }) => {
      for (const as of ["peer", "owner"] as const) {
        const sender = { network, account, id, as };
        desk.abortCredential((await peerAuthority(sender)).credential);
      }
    },
  };
}

/** The plugins over this house's store, door, registry and turns. */
function makePlugins(
  { stateDir, clock, log }: HouseOptions,
  rooms: {
    store: Store;
    egress: Egress;
    registry: PluginRoomDeps["registry"];
    inbox: Pick<ChannelInbox, "receive">;
    channels: Pick<ChannelRooms, "channels" | "courier">;
    settings(): Settings;
    publish(...event: Parameters<Gateway["publish"]>): void;
    onCall: NonNullable<PluginRoomDeps["onCall"]>;
  },
): PluginRoom {
  const { store, egress, registry, inbox, settings, publish } = rooms;
  const { channels, courier } = rooms.channels;
  const { plugins: rows, journal, audit } = store;
  const config = () => settings().plugins;
  return new PluginRoom({
    rows,
    journal,
    audit,
    egress,
    registry,
    config,
    stateDir,
    world: makePluginWorld({
      store,
      receive: (event) => inbox.receive(event),
      courier,
      pluginAuthority,
      rules: () => toRules(settings().guard),
      onSession: (key) =>
        publish(
          "sessions.changed",
          { key, sessionKey: key, reason: "plugin", ts: clock.now() },
          (caller) => caller.ownsSession(key),
        ),
      clock,
      log,
    }),
    onChange: (change) => publish("plugins.changed", change),
    onCall: rooms.onCall,
    onChannel: (channel) => channels.add(channel),
    clock,
    log,
  });
}

function gatewayEvent(point: "gateway_start" | "gateway_stop"): HookEvent {
  return { point, label: PUBLIC_OWNER };
}

/** Those who may pair hear who asks, and what became of it. */
function tellOfPairing(event: PairEvent, gateway: Gateway | undefined): void {
  if (event.kind === "requested") {
    const of = event.request.role === "node" ? "node" : "device";
    gateway?.publish(`${of}.pair.requested`, event.request);
    return;
  }
  const { kind: _, ...payload } = event;
  const of = event.role === "node" ? "node" : "device";
  gateway?.publish(`${of}.pair.resolved`, payload);
}

/** The nodes' records, and the book of what they were asked. */
function nodeDesk(
  { devices, pairing }: Identity,
  { journal, audit }: Pick<Store, "journal" | "audit">,
): NonNullable<GatewayDeps["nodes"]> {
  const role = "node" as const;
  return {
    list: async () =>
      (await devices.list()).filter((row) => row.role === role).map((row) => ({
        ...row.abilities,
        id: row.id,
        displayName: row.displayName,
        platform: row.platform,
        deviceFamily: row.deviceFamily,
        lastUsedAt: row.lastUsedAt,
      })),
    pending: async () => (await pairing.list(role)).pending,
    rename: (id, name, by) => devices.rename({ id, role }, name, by),
    verify: (id, token) => devices.holds({ id, role }, token),
    audit: (event, fields) =>
      journal.commit([
        audit.row({ event, fields }),
      ]),
  };
}

/**
 * Offers agents the tool that reaches nodes, while one is paired. Which are is
 * looked at anew when something about devices changed.
 */
function offerNodes(
  { identity, registry, gateway, log }: {
    identity: Identity;
    registry: Toolbox["registry"];
    gateway(): Gateway | undefined;
    log: Log;
  },
): { look(): void } & Disposable {
  const paired = async () =>
    (await identity.devices.list()).filter(({ role }) => role === "node");
  const made = nodeTool({
    list: async () =>
      (await paired()).map(({ id, displayName, abilities }) => ({
        id,
        name: displayName ?? id.slice(0, 12),
        commands: abilities.commands,
        connected: gateway()?.isNodeConnected(id) ?? false,
      })),
    invoke: async (ask) => {
      const open = gateway();
      if (open !== undefined) return await open.invokeNode(ask);
      throw new AppError("unavailable", "The gateway is not open yet");
    },
  });
  const look = async () => {
    const isPaired = (await paired()).length > 0;
    const isOffered = registry.find(made.name) !== undefined;
    if (isPaired && !isOffered) registry.add(made);
    else if (!isPaired && isOffered) registry.remove(made.name);
  };
  const lookAgain = () =>
    void look().catch((error) =>
      log("warn", "nodes.not_looked_at", { error: errorText(error) })
    );
  const ending = identity.devices.onEnded(lookAgain);
  lookAgain();
  return { look: lookAgain, [Symbol.dispose]: () => ending[Symbol.dispose]() };
}

/** The configuration as the owner reads and writes it from outside. */
function openConfiguration(
  { stateDir, env, clock, log }: HouseOptions,
  { journal, audit, configRevisions: revisions }: Store,
): ConfigDesk<Settings> {
  const secrets = openSecrets({ dir: stateDir, env });
  const placed: Env = {
    get: (name) => name === "CARAPACE_STATE_DIR" ? stateDir : env.get(name),
  };
  return new ConfigDesk<Settings>({
    schema: Settings,
    stateDir,
    env,
    findSecret: (name) => secrets.find(name),
    check: (loaded) => startProblems(placed, loaded),
    programs: (value) => {
      const { commands, mcp } = programsOf(value);
      const named = (kind: string, programs: object) =>
        Object.entries(programs).map(([name, one]) => [`${kind} ${name}`, one]);
      return Object.fromEntries([
        ...named("command", commands),
        ...named("MCP server", mcp),
      ]);
    },
    revisions,
    journal,
    audit,
    version: VERSION,
    clock,
    log,
  });
}

/** The schedule over this house's store, turns and tokens. */
async function openSchedule(
  { clock, log }: HouseOptions,
  rooms: {
    store: Store;
    desk: AgentDesk;
    identity: Identity;
    spending: Spending;
    settings(): Settings;
    publish: Gateway["publish"];
  },
): Promise<ScheduleDesk> {
  const { store, desk, identity, spending, settings, publish } = rooms;
  const schedule = new ScheduleDesk({
    store,
    turns: desk,
    config: () => settings().schedule,
    hasAgent: (id) => Object.hasOwn(settings().agents, id),
    authorityOf: authorityFromRun,
    configAuthority,
    isLive: (record) => identity.credentials.isLive(record),
    onRevoked: (listener) => identity.credentials.onEnded(listener),
    watchCalls: (listener) => spending.watch(listener),
    publish: (event, payload, principal) =>
      publish(
        event,
        payload,
        (caller) => caller.isOwner || caller.principal.id === principal,
      ),
    clock,
    log,
  });
  await schedule.open();
  return schedule;
}

/** Hands the house's ticks to whoever keeps time, until they end. */
async function follow(
  ticks: AsyncIterable<Date> | undefined,
  schedule: ScheduleDesk,
): Promise<void> {
  for await (const _ of ticks ?? []) schedule.tick();
}

/** The gateway's view of the rest of the house. */
function gatewayDeps(
  options: HouseOptions,
  rooms: {
    store: Store;
    tokens: Tokens;
    identity: Identity;
    desk: AgentDesk;
    guard: GuardDesk;
    engine: Engine;
    readiness: Readiness;
    plugins: PluginRoom["desk"];
    channels: ChannelActs;
    toolbox: Toolbox;
    spending: Spending;
    usage: UsageDesk;
    metrics: Metrics;
    configuration: ConfigDesk<Settings>;
    schedule: ScheduleBus | undefined;
    settings(): Settings;
  },
): GatewayDeps {
  const { clock, log, safeMode, posture, settings } = options;
  const { store, tokens, identity, desk, engine, readiness } = rooms;
  const { router, model } = engine;
  return {
    config: settings.gateway,
    tls: options.tls,
    turns: safeMode === undefined ? desk : refusingTurns(desk, safeMode),
    store,
    ...(safeMode === undefined ? { operations: desk.operations } : {}),
    authenticate: (presented, from) =>
      identity.authenticator.authenticate(presented, from),
    admit: (params, arrival) => identity.front.admit(params, arrival),
    devices: identity,
    onRevoked: (listener) => identity.credentials.onEnded(listener),
    router: safeMode === undefined ? router : {
      ...router,
      resolve: () => refuseInSafeMode(safeMode),
    },
    agents: () => ({
      defaultId: "main",
      agents: Object.entries(rooms.settings().agents).map(([id, agent]) => ({
        id,
        name: agent.name ?? (id === "main" ? "Carapace" : id),
        model: agent.model ??
          (safeMode === undefined ? model.model : undefined),
        fallbacks: agent.fallbacks,
        workspace: agent.workspace,
      })),
    }),
    responses: store.responses,
    toolsOf: (user) => safeMode === undefined ? desk.toolsOf(user) : [],
    ...(safeMode === undefined
      ? { catalogOf: (user) => desk.catalogOf(user) }
      : {}),
    skills: async () => await rooms.toolbox.skills?.status() ?? [],
    logs: options.logs,
    audit: store.audit,
    configuration: rooms.configuration,
    nodes: nodeDesk(identity, store),
    tokens: {
      create: async (input, maker) => {
        const { expiresInMs, agents, models, tools, integrity } = input;
        const { id, token } = await tokens.create(
          {
            name: input.name,
            scopes: input.scopes,
            ...(agents === undefined ? {} : { agents }),
            ...(models === undefined ? {} : { models }),
            ...(tools === undefined ? {} : { tools }),
            ...(integrity === undefined ? {} : { integrity }),
            ...(expiresInMs === undefined ? {} : { expiresInMs }),
          },
          maker,
          await identity.credentials.standing(maker.credential),
        );
        return { id, token };
      },
      list: async () => await tokens.list(),
      rotate: (named, by) => tokens.rotate(named, by),
      revoke: (id) => tokens.revoke(id),
    },
    status: () => ({
      version: VERSION,
      runtime: {
        name: "deno",
        version: Deno.version.deno,
        pid: Deno.pid,
        rssBytes: Deno.memoryUsage().rss,
      },
      channels: channelsOf(rooms.channels),
      ...(safeMode === undefined ? {} : { safeMode }),
      model: { id: model.model, because: model.because },
      posture,
    }),
    posture,
    ready: () => readiness.check(),
    guard: rooms.guard,
    spending: rooms.spending,
    usage: rooms.usage,
    ...(safeMode === undefined ? { plugins: rooms.plugins } : {}),
    ...(safeMode === undefined ? { channels: rooms.channels } : {}),
    ...(safeMode === undefined ? { toolsDesk: rooms.toolbox } : {}),
    ...(rooms.schedule === undefined ? {} : { schedule: rooms.schedule }),
    metrics: () => rooms.metrics.text(),
    ...(safeMode === undefined ? {} : { safeMode }),
    version: VERSION,
    clock,
    log,
    portHolder: () => readHolder(options.stateDir),
  };
}

/** What readiness is made of: a room with more to say adds a row. */
function probes(
  { safeMode, posture, stateDir }: HouseOptions,
  rooms: {
    store: Store;
    lag: LoopLag;
    providers: ProvidersProbe;
    channels: ChannelRooms;
    settings(): Settings;
  },
): Probe[] {
  const { store, lag, providers, settings } = rooms;
  const { channels, courier } = rooms.channels;
  const config = () => settings().health;
  return [
    storeProbe(store),
    postureProbe(posture),
    configurationProbe(safeMode),
    providers,
    channelsProbe(() => channels.states()),
    ...safeMode === undefined ? [outboxProbe(() => courier.oldestDueMs())] : [],
    lagProbe(lag, config),
    diskProbe(stateDir, config),
    memoryProbe(config),
  ];
}

/** The providers that agents' models are of, each asked for its models. */
function reachables(engine: Engine, settings: Settings): Reachable[] {
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

/** What tools may ask of the rest of the house. */
function toolRoof(
  { clock, safeMode }: HouseOptions,
  rooms: {
    helpers: HelperDeps;
    channels: Pick<ChannelRooms, "channels" | "courier">;
    models: Pick<Models, "settle" | "chosen" | "stream">;
    spending: Spending;
    settings(): Settings;
    publish: Gateway["publish"];
    schedule: ScheduleBus;
  },
): OpenToolsOptions["roof"] {
  const { helpers, models, spending, settings, publish } = rooms;
  if (safeMode !== undefined) return { config: settings };
  const show = (
    sessionKey: string,
    { runId, text }: { runId: string; text: string },
  ) => {
    let seen = 0;
    const timestamp = clock.now();
    const content = [{ type: "text", text }];
    const message = { role: "assistant", content, timestamp };
    publish(
      "chat",
      { runId, sessionKey, seq: 0, state: "final", message },
      (caller) => caller.isOwner && ++seen > 0,
    );
    return seen;
  };
  return {
    config: settings,
    carriers: [
      ownerCarrier({ clock, show }),
      sessionCarrier(helpers),
      channelCarrier(rooms.channels),
    ],
    runChild: childRunner(helpers),
    schedule: rooms.schedule,
    askModel: modelAsker({
      models,
      settings: () => agentSettings(settings()),
      paid: (payer) => paidStream({ spending, models }, payer),
    }),
  };
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
  await using opening = new AsyncDisposableStack();
  const address = `${settings.gateway.host}:${settings.gateway.port}`;
  opening.use(lockState(stateDir, `pid ${Deno.pid} at ${address}`));
  const key = await storeKey(stateDir, env);
  const store = opening.use(
    await openStore({
      dir: stateDir,
      clock,
      log,
      ...(key === undefined ? {} : { cipher: makeCipher(key) }),
    }),
  );
  const egress = opening.use(
    makeEgress({ config: settings.egress, clock, log }),
  );
  const engine = await openEngine(options, egress);
  let opened: Gateway | undefined;
  const { spending, usage } = await openPurse(options, {
    store,
    router: engine.router,
    settings: () => settings,
    publish: (...event) => opened?.publish(...event),
  });
  opening.use(spending);
  const tokens = new Tokens({ store, clock, log });
  await options.beforeListening?.(tokens);
  const channels = openChannels(options, {
    store,
    egress,
    settings: () => settings,
    publish: (...event) => opened?.publish(...event),
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
  });
  const toolbox = opening.use(
    await openTools({
      config: () => settings.tools,
      mcp: mcpServersOf(settings),
      egressConfig: settings.egress,
      egress,
      store,
      stateDir,
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
        settings: () => settings,
        publish: (...event) => opened?.publish(...event),
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
  const { memory } = toolbox;
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
    settings: () => settings,
  });
  let onPluginCall: PluginRoomDeps["onCall"];
  const plugins = makePlugins(options, {
    store,
    egress,
    registry: toolbox.registry,
    inbox: { receive: (event) => inbox.receive(event) },
    channels,
    settings: () => settings,
    publish: (...event) => opened?.publish(...event),
    onCall: (call) => onPluginCall?.(call),
  });
  const desk = new AgentDesk({
    hooks: plugins.hooks,
    store,
    models: {
      ...engine.models,
      windowOf: (name) => windowOf(name, settings.models),
    },
    tools: toolbox.registry,
    outputs: toolbox.outputs,
    remotes: new Remotes({ config: () => settings.remotes, clock, log }),
    ...guarding,
    context: {
      memory: async ({ agentId, authority, isPrivate }) => {
        if (!isPrivate) return [];
        const pinned = await memory.pinned(memorySpace(agentId, authority));
        return pinned.map((part) => ({ ...part, title: "Pinned memory" }));
      },
      skills: async ({ authority }) => {
        if (authority.kind !== "owner") return [];
        const index = await toolbox.skills?.index();
        return index === undefined ? [] : [{ ...index, title: "Skills" }];
      },
    },
    spending,
    usageText: (authority) => usage.text(authority),
    settings: () => agentSettings(settings),
    authorityOf: (record) => authorityFromRun(record),
    isLive: (record) =>
      record.credential === CONFIG_CREDENTIAL ||
      identity.credentials.isLive(record),
    grantsOf: (inboundId) => schedule.grantsOf(inboundId),
    clock,
    log,
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
      settings: () => settings,
      publish: (...event) => opened?.publish(...event),
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
      ...{ store, lag, providers, channels },
      settings: () => settings,
    }),
    clock,
  );
  const metrics = opening.use(
    new Metrics({
      watchTurns: (listener) => desk.watch(listener),
      watchCalls: (listener) => spending.watch(listener),
      watchPlugins: (listener) => {
        onPluginCall = listener;
        return { [Symbol.dispose]: () => onPluginCall = undefined };
      },
      runs: () => desk.counts(),
      gateway: () =>
        opened?.counts() ??
          { sockets: 0, preAuth: 0, inFlight: 0, refused: new Map() },
      egress: () => egress.counts(),
      budgets: () => usage.budgets(),
      outbox: () => ({
        pending: store.outbox.pending,
        oldestDueMs: courier.oldestDueMs(),
        counts: courier.counts(),
      }),
      guard: () => guarding.guard.meter,
      rssBytes: () => Deno.memoryUsage().rss,
      lag,
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
      settings: () => settings,
    })),
  );
  opening.use(
    keepHouse(options, {
      store,
      identity,
      spending,
      settings: () => settings,
      trim: () => desk.operations.trim(),
    }),
  );
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
    adopt: (next) => {
      settings = next;
      schedule.tick();
      if (options.safeMode === undefined) channels.adopt(next);
      void plugins.adopt(next.plugins).catch((error) =>
        log("error", "plugins.not_adopted", { error: String(error) })
      );
    },
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

/** Sessions past their time go, by what the owner keeps them for. */
async function purgeOld(
  { sessions }: Store,
  { kept, now, log }: { kept: Settings["store"]; now: number; log: Log },
): Promise<void> {
  const days = (count: number) => now - count * 86_400_000;
  const purged = {
    transient: await sessions.purgeTransient(
      now - kept.transientHours * 3_600_000,
    ),
    archived: await sessions.purgeUnused(
      "session_archived",
      days(kept.archivedDays),
    ),
    unused: kept.sessionDays === undefined
      ? 0
      : await sessions.purgeUnused("session_by_time", days(kept.sessionDays)),
  };
  if (Object.values(purged).some((count) => count > 0)) {
    log("info", "store.sessions_purged", purged);
  }
}

/** What is done now and then: tokens and transient sessions past their time go. */
function keepHouse(
  { clock, log }: HouseOptions,
  { store, identity, spending, settings, trim }: {
    store: Store;
    identity: Pick<Identity, "keep">;
    spending: Spending;
    settings(): Settings;
    /** Lets go of memory nobody asked for lately. */
    trim(): void;
  },
): AsyncDisposable {
  const ending = new AbortController();
  const keeping = repeat(async () => {
    await identity.keep();
    await spending.flush();
    await purgeOld(store, { kept: settings().store, now: clock.now(), log });
    trim();
  }, {
    everyMs: HOUSEKEEPING_MS,
    clock,
    signal: ending.signal,
    onError: (error) =>
      log("error", "store.housekeeping_failed", { error: errorText(error) }),
  });
  return {
    [Symbol.asyncDispose]: async () => {
      ending.abort();
      await keeping;
    },
  };
}
