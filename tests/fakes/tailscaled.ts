/**
 * This machine's tailscaled as its local API is: HTTP on a Unix socket, one
 * `Host` only, `whois` and `status` with Go's field names and its tabs. And what
 * it would be if it were broken.
 *
 * A test may use the sockets that the `test` task grants, one a file.
 */
import assert from "node:assert/strict";
import { root } from "../process/processes.ts";

/** A node and its user, as a test says it. */
export interface FakeNode {
  login: string;
  id?: string;
  user?: number;
  profile?: number;
  sharer?: number;
  isSharee?: boolean;
  tags?: string[];
  addresses?: string[];
}

/** What is answered: a node, nobody, or something that is none of these. */
export type FakeAnswer =
  | FakeNode
  | "no match"
  | "never"
  | "never its end"
  | "huge"
  | "cut"
  | "not JSON"
  | "error"
  | { body: unknown };

/** The name of this machine's own node. */
export const SELF = { id: "nSELF11CNTRL", address: "100.64.0.1" };

/** The fake. */
export interface FakeTailscaled extends AsyncDisposable {
  readonly socket: string;
  /** What `whois` says, by address without port; else there is no match. */
  readonly nodes: Map<string, FakeAnswer>;
  /** What `whois` was asked, in order. */
  readonly asked: string[];
  /** What is wrong with a request that was made: must stay empty. */
  readonly wrong: string[];
  /** Questions at the same time, at most. */
  mostAtOnce: number;
  state: string;
  /** The addresses of this machine's own node. */
  own: string[];
  /** Answers wait for this, if it is set. */
  hold: Promise<void> | undefined;
}

/** As the program prints a node with its user. */
export function whoisBody(node: FakeNode, address: string): unknown {
  const { login, id = "nPEER11CNTRL", user = 7, profile = user } = node;
  const bits = address.includes(":") ? 128 : 32;
  return {
    Node: {
      ID: 2_481_632,
      StableID: id,
      Name: node.isSharee === true
        ? "device-of-shared-to-user."
        : "phone.tail0fa1e.ts.net.",
      User: user,
      ...(node.sharer === undefined ? {} : { Sharer: node.sharer }),
      Key: `nodekey:${"0".repeat(64)}`,
      KeyExpiry: "2027-01-01T00:00:00Z",
      Machine: `mkey:${"0".repeat(64)}`,
      DiscoKey: `discokey:${"0".repeat(64)}`,
      Addresses: node.addresses ?? [`${address}/${bits}`],
      AllowedIPs: node.addresses ?? [`${address}/${bits}`],
      HomeDERP: 4,
      Hostinfo: {
        OS: "iOS",
        Hostname: "phone",
        ...(node.isSharee === true ? { ShareeNode: true } : {}),
      },
      Created: "2025-01-01T00:00:00Z",
      ...(node.tags === undefined ? {} : { Tags: node.tags }),
      Cap: 127,
      Online: true,
      MachineAuthorized: true,
      ComputedName: "phone",
      ComputedNameWithHost: "phone",
    },
    UserProfile: {
      ID: profile,
      LoginName: login,
      DisplayName: "Somebody",
    },
    CapMap: { "tailscale.com/cap/is-admin": null },
  };
}

/** What a body that has no end is made of. */
function endless(signal: AbortSignal): ReadableStream<Uint8Array> {
  return new ReadableStream({
    pull(controller) {
      if (signal.aborted) controller.close();
      else controller.enqueue(new Uint8Array(65_536).fill(0x20));
    },
  });
}

/** @param name One of the sockets that tests are granted */
export function fakeTailscaled(
  name: "whois" | "tailnet" | "cross-site",
): FakeTailscaled {
  return serveTailscaled(`${root}/tests/.tmp/${name}.sock`);
}

/** The same at any path, for a process of its own. */
export function serveTailscaled(socket: string): FakeTailscaled {
  Deno.mkdirSync(socket.replace(/\/[^/]*$/, ""), { recursive: true });
  remove(socket);
  const over = new AbortController();
  let atOnce = 0;
  const server = Deno.serve(
    { path: socket, signal: over.signal, onListen: () => {} },
    async (request) => {
      fake.mostAtOnce = Math.max(fake.mostAtOnce, ++atOnce);
      try {
        await fake.hold;
        return await answer(fake, request, over.signal);
      } finally {
        atOnce--;
      }
    },
  );
  const fake: FakeTailscaled = {
    socket,
    nodes: new Map(),
    asked: [],
    wrong: [],
    mostAtOnce: 0,
    state: "Running",
    own: [SELF.address],
    hold: undefined,
    [Symbol.asyncDispose]: async () => {
      over.abort();
      await server.finished;
      remove(socket);
      assert.deepEqual(fake.wrong, []);
    },
  };
  return fake;
}

function remove(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function json(value: unknown): Response {
  return new Response(JSON.stringify(value, null, "\t"), {
    headers: { "content-type": "application/json" },
  });
}

async function answer(
  fake: FakeTailscaled,
  request: Request,
  signal: AbortSignal,
): Promise<Response> {
  const { pathname, searchParams } = new URL(request.url);
  // As its handler does: another host, or a page's request, is refused.
  const marks = ["origin", "referer"].filter((one) => request.headers.has(one));
  if (request.headers.get("host") !== "local-tailscaled.sock" || marks[0]) {
    fake.wrong.push(`${request.headers.get("host")} ${marks}`);
    return new Response("invalid localapi request\n", { status: 403 });
  }
  if (request.method !== "GET") fake.wrong.push(request.method);
  if (pathname === "/localapi/v0/status") {
    return json({
      Version: "1.90.1",
      TUN: true,
      BackendState: fake.state,
      TailscaleIPs: fake.own,
      Self: { ID: SELF.id, HostName: "gateway", UserID: 7 },
      Peer: null,
    });
  }
  if (pathname !== "/localapi/v0/whois") {
    fake.wrong.push(pathname);
    return new Response("404 not found\n", { status: 404 });
  }
  const addr = searchParams.get("addr") ?? "";
  fake.asked.push(addr);
  const [, v6, v4] = /^(?:\[([0-9a-f:]+)\]|([0-9.]+)):\d+$/.exec(addr) ?? [];
  const address = v6 ?? v4;
  if (address === undefined) {
    fake.wrong.push(addr);
    return new Response("invalid 'addr' parameter\n", { status: 400 });
  }
  return await answerOf(fake.nodes.get(address), { address, signal });
}

async function answerOf(
  node: FakeAnswer | undefined,
  { address, signal }: { address: string; signal: AbortSignal },
): Promise<Response> {
  const whole = (one: FakeNode) => whoisBody(one, address);
  switch (node) {
    case undefined:
    case "no match":
      return new Response("no match for IP:port\n", { status: 404 });
    case "error":
      return new Response("JSON encoding error\n", { status: 500 });
    case "not JSON":
      return new Response('{"Node": {', { status: 200 });
    case "never":
      await new Promise<void>((done) =>
        signal.addEventListener("abort", () => done())
      );
      return new Response(null, { status: 500 });
    case "huge":
      return new Response(endless(signal));
    case "never its end":
    case "cut": {
      const text = JSON.stringify(whole({ login: "owner@example.com" }));
      return new Response(
        new ReadableStream({
          start(controller) {
            controller.enqueue(new TextEncoder().encode(text));
            const end = () => controller.error(new DOMException("cut"));
            if (node === "cut") setTimeout(end);
            else signal.addEventListener("abort", end);
          },
        }),
      );
    }
  }
  return json("body" in node ? node.body : whole(node));
}
