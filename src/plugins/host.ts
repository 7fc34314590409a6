/**
 * The plugins of the house: installed rows become running instances where the
 * configuration grants them, hot, and stop where it no longer does.
 *
 * Never: a plugin runs that is not both installed and granted; bytes run that
 * were not hashed again; an update has more than the owner has seen.
 *
 * @module
 */
import type { Channel } from "../core/channel.ts";
import { AppError, errorText } from "../core/errors.ts";
import type { Hooks } from "../core/hooks.ts";
import type { Log } from "../core/log.ts";
import type { PluginManifest } from "../core/plugin.ts";
import type { Clock } from "../core/time.ts";
import type { Tool } from "../core/tool.ts";
import type { Egress } from "../egress/egress.ts";
import type { Audit } from "../store/audit.ts";
import type { Journal } from "../store/journal.ts";
import type { PluginRow, Plugins } from "../store/plugins.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { PluginChannel, poll, receive } from "./channel.ts";
import { limitsOf, type PluginGrant, type PluginsConfig } from "./config.ts";
import type { PluginWorld } from "./context.ts";
import { auditGrants } from "./grants_audit.ts";
import { PluginHooks } from "./hooks.ts";
import { type CallOptions, Instance, type PluginLogLine } from "./instance.ts";
import { checkPackage, type PluginPackage } from "./installing.ts";
import { readManifest } from "./package.ts";
import { Window } from "./rate.ts";
import type { RunnerResult } from "./runner.ts";
import {
  keyOf,
  type PluginState,
  type PluginView,
  type Standing,
  standingOf,
  viewOf,
} from "./standing.ts";
import { Timers } from "./timers.ts";
import { takeWebhook, type WebhookRequest } from "./webhooks.ts";

/** Traps of one plugin in a minute that stop it. */
const TRAPS_MAX = 5;
const MINUTE_MS = 60_000;
const STOPPED_LOG_MAX = 100;

/** What the host is made of. */
export interface PluginHostDeps {
  rows: Plugins;
  journal: Journal;
  audit: Pick<Audit, "row">;
  egress: Pick<Egress, "door">;
  config: PluginsConfig;
  world: PluginWorld;
  /** Where tools are offered. */
  registry: { add(tool: Tool): void; remove(name: string): void };
  /** Something changed that others may want to see. Must not throw. */
  onChange?(view: { id: string; state: PluginState; why?: string }): void;
  /** A plugin's call is over. Must not throw. */
  onCall?(call: { id: string; outcome: "done" | "failed" }): void;
  /** A channel plugin runs; disposed when it stops. */
  onChannel?(channel: Channel): Disposable;
  clock: Clock;
  log: Log;
}

interface Running {
  instance: Instance;
  /** What it was started with: another one means a new start. */
  key: string;
  tools: string[];
  ending: AbortController;
  timers: Timers;
  channel: Disposable | undefined;
}

/** The plugins of the house. */
export class PluginHost implements AsyncDisposable {
  readonly #deps: PluginHostDeps;
  readonly #running = new Map<string, Running>();
  readonly #standing = new Map<string, Standing>();
  readonly #traps = new Map<string, Window>();
  readonly #lastLogs = new Map<string, PluginLogLine[]>();
  readonly #hooks: PluginHooks;
  #config: PluginsConfig;
  #adopting: Promise<void> = Promise.resolve();
  #isClosed = false;

