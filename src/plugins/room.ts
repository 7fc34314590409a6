/**
 * The room's door: what stands in its place until somebody has a plugin. Without
 * one nothing behind it is loaded, which saves memory and time at every start.
 *
 * Never: another answer than the loaded room's.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { Hooks } from "../core/hooks.ts";
import { type PluginsConfig, pluginsHash } from "./config.ts";
import type { PluginDesk } from "./desk.ts";
import type { PluginHost, PluginHostDeps } from "./host.ts";

/** What the room is made of. */
export interface PluginRoomDeps extends Omit<PluginHostDeps, "config"> {
  config(): PluginsConfig;
  stateDir: string;
}

type Desk = Pick<
  PluginDesk,
  | "list"
  | "manifest"
  | "install"
  | "remove"
  | "restart"
  | "call"
  | "logs"
  | "webhook"
>;

interface Loaded {
  host: PluginHost;
  desk: PluginDesk;
}

/** The plugins of the house, loaded when there is one. */
export class PluginRoom implements AsyncDisposable {
  readonly #deps: PluginRoomDeps;
  #config: PluginsConfig;
  #loading: Promise<Loaded> | undefined;
  #loaded: Loaded | undefined;
  #isClosed = false;

  /** The points of a turn, for the agent. */
  readonly hooks: Hooks = {
    has: (point) => this.#loaded?.host.hooks.has(point) ?? false,
    holds: (point) => this.#loaded?.host.hooks.holds(point) ?? false,
    run: async (event, signal) =>
      await this.#loaded?.host.hooks.run(event, signal) ?? { notes: [] },
  };

  /** What the gateway's methods and the command line call. */
  readonly desk: Desk = {
    list: async () =>
      this.#loading === undefined && !await this.#hasPlugins()
        ? { plugins: [], config: await pluginsHash(this.#deps.config()) }
        : await (await this.#load()).desk.list(),
    manifest: async (...args) => await (await this.#desk()).manifest(...args),
    install: async (...args) => await (await this.#desk()).install(...args),
    remove: async (...args) => await (await this.#desk()).remove(...args),
    restart: async (...args) => await (await this.#desk()).restart(...args),
    call: async (...args) => await (await this.#desk()).call(...args),
    logs: async (...args) => await (await this.#desk()).logs(...args),
    webhook: async (...args) => {
      // Whoever asks is not known: nothing is loaded on their word.
      const { desk } = await this.#loading ?? {};
      if (desk !== undefined) return await desk.webhook(...args);
      throw new AppError("unauthorized", "Cannot authenticate this request", {
        hint: "Check the secret on both sides",
      });
    },
  };

  constructor(deps: PluginRoomDeps) {
    this.#deps = deps;
    this.#config = deps.config();
  }

  /** Starts what is installed and granted. */
  async open(): Promise<void> {
    if (await this.#hasPlugins()) await this.#load();
  }

  /** Takes another configuration. */
  async adopt(config: PluginsConfig): Promise<void> {
    const before = this.#config;
    this.#config = config;
    // Who grants something is about to use it, and the grant is audited.
    const isGranted = JSON.stringify(before.granted) !==
      JSON.stringify(config.granted);
    if (this.#loading === undefined && !isGranted) return;
    const { host } = await this.#load(before);
    await host.adopt(config);
  }

  async #hasPlugins(): Promise<boolean> {
    return (await this.#deps.rows.list()).length > 0;
  }

  async #desk(): Promise<PluginDesk> {
    return (await this.#load()).desk;
  }

  async #load(config = this.#config): Promise<Loaded> {
    if (this.#isClosed) {
      throw new AppError("unavailable", "The plugins are closed");
    }
    this.#loading ??= this.#open(config);
    try {
      return await this.#loading;
    } catch (error) {
      this.#loading = undefined;
      throw error;
    }
  }

  async #open(config: PluginsConfig): Promise<Loaded> {
    const [{ PluginHost }, { PluginDesk }] = await Promise.all([
      import("./host.ts"),
      import("./desk.ts"),
    ]);
    await using opening = new AsyncDisposableStack();
    const host = opening.use(new PluginHost({ ...this.#deps, config }));
    await host.open();
    this.#loaded = { host, desk: new PluginDesk({ ...this.#deps, host }) };
    opening.move();
    return this.#loaded;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const loaded = await this.#loading?.catch(() => undefined);
    await loaded?.host[Symbol.asyncDispose]();
  }
}
