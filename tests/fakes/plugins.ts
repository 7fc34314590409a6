/**
 * A plugin host over a real store in memory, a real door and real workers, with
 * a world that records; and guests compiled from AssemblyScript.
 */
import { fileURLToPath } from "node:url";
import wabtInit from "wabt";
import { compile } from "../../plugins/pdk/compile.ts";
import { putIncoming } from "../../src/config/incoming.ts";
import { Channels } from "../../src/channels/channels.ts";
import { Courier } from "../../src/channels/courier.ts";
import { sha256Hex } from "../../src/core/ids.ts";
import type { Inbound } from "../../src/core/message.ts";
import { silentLog } from "../../src/core/log.ts";
import { Secret } from "../../src/core/secret.ts";
import { type Clock, systemClock } from "../../src/core/time.ts";
import { EgressConfig } from "../../src/egress/config.ts";
import { makeEgress } from "../../src/egress/egress.ts";
import { grantAll, wantHashes } from "../../src/plugins/capabilities.ts";
import { type PluginGrant, PluginsConfig } from "../../src/plugins/config.ts";
import type { PluginWorld } from "../../src/plugins/context.ts";
import { PluginHost } from "../../src/plugins/host.ts";
import { readManifest } from "../../src/plugins/package.ts";
import type { PluginView } from "../../src/plugins/standing.ts";
import type { OutboxRow } from "../../src/store/outbox.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { Registry } from "../../src/tools/registry.ts";
import { type AnyFrame, FakeClient } from "./gateway_house.ts";
import type { RealHouse } from "./real_house.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const compiled = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();

/** A guest of `tests/plugins/guests`, or a first-party one, compiled once. */
export function guest(name: string): Promise<Uint8Array<ArrayBuffer>> {
  let bytes = compiled.get(name);
  if (bytes === undefined) {
    const folder = `${root}tests/plugins/guests/${name}`;
    bytes = compile(folder, [`${root}plugins/pdk/assembly`]);
    compiled.set(name, bytes);
  }
  return bytes;
}

/** A module from WebAssembly text. */
export async function wat(text: string): Promise<Uint8Array<ArrayBuffer>> {
  const wabt = await wabtInit();
  const module = wabt.parseWat("guest.wat", text);
  try {
    return new Uint8Array(module.toBinary({}).buffer);
  } finally {
    module.destroy();
  }
}

type Raw = Record<string, unknown>;

/** A manifest over a module, with whatever a test adds. */
export async function manifestOf(
  id: string,
  bytes: Uint8Array<ArrayBuffer>,
  more: Raw = {},
): Promise<Raw> {
  return {
    id,
    name: id,
    version: "1.0.0",
    publisher: "Tests",
    wasm: { file: `${id}.wasm`, sha256: await sha256Hex(bytes) },
    ...more,
  };
}

/** One tool of a manifest: any object goes in. */
export function tool(name: string, more: Raw = {}): Raw {
  return {
    name,
    description: name,
    input: { type: "object" },
    effect: "none",
    export: name,
    ...more,
  };
}

/** What a test may set. */
export interface FakeHostOptions {
  config?: Raw;
  clock?: Clock;
  store?: Store;
  world?: Partial<PluginWorld>;
}

/** The host and what it did. */
export interface FakeHost extends AsyncDisposable {
  host: PluginHost;
  store: Store;
  registry: Registry;
  told: { plugin: string; text: string }[];
  received: { inbound: Inbound }[];
  /** What carries messages to channel plugins. */
  courier: Courier;
  channels: Channels;
  /** Every state a message on its way out has reached. */
  states: OutboxRow[];
  changes: { id: string; state: string; why?: string }[];
  config: PluginsConfig;
  /** Installs and grants all that is wanted, or what a test changes of it. */
  add(
    manifest: Raw,
    bytes: Uint8Array<ArrayBuffer>,
    change?: Partial<PluginGrant>,
  ): Promise<PluginView>;
  grant(id: string, grant: PluginGrant | undefined): Promise<void>;
  /** Calls a tool as the owner. */
  call(id: string, tool: string, args?: unknown): Promise<string>;
  /** Asks the host through the `probe` guest. */
  ask(fn: string, request: unknown): Promise<Record<string, unknown>>;
}

const OWNER = { integrity: "owner" as const, secrecy: [], origins: [] };

/** A secret of a test. */
export function secret(value: string): Secret {
  return new Secret(value, "secret TEST");
}