  constructor(deps: PluginHostDeps) {
    this.#deps = deps;
    this.#config = deps.config;
    this.#hooks = new PluginHooks({
      running: () => this.#instances(),
      clock: deps.clock,
      log: deps.log,
    });
  }

  /** The points of a turn, for the agent. */
  get hooks(): Hooks {
    return this.#hooks;
  }

  /** Starts what is installed and granted. */
  async open(): Promise<void> {
    await this.adopt(this.#config);
  }

  /** Takes another configuration; one after the other. */
  async adopt(config: PluginsConfig): Promise<void> {
    const before = this.#config;
    this.#config = config;
    await this.#inTurn(async () => {
      await auditGrants({ before, after: config }, this.#deps);
      await this.#reconcile();
    });
  }

  /** Does one thing after another, whatever became of the one before. */
  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const mine = this.#adopting.then(act);
    this.#adopting = mine.then(() => {}, () => {});
    return mine;
  }

  *#instances(): Generator<Instance> {
    for (const { instance } of this.#running.values()) yield instance;
  }

  // --- installing ---------------------------------------------------------

  /**
   * Installs or updates a plugin. None of its code runs here.
   *
   * @throws {AppError} one message that says what is wrong with it
   */
  async install(pack: PluginPackage): Promise<PluginView> {
    return await this.#inTurn(async () => {
      const { rows, journal, audit, clock, log } = this.#deps;
      const config = this.#config;
      const row = await checkPackage(pack, { rows, config, clock, log });
      const before = await rows.find(row.id);
      await rows.putModule(pack.bytes, row.sha256);
      await journal.commit([
        rows.row(row),
        audit.row({
          event: before === undefined ? "plugin.installed" : "plugin.updated",
          fields: {
            id: row.id,
            version: row.version,
            sha256: row.sha256,
            manifest: row.manifestSha256,
            signedBy: row.signedBy ?? "",
            by: row.installedBy,
          },
        }),
      ]);
      if (before !== undefined && before.sha256 !== row.sha256) {
        await this.#dropUnused(before.sha256);
      }
      await this.#reconcile();
      return await this.#view(row);
    });
  }

  async #dropUnused(sha256: string): Promise<void> {
    const { rows } = this.#deps;
    const all = await rows.list();
    if (all.some((row) => row.sha256 === sha256)) return;
    await rows.dropModule(sha256);
  }

  /** Removes a plugin and all it kept. @throws {AppError} `not_found` */
  async remove(id: string, by: string): Promise<void> {
    await this.#inTurn(async () => {
      const row = await this.#row(id);
      const { rows, journal, audit } = this.#deps;
      this.#stop(id);
      await journal.commit([
        rows.deletion(id),
        audit.row({ event: "plugin.removed", fields: { id, by } }),
      ]);
      await this.#dropUnused(row.sha256);
      await rows.forget(id);
      this.#standing.delete(id);
      this.#lastLogs.delete(id);
    });
  }

  /** Starts again what trapped too often. @throws {AppError} `not_found` */
  async restart(id: string, by: string): Promise<PluginView> {
    return await this.#inTurn(async () => {
      const { stopped: _, ...row } = await this.#row(id);
      const { rows, journal, audit } = this.#deps;
      await journal.commit([
        rows.row(row),
        audit.row({ event: "plugin.restarted", fields: { id, by } }),
      ]);
      this.#traps.delete(id);
      this.#stop(id);
      await this.#reconcile();
      return await this.#view(row);
    });
  }

  async #row(id: string): Promise<PluginRow> {
    const row = await this.#deps.rows.find(id);
    if (row !== undefined) return row;
    const known = (await this.#deps.rows.list()).map((one) => one.id);
    throw new AppError("not_found", `There is no plugin "${id}"`, {
      hint: `Installed: ${known.join(", ") || "none"}`,
    });
  }

  // --- running ------------------------------------------------------------

  /** Starts and stops until what runs is what is installed and granted. */
  async #reconcile(): Promise<void> {
    const rows = await this.#deps.rows.list();
    const ids = new Set(rows.map(({ id }) => id));
    for (const id of this.#running.keys()) if (!ids.has(id)) this.#stop(id);
    for (const row of rows) {
      if (this.#isClosed) return;
      const before = this.#standing.get(row.id)?.state ??
        (this.#running.has(row.id) ? "ready" : undefined);
      await this.#settle(row);
      const now = this.#standing.get(row.id);
      const state = now?.state ?? "ready";
      if (state === before) continue;
      const why = now === undefined ? {} : { why: now.why };
      this.#deps.onChange?.({ id: row.id, state, ...why });
    }
  }

  /** Brings one plugin to where it should be. */
  async #settle(row: PluginRow): Promise<void> {
    const { id } = row;
    try {
      const manifest = readManifest(row.manifest);
      const grant = this.#config.granted[id];
      const standing = await standingOf(row, manifest, this.#config);
      if (standing !== undefined || grant === undefined) {
        this.#stop(id);
        this.#standing.set(id, standing ?? { state: "off", why: "" });
        return;
      }
      const key = keyOf(row, grant, this.#config);
      if (this.#running.get(id)?.key === key) return;
      this.#stop(id);
      await this.#start(row, manifest, { grant, key });
      this.#standing.delete(id);
    } catch (error) {
      this.#stop(id);
      const why = errorText(error);
      this.#standing.set(id, { state: "blocked", why });
      this.#deps.log("error", "plugin.blocked", { plugin: id, error: why });
    }
  }

  async #start(
    row: PluginRow,
    manifest: PluginManifest,
    { grant, key }: { grant: PluginGrant; key: string },
  ): Promise<void> {
    const { id } = row;
    const { rows, journal, egress, world, clock, log, registry } = this.#deps;
    const { onChannel } = this.#deps;
    const ending = new AbortController();
    const instance = new Instance({
      manifest,
      can: capabilitiesOf(manifest, grant),
      limits: limitsOf(this.#config, id),
      bytes: () => rows.module(row.sha256),
      rows,
      journal,
      egress,
      world,
      clock,
      log,
      emit: async (event, seen) => {
        const got = await receive(instance, event, { world, clock, seen });
        return got.accepted
          ? { ok: true, accepted: true }
          : { ok: true, accepted: false, reason: got.reason };
      },
      onTimer: () => timers.changed(),
      onTrap: (why) => this.#trapped(id, why),
      onCall: (outcome) => this.#deps.onCall?.({ id, outcome }),
    });
    const timers = new Timers(instance, { rows, journal, clock, log });
    const tools: string[] = [];
    try {
      await instance.load();
      for (const tool of instance.tools()) {
        registry.add(tool);
        tools.push(tool.name);
      }
    } catch (error) {
      for (const name of tools) registry.remove(name);
      instance[Symbol.dispose]();
      throw error;
    }
    const channel = instance.can.channel
      ? onChannel?.(new PluginChannel(instance, clock))
      : undefined;
    this.#running.set(id, { instance, key, tools, ending, timers, channel });
    this.#hooks.changed();
    timers.start();
    if (instance.can.channel) {
      void poll(instance, ending.signal, { clock, log });
    }
    log("info", "plugin.started", { plugin: id, version: row.version });
  }

  #stop(id: string): void {
    const running = this.#running.get(id);
    if (running === undefined) return;
    this.#running.delete(id);
    this.#hooks.changed();
    running.ending.abort();
    running.channel?.[Symbol.dispose]();
    running.timers[Symbol.dispose]();
    for (const name of running.tools) this.#deps.registry.remove(name);
    running.instance[Symbol.dispose]();
    const last = running.instance.logs.slice(-STOPPED_LOG_MAX);
    this.#lastLogs.set(id, last);
    this.#deps.log("info", "plugin.stopped", { plugin: id });
  }

  #trapped(id: string, why: string): void {
    const { clock, log } = this.#deps;
    let traps = this.#traps.get(id);
    if (traps === undefined) {
      const options = { max: Infinity, ms: MINUTE_MS, clock };
      this.#traps.set(id, traps = new Window("traps", options));
    }
    traps.take();
    log("warn", "plugin.trapped", { plugin: id, why, count: traps.count });
    if (traps.count < TRAPS_MAX) return;
    void this.#inTurn(() => this.#giveUp(id, why)).catch((error) =>
      log("error", "plugin.not_stopped", { error: errorText(error) })
    );
  }

  /** Five traps in a minute: the owner decides whether it goes on. */
  async #giveUp(id: string, last: string): Promise<void> {
    if (!this.#running.has(id)) return;
    const { rows, journal, audit, clock, onChange } = this.#deps;
    this.#stop(id);
    const why = `it failed ${TRAPS_MAX} times in a minute, last: ${last}`
      .slice(0, 512);
    this.#standing.set(id, { state: "stopped", why });
    onChange?.({ id, state: "stopped", why });
    const row = await rows.find(id);
    if (row === undefined) return;
    await journal.commit([
      rows.row({ ...row, stopped: { at: clock.now(), why } }),
      audit.row({ event: "plugin.stopped", fields: { id, traps: TRAPS_MAX } }),
    ]);
  }

  // --- used from outside --------------------------------------------------

  /** The running plugin. @throws {AppError} saying why it does not run */
  async #instance(id: string): Promise<Instance> {
    await this.#adopting;
    const running = this.#running.get(id);
    if (running !== undefined) return running.instance;
    await this.#row(id);
    const { state, why } = this.#standing.get(id) ??
      { state: "off", why: "it has not started yet" };
    const hint = state === "stopped" || state === "off"
      ? `Run: carapace plugin enable ${id}`
      : state === "held"
      ? `Run: carapace plugin grant ${id}`
      : `Run: carapace plugin info ${id}`;
    throw new AppError(
      "unavailable",
      `Plugin "${id}" does not run (${state}): ${why}`,
      { hint },
    );
  }

  /** Runs a plugin's tool for the owner. @throws {AppError} with the cause */
  async call(
    call: { id: string; tool: string; args: unknown },
    options: CallOptions,
  ): Promise<RunnerResult> {
    const instance = await this.#instance(call.id);
    return await instance.callTool(call.tool, call.args, options);
  }

  /**
   * Answers a request to `/plugins/<id>/<name>`.
   *
   * @throws {AppError} `unauthorized`, the same for all that is not verified
   */
  async webhook(
    place: { id: string; name: string },
    request: WebhookRequest,
  ): Promise<Response> {
    const { rows, journal, clock } = this.#deps;
    const instance = this.#running.get(place.id)?.instance;
    const found = instance === undefined
      ? undefined
      : { instance, name: place.name };
    return await takeWebhook(found, request, { rows, journal, clock });
  }

  /** Every installed plugin. */
  async list(): Promise<PluginView[]> {
    await this.#adopting;
    const rows = await this.#deps.rows.list();
    return await Promise.all(rows.map((row) => this.#view(row)));
  }

  /** The last lines of a plugin's log, oldest first. */
  async logs(id: string, limit: number): Promise<PluginLogLine[]> {
    await this.#row(id);
    const lines = this.#running.get(id)?.instance.logs ??
      this.#lastLogs.get(id) ?? [];
    return lines.slice(-limit);
  }

  async #view(row: PluginRow): Promise<PluginView> {
    const running = this.#running.get(row.id);
    const standing = running === undefined
      ? this.#standing.get(row.id) ?? { state: "off" as const, why: "" }
      : undefined;
    const isLoaded = running?.instance.isLoaded ?? false;
    return await viewOf(row, { config: this.#config, standing, isLoaded });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await this.#adopting;
    for (const id of [...this.#running.keys()]) this.#stop(id);
  }
}
