/**
 * OpenClaw's own published client against the sandboxed service: handshake,
 * device pairing, calls and events as it makes and reads them. Answers are held
 * to the schemas of its protocol package.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { createHash, createPrivateKey, createPublicKey } from "node:crypto";
import { GatewayClient } from "@openclaw/gateway-client";
import * as published from "@openclaw/gateway-protocol/schema";
import { Check, Errors } from "typebox/value";
import { METHODS } from "../../src/core/methods.ts";
import { client as ours, start, tokenOf } from "../process/gateways.ts";
import { scratch, until } from "../process/processes.ts";
import { CALLS, type Fit } from "./openclaw_calls.ts";

type Options = ConstructorParameters<typeof GatewayClient>[0];
// deno-lint-ignore no-explicit-any
type Any = any;

const SCHEMAS = published as unknown as Record<string, Any>;

/** How a value stands to a published schema. */
function fitOf(name: string, value: unknown): { fit: Fit; why: string } {
  const schema = SCHEMAS[`${name}Schema`];
  assert.ok(schema !== undefined, `no schema "${name}" is published`);
  if (Check(schema, value)) return { fit: "same", why: "" };
  const errors = [...Errors(schema, value)] as Any[];
  const hard = errors.filter(({ keyword }) =>
    keyword !== "additionalProperties"
  );
  return {
    fit: hard.length === 0 ? "more" : "other",
    why: hard.map(({ instancePath, message }) => `${instancePath} ${message}`)
      .join("; "),
  };
}

/** The client, its hello and the events it was given. */
class Peer implements Disposable {
  readonly events: { event: string; payload: Any }[] = [];
  readonly gaps: unknown[] = [];
  hello: Any;
  readonly client: GatewayClient;
  readonly closed = Promise.withResolvers<string>();

  private constructor(options: Options, done: {
    resolve(hello: unknown): void;
    reject(error: Error): void;
  }) {
    this.client = new GatewayClient({
      ...options,
      onHelloOk: (hello) => done.resolve(this.hello = hello),
      onConnectError: (error) => done.reject(error),
      onEvent: (event) => void this.events.push(event as Any),
      onGap: (gap) => void this.gaps.push(gap),
      onClose: (_code, reason) => this.closed.resolve(reason),
    });
  }

  static async connect(options: Options): Promise<Peer> {
    const done = Promise.withResolvers<unknown>();
    const peer = new Peer(options, done);
    peer.client.start();
    try {
      await done.promise;
    } catch (error) {
      peer.client.stop();
      throw error;
    }
    return peer;
  }

  request(method: string, params: object = {}): Promise<Any> {
    return this.client.request(method, params);
  }

  [Symbol.dispose](): void {
    this.client.stop();
  }
}

/** A device as that client's host keeps it, and the token it was given. */
function makeHost(): { options: Partial<Options>; id: string; kept(): string } {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const pem = (type: "spki" | "pkcs8") =>
    (type === "spki" ? publicKey : privateKey as Any)
      .export({ type, format: "pem" }).toString();
  const rawOf = (text: string) =>
    createPublicKey(text).export({ type: "spki", format: "der" }).subarray(-32);
  const id = createHash("sha256").update(rawOf(pem("spki"))).digest("hex");
  let kept = "";
  return {
    id,
    kept: () => kept,
    options: {
      deviceIdentity: {
        deviceId: id,
        privateKeyPem: pem("pkcs8"),
        publicKeyPem: pem("spki"),
      },
      hostDeps: {
        signDevicePayload: (key, payload) =>
          sign(null, new TextEncoder().encode(payload), createPrivateKey(key))
            .toString("base64url"),
        publicKeyRawBase64UrlFromPem: (text) =>
          rawOf(text).toString("base64url"),
        loadDeviceAuthToken: () => kept === "" ? null : { token: kept },
        storeDeviceAuthToken: ({ token }) => kept = token,
      },
    },
  };
}

