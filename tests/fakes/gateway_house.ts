/**
 * The real gateway on a real socket over fakes: turns that follow a script,
 * tokens in a table, providers that speak to fake vendors. And a plain
 * WebSocket client that reads frames one by one.
 */
import assert from "node:assert/strict";
import {
  Authority,
  type AuthorityRecord,
  type Principal,
} from "../../src/core/authority.ts";
import { AppError } from "../../src/core/errors.ts";
import { silentLog } from "../../src/core/log.ts";
import type { StoredMessage } from "../../src/core/message.ts";
import { NO_USAGE, type Usage } from "../../src/core/message.ts";
import { type Provider, splitModel } from "../../src/core/model.ts";
import { systemClock } from "../../src/core/time.ts";
import type { GatewayDeps, SessionRow } from "../../src/gateway/deps.ts";
import { type Gateway, openGateway } from "../../src/gateway/gateway.ts";
import type { Hold } from "../../src/guard/spending.ts";
import { totalOf } from "../../src/guard/usage_desk.ts";
import type { GatewayLimits } from "../../src/gateway/limits.ts";
import { FakeTurns } from "./turns.ts";

/** A principal, as `auth` would make it. */
export function principal(change: Partial<AuthorityRecord> = {}): Principal {
  const record: AuthorityRecord = {
    principal: "owner",
    kind: "owner",
    credential: "tok_owner",
    revision: 1,
    scopes: ["admin"],
    agents: "any",
    models: "any",
    tools: "any",
    integrity: "owner",
    ...change,
  };
  return {
    id: record.principal,
    kind: record.kind,
    name: record.credential,
    authority: new Authority(record),
  };
}

/** A program's principal. */
export function program(
  id: string,
  change: Partial<AuthorityRecord> = {},
): Principal {
  return principal({
    principal: `token:${id}`,
    kind: "program",
    credential: id,
    scopes: ["write"],
    integrity: "untrusted",
    ...change,
  });
}

/** A session's row. */
export function sessionRow(key: string, updatedAt = 1): SessionRow {
  const agentId = key.split(":")[1] ?? "main";
  const id = `ses_${key.replaceAll(/[^a-z0-9]/g, "")}`;
  return { key, id, agentId, kind: "direct", updatedAt, usage: NO_USAGE };
}

export interface FakeGatewayHouseOptions {
  /** Principals by their token's text; `owner` and `app` are there already. */
  principals?: Record<string, Principal>;
  providers?: readonly Provider[];
  sessions?: SessionRow[];
  messages?: Record<string, StoredMessage[]>;
  limits?: Partial<GatewayLimits>;
  deps?: Partial<GatewayDeps>;
}

/** The gateway, and what stands behind it. */
export interface FakeGatewayHouse extends AsyncDisposable {
  gateway: Gateway;
  /** What it was opened with. */
  deps: GatewayDeps;
  turns: FakeTurns;
  /** `http://127.0.0.1:PORT`. */
  url: string;
  port: number;
  /** What vendors said that model calls past the agents used. */
  passed: { model: string; usage: Usage }[];
  kvReads: { count: number };
  revoke(credential: string): void;
  get(path: string, init?: RequestInit): Promise<Response>;
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
  socket(options?: { path?: string; token?: string }): Promise<FakeClient>;
}