/** Opens a host. */
export async function fakeHost(
  options: FakeHostOptions = {},
): Promise<FakeHost> {
  const { clock = systemClock } = options;
  const store = options.store ??
    await openStore({ dir: ":memory:", clock, log: silentLog });
  const egress = makeEgress({
    config: EgressConfig.parse({}),
    clock,
    log: silentLog,
  });
  const registry = new Registry([]);
  const channels = new Channels(clock);
  const states: FakeHost["states"] = [];
  const courier = new Courier({
    outbox: store.outbox,
    journal: store.journal,
    audit: store.audit,
    channels,
    clock,
    log: silentLog,
    random: () => 0,
    onChange: (row) => void states.push(row),
  });
  const told: FakeHost["told"] = [];
  const received: FakeHost["received"] = [];
  const changes: FakeHost["changes"] = [];
  let config = PluginsConfig.parse(options.config ?? {});
  const host = new PluginHost({
    rows: store.plugins,
    journal: store.journal,
    audit: store.audit,
    egress,
    config,
    registry,
    world: {
      decide: () => ({ verdict: "allow", reason: "" }),
      tellOwner: (plugin, text) => {
        told.push({ plugin, text });
        return Promise.resolve();
      },
      receive: (inbound) => {
        received.push({ inbound });
        return Promise.resolve({ accepted: true, runId: "run_1" });
      },
      send: async ({ plugin, key, channel, account, chat, text, label }) => {
        await courier.take({
          idempotencyKey: `plugin:${plugin}:${key}`,
          destination: { channel, account, chat },
          parts: [{ kind: "text", text, label }],
          by: `plugin:${plugin}`,
        });
      },
      ...options.world,
    },
    onChange: (change) => void changes.push(change),
    onChannel: (channel) => channels.add(channel),
    clock,
    log: silentLog,
  });
  await host.open();
  courier.start();
  const grant: FakeHost["grant"] = async (id, next) => {
    const { [id]: _, ...others } = config.granted;
    const granted = next === undefined ? others : { ...others, [id]: next };
    config = { ...config, granted };
    await host.adopt(config);
  };
  const call: FakeHost["call"] = async (id, tool, args = {}) =>
    (await host.call({ id, tool, args }, { label: OWNER })).output;
  return {
    host,
    courier,
    channels,
    states,
    store,
    registry,
    told,
    received,
    changes,
    get config() {
      return config;
    },
    grant,
    call,
    add: async (manifest, bytes, change = {}) => {
      const { id } = await host.install({
        manifest,
        bytes,
        source: "test",
        allowUnsigned: true,
        by: "owner",
      });
      await grant(id, await grantOf(manifest, change));
      const view = (await host.list()).find((one) => one.id === id);
      if (view === undefined) throw new RangeError("it is not listed");
      return view;
    },
    ask: async (fn, request) => {
      const text = typeof request === "string"
        ? request
        : JSON.stringify(request);
      const answer = await call("probe", "host", { fn, request: text });
      return JSON.parse(answer);
    },
    [Symbol.asyncDispose]: async () => {
      await courier[Symbol.asyncDispose]();
      await host[Symbol.asyncDispose]();
      egress[Symbol.dispose]();
      if (options.store === undefined) await store[Symbol.asyncDispose]();
    },
  };
}

/** The `probe` guest's manifest: it wants everything. */
export async function probe(more: Raw = {}): Promise<
  { manifest: Raw; bytes: Uint8Array<ArrayBuffer> }
> {
  const bytes = await guest("probe");
  const { wants, ...rest } = more;
  const manifest = await manifestOf("probe", bytes, {
    tools: [
      tool("echo", {
        input: {
          type: "object",
          properties: { text: { type: "string", maxLength: 100 } },
        },
      }),
      tool("host", {
        input: {
          type: "object",
          properties: {
            fn: { type: "string" },
            request: { type: "string" },
          },
        },
      }),
      tool("say", {
        input: {
          type: "object",
          properties: {
            log: { type: "string" },
            fail: { type: "string" },
            trap: { type: "string" },
            setting: { type: "string" },
          },
        },
      }),
    ],
    channel: { description: "for tests", charsMax: 100, sendExport: "send" },
    wants: {
      http: [{ host: "127.0.0.1", scheme: "http", port: 1 }],
      kv: { bytes: 4096 },
      config: ["hook", "url", "color"],
      log: true,
      message: { to: "owner" },
      schedule: { maxPerDay: 3 },
      conversation: true,
      ...wants as Raw,
    },
    ...rest,
  });
  return { manifest, bytes };
}

/** The owner's socket to a whole house. */
export async function ownerOf({ url, owner }: RealHouse): Promise<FakeClient> {
  const client = new FakeClient(`${url.replace("http", "ws")}/ws`);
  await client.opened;
  const hello = await client.connect({ auth: { token: owner } });
  if (hello.ok !== true) throw new RangeError(JSON.stringify(hello));
  return client;
}

/** Installs into a whole house, as the command line does; how it stands. */
export async function installIn(
  { stateDir }: RealHouse,
  client: FakeClient,
  { manifest, bytes }: { manifest: Raw; bytes: Uint8Array<ArrayBuffer> },
): Promise<AnyFrame> {
  const sha256 = await sha256Hex(bytes);
  await using _incoming = await putIncoming(stateDir, sha256, bytes);
  const input = { manifest, sha256, source: "test", allowUnsigned: true };
  const { ok, payload, error } = await client.call("plugins.install", input);
  if (ok !== true) throw new RangeError(error.message);
  return payload;
}

/** A line of the configuration that grants a plugin all it wants. */
export async function grantOf(
  manifest: Raw,
  change: Partial<PluginGrant> = {},
): Promise<PluginGrant> {
  const read = readManifest(manifest);
  return {
    ...grantAll(read, {}),
    reviewed: await wantHashes(read),
    ...change,
  };
}