Deno.test("OpenClaw's published client against the sandboxed service", async (t) => {
  await using dir = await scratch();
  await using gateway = await start({ dir: dir.path });
  const url = `ws://127.0.0.1:${gateway.port}`;
  const token = await tokenOf(gateway);
  const common = { url, minProtocol: 4, maxProtocol: 4 };

  await t.step("a wrong token is refused", async () => {
    await assert.rejects(
      Peer.connect({ ...common, token: "not-a-token-of-this-gateway" }),
      /not valid/,
    );
  });

  using peer = await Peer.connect({ ...common, token });
  await t.step("it connects with a token and reads what it may do", () => {
    assert.equal(peer.hello.protocol, 4);
    assert.deepEqual(peer.hello.features.methods.length > 50, true);
  });

  for (const { method, params, fit, schema } of CALLS) {
    await t.step(`${method}: ${fit}`, async () => {
      if (fit === "refused") {
        await assert.rejects(peer.request(method, params));
        return;
      }
      const payload = await peer.request(method, params);
      if (schema === undefined) return;
      const found = fitOf(schema, payload);
      assert.equal(found.fit, fit, found.why);
    });
  }

  await t.step("a run is told as it reads it, deltas and end", async () => {
    const { runId } = await peer.request("chat.send", {
      sessionKey: "main",
      message: "what is 6*7?",
      idempotencyKey: "told-1",
    });
    const mine = () =>
      peer.events.filter(({ event, payload }) =>
        event === "chat" && payload.runId === runId
      );
    await until(
      "the end",
      () => mine().some(({ payload }) => payload.state === "final"),
    );
    for (const { payload } of mine()) {
      assert.equal(fitOf("ChatEvent", payload).fit, "same");
    }
    assert.ok(mine().some(({ payload }) => payload.state === "delta"));
    const steps = peer.events.filter(({ event, payload }) =>
      event === "agent" && payload.runId === runId
    );
    for (const { payload } of steps) {
      assert.equal(fitOf("AgentEvent", payload).fit, "more");
    }
    assert.deepEqual(peer.gaps, []);
    const waited = await peer.request("agent.wait", { runId });
    assert.equal(waited.status, "ok");
  });

  await t.step(
    "a device asks, is paired, and comes back with its token",
    async () => {
      const host = makeHost();
      const asked = {
        ...common,
        ...host.options,
        mode: "ui" as Any,
        scopes: ["operator.read", "operator.write"],
      };
      await assert.rejects(Peer.connect(asked), /not paired/);
      const requested = peer.events.find(({ event }) =>
        event === "device.pair.requested"
      );
      assert.equal(requested?.payload.deviceId, host.id);
      assert.equal(
        fitOf("DevicePairRequestedEvent", requested?.payload).fit,
        "more",
      );
      const { requestId } = requested?.payload;
      await peer.request("device.pair.approve", { requestId });
      {
        using device = await Peer.connect(asked);
        assert.deepEqual(
          device.hello.auth.scopes.includes("operator.read"),
          true,
        );
        await device.request("health");
        await assert.rejects(device.request("token.list"), /scope/);
      }
      assert.notEqual(host.kept(), "");
      using again = await Peer.connect({
        ...common,
        ...host.options,
        mode: "ui" as Any,
      });
      await again.request("health");
      await peer.request("device.token.revoke", { deviceId: host.id });
      await again.closed.promise;
    },
  );

  await t.step("it answers as a node what it was paired for", async () => {
    const host = makeHost();
    const asked = {
      ...common,
      ...host.options,
      role: "node",
      mode: "node" as Any,
      clientName: "node-host" as Any,
      caps: ["probe"],
      commands: ["probe.echo"],
      scopes: [],
    };
    await assert.rejects(Peer.connect(asked), /not paired/);
    using owner = await ours(gateway, token);
    const { pending } = await owner.call("node.pair.list", {});
    const requestId = pending[0]?.requestId ?? "";
    await owner.call("node.pair.approve", { requestId });
    using node = await Peer.connect(asked);
    const invoked = peer.request("node.invoke", {
      nodeId: host.id,
      command: "probe.echo",
      params: { word: "hello" },
      idempotencyKey: "invoke-1",
    });
    await until(
      "the question",
      () => node.events.some(({ event }) => event === "node.invoke.request"),
    );
    const { payload } = node.events.find(({ event }) =>
      event === "node.invoke.request"
    ) ?? {};
    assert.equal(fitOf("NodeInvokeRequestEvent", payload).fit, "same");
    await node.request("node.invoke.result", {
      id: payload.id,
      nodeId: host.id,
      ok: true,
      payloadJSON: JSON.stringify({ word: "hello" }),
    });
    const answered = await invoked;
    assert.equal(answered.ok, true);
    assert.match(JSON.stringify(answered), /hello/);
  });

  await t.step("every call that is listed is a method or refused", () => {
    const unknown = CALLS.filter(({ method, fit }) =>
      fit !== "refused" && !(method in METHODS)
    );
    assert.deepEqual(unknown, []);
  });
});