/** Opens it; `owner-token` is the owner's, `app-token` a program's. */
export async function openGatewayHouse(
  options: FakeGatewayHouseOptions = {},
): Promise<FakeGatewayHouse> {
  const turns = new FakeTurns();
  const principals: Record<string, Principal> = {
    "owner-token": principal(),
    "app-token": program("tok_app"),
    ...options.principals,
  };
  const listeners = new Set<(credential: string) => void>();
  const passed: FakeGatewayHouse["passed"] = [];
  const kvReads = { count: 0 };
  const sessions = options.sessions ?? [];
  const providers = new Map(
    (options.providers ?? []).map((one) => [one.id, one]),
  );
  const deps: GatewayDeps = {
    config: {
      host: "127.0.0.1",
      port: 0,
      hosts: [],
      origins: [],
      trustedProxies: [],
      container: false,
    },
    turns,
    store: {
      sessions: {
        find: (key) => Promise.resolve(sessions.find((s) => s.key === key)),
        list: ({ limit, offset = 0 }) =>
          Promise.resolve(sessions.slice(offset, offset + limit)),
        count: () => {
          kvReads.count++;
          return Promise.resolve(sessions.length);
        },
      },
      messages: {
        tail: (id, { limit }) =>
          Promise.resolve((options.messages?.[id] ?? []).slice(-limit)),
      },
    },
    authenticate: ({ token }) => {
      const found = token === undefined || !Object.hasOwn(principals, token)
        ? undefined
        : principals[token];
      return found === undefined
        ? Promise.reject(
          new AppError("unauthorized", "Cannot authenticate: unknown token"),
        )
        : Promise.resolve(found);
    },
    onRevoked: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    router: fakeRouter(providers),
    agents: () => ({
      defaultId: "main",
      agents: [{ id: "main", name: "Main" }, { id: "coder", name: "Coder" }],
    }),
    tokens: {
      create: (input) =>
        Promise.resolve({ id: `tok_${input.name}`, token: "new-token" }),
      list: () => Promise.resolve([]),
      rotate: (id) => Promise.resolve({ id, token: "next-token" }),
      revoke: () => Promise.resolve(),
    },
    plugins: fakePlugins(),
    status: () => ({
      version: "0.0.0",
      runtime: { name: "test", version: "0", pid: 1, rssBytes: 1 },
      channels: {},
      model: { id: "fake:echo", because: "test" },
      posture: {
        tried: 1,
        refused: 1,
        sandboxOff: false,
        grants: { read: ["/secret/path"] },
      },
    }),
    ready: () =>
      Promise.resolve({ ok: true, checks: [{ name: "store", ok: true }] }),
    version: "0.0.0",
    clock: systemClock,
    log: silentLog,
    spending: {
      reservePass: ({ model }) => {
        let isOver = false;
        const hold: Hold = {
          settle: (usage, by) => {
            if (!isOver && by === "vendor") passed.push({ model, usage });
            isOver = true;
          },
          release: () => void (isOver = true),
        };
        return Promise.resolve(hold);
      },
    },
    usage: {
      today: () => Promise.resolve(totalOf([])),
      cost: () =>
        Promise.resolve({ from: "", to: "", total: totalOf([]), rows: [] }),
      budgets: () => [],
    },
    limits: options.limits ?? {},
    ...options.deps,
  };
  const gateway = await openGateway(deps);
  const { port } = gateway.address;
  const url = `http://127.0.0.1:${port}`;
  const owner = { authorization: "Bearer owner-token" };
  return {
    gateway,
    deps,
    turns,
    url,
    port,
    passed,
    kvReads,
    revoke: (credential) => {
      for (const listener of listeners) listener(credential);
    },
    get: (path, init = {}) =>
      fetch(`${url}${path}`, {
        ...init,
        headers: { ...owner, ...init.headers as Record<string, string> },
      }),
    post: (path, body, init = {}) =>
      fetch(`${url}${path}`, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        ...init,
        headers: {
          ...owner,
          "content-type": "application/json",
          ...init.headers as Record<string, string>,
        },
      }),
    socket: async ({ path = "/ws", token } = {}) => {
      const client = new FakeClient(`ws://127.0.0.1:${port}${path}`);
      await client.opened;
      if (token !== undefined) {
        const hello = await client.connect({ auth: { token } });
        assert.equal(hello.ok, true, JSON.stringify(hello));
      }
      return client;
    },
    [Symbol.asyncDispose]: () => gateway[Symbol.asyncDispose](),
  };
}

/** One plugin that says what it is asked. */
export function fakePlugins(): NonNullable<GatewayDeps["plugins"]> {
  const summary = {
    id: "fake",
    name: "Fake",
    version: "1.0.0",
    description: "",
    publisher: "Nobody",
    trusted: false,
    state: "ready" as const,
    sha256: "0".repeat(64),
    source: "/fake",
    installedAt: 1,
    tools: [{ name: "echo", description: "" }],
    webhooks: [],
    hooks: [],
    channel: false,
    wants: [],
    missing: [],
    isLoaded: true,
  };
  return {
    list: () => Promise.resolve({ plugins: [summary], config: "" }),
    manifest: () => Promise.resolve({ id: "fake" }),
    install: () => Promise.resolve(summary),
    remove: () => Promise.resolve(),
    restart: () => Promise.resolve(summary),
    call: ({ args }) =>
      Promise.resolve({ output: JSON.stringify(args), fuel: 1, ms: 1 }),
    logs: () => Promise.resolve([]),
    webhook: () =>
      Promise.reject(
        new AppError("unauthorized", "Cannot authenticate this request"),
      ),
  };
}

