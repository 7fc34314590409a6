/**
 * The gateway's view of the rest of the house, and what is left of it in safe mode.
 *
 * Never: a request is answered here, or a scope looked at.
 *
 * @module
 */
import type { AgentDesk } from "../agent/desk.ts";
import type { GuardDesk } from "../agent/guard_desk.ts";
import type { Turns } from "../agent/turns.ts";
import type { Identity } from "../auth/open.ts";
import type { Tokens } from "../auth/tokens.ts";
import type { Authority } from "../core/authority.ts";
import { readTokenFile, writeTokenFile } from "../config/token_file.ts";
import { AppError } from "../core/errors.ts";
import { Secret } from "../core/secret.ts";
import type { ScheduleBus } from "../core/methods/schedule.ts";
import { VERSION } from "../core/version.ts";
import { type ChannelActs, channelsOf } from "../gateway/methods/channels.ts";
import type { GatewayDeps } from "../gateway/deps.ts";
import type { SecretSet } from "../guard/screen/leaks.ts";
import type { Spending } from "../guard/spending.ts";
import type { UsageDesk } from "../guard/usage_desk.ts";
import type { ConfigDesk } from "../ops/config_desk.ts";
import type { Metrics } from "../ops/metrics.ts";
import type { Readiness } from "../ops/ready.ts";
import type { PluginRoom } from "../plugins/room.ts";
import type { Settings } from "../settings.ts";
import { readHolder } from "../store/files.ts";
import type { Store } from "../store/store.ts";
import type { Toolbox } from "../tools/open.ts";
import type { Engine } from "./engine.ts";
import { nodeDesk } from "./nodes.ts";
import type { HouseOptions } from "./options.ts";

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

/** The gateway's view of the rest of the house. */
export function gatewayDeps(
  options: HouseOptions,
  rooms: {
    store: Store;
    tokens: Tokens;
    identity: Identity;
    desk: AgentDesk;
    guard: GuardDesk;
    secrets(): SecretSet;
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
    tailnetPeer: ({ hostname, port }) => identity.whois.peerOf(hostname, port),
    peerOf: options.peerOf,
    hasEnded: (principal) => identity.credentials.hasEnded(principal),
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
        const { budget } = input;
        const { id, token } = await tokens.create(
          {
            name: input.name,
            scopes: input.scopes,
            ...(agents === undefined ? {} : { agents }),
            ...(models === undefined ? {} : { models }),
            ...(tools === undefined ? {} : { tools }),
            ...(integrity === undefined ? {} : { integrity }),
            ...(expiresInMs === undefined ? {} : { expiresInMs }),
            ...(budget === undefined ? {} : { budget }),
          },
          maker,
          await identity.credentials.standing(maker.credential),
        );
        return { id, token };
      },
      list: async () => await tokens.list(),
      rotate: (named, by) =>
        rotateToken(named, { by, tokens, stateDir: options.stateDir }),
      revoke: (id, by) => tokens.revoke(id, by),
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
    secrets: () => rooms.secrets(),
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

/** A token's next text; the command line's own goes into its file as well. */
async function rotateToken(
  named: string,
  { by, tokens, stateDir }: { by: Authority; tokens: Tokens; stateDir: string },
): Promise<{ id: string; token: string }> {
  // A file that others can read is no token's: it stays as it is.
  const own = await readTokenFile(stateDir).catch(() => undefined);
  const made = await tokens.rotate(named, by);
  // Else the text's first use would lock the command line out.
  if (own !== undefined && await tokens.holds(made.id, own.reveal())) {
    await writeTokenFile(stateDir, new Secret(made.token, "rotated"));
  }
  return made;
}
