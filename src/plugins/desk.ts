/**
 * Plugins as an operator handles them: what the gateway's methods and the
 * command line both call.
 *
 * Never: a module is taken that did not lie in the state directory.
 *
 * @module
 */
import { takeIncoming } from "../config/incoming.ts";
import type { Authority } from "../core/authority.ts";
import { PUBLIC_OWNER } from "../core/label.ts";
import type { Audit } from "../store/audit.ts";
import type { Journal } from "../store/journal.ts";
import { PLUGIN_BYTES_MAX, type Plugins } from "../store/plugins.ts";
import { type PluginsConfig, pluginsHash } from "./config.ts";
import type { PluginHost } from "./host.ts";
import { readManifest } from "./package.ts";
import type { PluginLogLine } from "./instance.ts";
import type { RunnerResult } from "./runner.ts";
import type { PluginView } from "./standing.ts";
import type { WebhookRequest } from "./webhooks.ts";
import { AppError } from "../core/errors.ts";

/** What the desk works with. */
export interface PluginDeskDeps {
  host: PluginHost;
  rows: Plugins;
  journal: Journal;
  audit: Pick<Audit, "row">;
  config(): PluginsConfig;
  stateDir: string;
}

/** The operator's view of the plugins. */
export class PluginDesk {
  readonly #deps: PluginDeskDeps;

  constructor(deps: PluginDeskDeps) {
    this.#deps = deps;
  }

  async list(): Promise<{ plugins: PluginView[]; config: string }> {
    const { host, config } = this.#deps;
    const before = config();
    const plugins = await host.list();
    return { plugins, config: await pluginsHash(before) };
  }

  /** @throws {AppError} `not_found` */
  async manifest(id: string): Promise<Record<string, unknown>> {
    const row = await this.#deps.rows.find(id);
    if (row === undefined) {
      throw new AppError("not_found", `There is no plugin "${id}"`);
    }
    readManifest(row.manifest);
    return row.manifest as Record<string, unknown>;
  }

  /** Installs what lies in the state directory. @throws {AppError} */
  async install(
    input: {
      manifest: Record<string, unknown>;
      sha256: string;
      source: string;
      allowUnsigned: boolean;
    },
    by: string,
  ): Promise<PluginView> {
    const { host, stateDir } = this.#deps;
    const { sha256, ...rest } = input;
    const bytes = await takeIncoming(stateDir, sha256, PLUGIN_BYTES_MAX);
    return await host.install({ ...rest, bytes, by });
  }

  async remove(id: string, by: string): Promise<void> {
    await this.#deps.host.remove(id, by);
  }

  async restart(id: string, by: string): Promise<PluginView> {
    return await this.#deps.host.restart(id, by);
  }

  /**
   * Runs a tool for one of the owner's credentials, as far as that may use it;
   * that it was run is in the audit log.
   */
  async call(
    call: { id: string; tool: string; args: unknown },
    { by, signal }: { by: Authority; signal?: AbortSignal },
  ): Promise<RunnerResult> {
    const { host, journal, audit } = this.#deps;
    const { id, tool } = call;
    await journal.commit([
      audit.row({
        event: "plugin.called",
        fields: { id, tool, by: by.principal },
      }),
    ]);
    const options = signal === undefined ? {} : { signal };
    return await host.call(call, {
      label: { ...PUBLIC_OWNER, integrity: by.integrity },
      mayUse: (name) => by.allowsTool(name),
      ...options,
    });
  }

  async logs(id: string, limit: number): Promise<PluginLogLine[]> {
    return await this.#deps.host.logs(id, limit);
  }

  async webhook(
    place: { id: string; name: string },
    request: WebhookRequest,
  ): Promise<Response> {
    return await this.#deps.host.webhook(place, request);
  }
}