function fakeRouter(
  providers: ReadonlyMap<string, Provider>,
): GatewayDeps["router"] {
  const resolve = (name: string) => {
    const split = splitModel(name);
    const provider = providers.get(split?.provider ?? "");
    if (split === undefined || provider === undefined) {
      throw new AppError("not_found", `Cannot find model "${name}"`);
    }
    return { provider, model: split.model };
  };
  return {
    resolve,
    settle: (name) => Promise.resolve(name),
    list: async (signal) => {
      const lists = await Promise.all(
        [...providers.values()].map(async (provider) =>
          (await provider.models(signal)).map((model) => ({
            provider: provider.id,
            ...model,
          }))
        ),
      );
      return lists.flat();
    },
    stream: (name, request, signal) => {
      const { provider, model } = resolve(name);
      return provider.stream({ ...request, model }, signal);
    },
  };
}

/** A provider that passes bodies on to an address. */
export function forwarding(id: string, baseUrl: string): Provider {
  return {
    id,
    kind: "openai_chat",
    stream: () => {
      throw new AppError("internal", "not used");
    },
    models: () => Promise.resolve([{ id: "fake-1" }]),
    forward: (path, body, signal) =>
      fetch(`${baseUrl}${path}`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          authorization: "Bearer vendor-key",
        },
        body,
        signal,
      }),
  };
}

/** Any frame; tests look at what they need. */
// deno-lint-ignore no-explicit-any
export type AnyFrame = any;

export const CLIENT = {
  id: "test",
  version: "1.0.0",
  platform: "linux",
  mode: "test",
};

/** A plain client that keeps every frame. */
export class FakeClient implements Disposable {
  readonly socket: WebSocket;
  readonly frames: AnyFrame[] = [];
  readonly opened: Promise<void>;
  readonly closed: Promise<{ code: number; reason: string }>;
  #wake: (() => void)[] = [];
  #nextId = 0;

  constructor(url: string) {
    this.socket = new WebSocket(url);
    const opened = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<{ code: number; reason: string }>();
    this.opened = opened.promise;
    this.closed = closed.promise;
    this.socket.onopen = () => opened.resolve();
    this.socket.onerror = () => {
      opened.reject(new AppError("unavailable", "the socket did not open"));
    };
    this.socket.onclose = ({ code, reason }) => {
      closed.resolve({ code, reason });
      this.#stir();
    };
    this.socket.onmessage = ({ data }) => {
      this.frames.push(JSON.parse(data));
      this.#stir();
    };
  }

  #stir(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** The first frame, past or to come, that a test accepts. */
  async frame(accepts: (frame: AnyFrame) => boolean): Promise<AnyFrame> {
    for (let n = 0;;) {
      for (; n < this.frames.length; n++) {
        if (accepts(this.frames[n])) return this.frames[n];
      }
      assert.ok(
        this.socket.readyState <= WebSocket.OPEN,
        `closed before it came: ${JSON.stringify(this.frames).slice(-2000)}`,
      );
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  event(
    name: string,
    accepts: (payload: AnyFrame) => boolean = () => true,
  ): Promise<AnyFrame> {
    return this.frame((f) => f.event === name && accepts(f.payload))
      .then((f) => f.payload);
  }

  send(frame: unknown): void {
    this.socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
  }

  /** The response frame of a request. */
  async call(method: string, params?: unknown): Promise<AnyFrame> {
    const id = String(++this.#nextId);
    this.send({
      type: "req",
      id,
      method,
      ...(params === undefined ? {} : { params }),
    });
    return await this.frame((frame) => frame.type === "res" && frame.id === id);
  }

  async connect(change: Record<string, unknown> = {}): Promise<AnyFrame> {
    await this.event("connect.challenge");
    return await this.call("connect", {
      minProtocol: 3,
      maxProtocol: 4,
      client: CLIENT,
      ...change,
    });
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }
}

/** Sends bytes as they are and reads the answer's head. */
export async function rawRequest(
  port: number,
  lines: readonly string[],
): Promise<{ status: number; head: string }> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  try {
    const text = [...lines, "Connection: close", "", ""].join("\r\n");
    await connection.write(new TextEncoder().encode(text));
    const buffer = new Uint8Array(8192);
    const count = await connection.read(buffer) ?? 0;
    const head = new TextDecoder().decode(buffer.subarray(0, count));
    return { status: Number(head.split(" ", 2)[1] ?? 0), head };
  } finally {
    connection.close();
  }
}
