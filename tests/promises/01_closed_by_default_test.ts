/**
 * Promise 1: without a credential nothing answers but `{status}`; the first
 * start makes the credential; `Host` and `Origin` are checked on every request
 * and on the upgrade; nothing listens beyond loopback.
 */
import assert from "node:assert/strict";
import { ROUTES } from "../../src/gateway/routes.ts";
import { type Gateway, start, tokenOf } from "../process/gateways.ts";
import { readProc, scratch } from "../process/processes.ts";

/** A request as bytes: `fetch` chooses its own Host and Origin. */
async function raw(
  { port }: Gateway,
  line: string,
  headers: Record<string, string>,
): Promise<string> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const lines = Object.entries({
    Host: `127.0.0.1:${port}`,
    Connection: "close",
    ...headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  const text = `${line} HTTP/1.1\r\n${lines.join("")}\r\n`;
  await conn.write(new TextEncoder().encode(text));
  const bytes = new Uint8Array(4096);
  const count = await conn.read(bytes) ?? 0;
  return new TextDecoder().decode(bytes.subarray(0, count));
}

function statusOf(answer: string): number {
  return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
}

const UPGRADE = {
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
};

/** The addresses a port is listened on, as the kernel lists them. */
async function listeningOn(port: number): Promise<string[]> {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const found: string[] = [];
  for (const table of ["tcp", "tcp6"]) {
    const text = await readProc(`/proc/net/${table}`);
    for (const line of text.split("\n")) {
      const [, local = "", , state] = line.trim().split(/\s+/);
      if (state === "0A" && local.endsWith(`:${hex}`)) found.push(local);
    }
  }
  return found;
}

Deno.test("closed by default", async (t) => {
  await using dir = await scratch();
  await using gateway = await start({ dir: dir.path });
  const { url, port } = gateway;
  const token = await tokenOf(gateway);

  await t.step(
    "the first start's credential is in its owner's file only",
    async () => {
      assert.match(token, /^cara_.{43}$/);
      const { mode } = await Deno.stat(`${dir.path}/cli-token`);
      assert.equal((mode ?? 0) & 0o777, 0o600);
      const said = [...gateway.proc.out, ...gateway.proc.err].join("\n");
      assert.ok(!said.includes(token), "nobody looks: no token is shown");
    },
  );
  await t.step("without it, loopback or not, no path answers", async () => {
    const rows = ROUTES.filter(({ scope }) =>
      scope !== "public" && scope !== "handshake"
    ).map(({ method, path }) => ({ method: String(method), path }));
    for (const path of ["/", "/nothing", "/v1", "/../state", "/%2e%2e/x"]) {
      rows.push({ method: "GET", path });
    }
    for (const { method, path } of rows) {
      const verb = /^[A-Z]+$/.test(method) ? method : "GET";
      const answer = await raw(gateway, `${verb} ${path}`, {});
      const status = statusOf(answer);
      assert.ok(status === 401 || status === 400, `${verb} ${path}: ${status}`);
    }
  });
  await t.step("health says its status and nothing else", async () => {
    for (const path of ["/health/live", "/health/ready"]) {
      const answer = await fetch(`${url}${path}`);
      assert.deepEqual(Object.keys(await answer.json()), ["status"]);
      assert.equal(answer.headers.get("set-cookie"), null);
    }
    const told = await fetch(`${url}/health/ready`, {
      headers: { authorization: `Bearer ${token}` },
    });
    assert.ok(
      Object.keys(await told.json()).length > 1,
      "its owner hears more",
    );
  });
  const bearer = { Authorization: `Bearer ${token}` };
  await t.step(
    "another Host is refused, on requests and on the upgrade",
    async () => {
      for (
        const Host of ["evil.example", `evil.example:${port}`, "127.0.0.1:1"]
      ) {
        for (
          const [line, more] of [["GET /v1/models", {}], [
            "GET /ws",
            UPGRADE,
          ]] as const
        ) {
          const answer = await raw(gateway, line, { ...bearer, ...more, Host });
          assert.ok([403, 421].includes(statusOf(answer)), `${line} ${Host}`);
        }
      }
      assert.equal(statusOf(await raw(gateway, "GET /v1/models", bearer)), 200);
      assert.equal(statusOf(await raw(gateway, "GET /ws", UPGRADE)), 101);
    },
  );
  await t.step(
    "another Origin is refused, on requests and on the upgrade",
    async () => {
      for (
        const Origin of [
          "https://evil.example",
          "null",
          `http://localhost.evil:${port}`,
        ]
      ) {
        for (
          const [line, more] of [["GET /v1/models", {}], [
            "GET /ws",
            UPGRADE,
          ]] as const
        ) {
          const answer = await raw(gateway, line, {
            ...bearer,
            ...more,
            Origin,
          });
          assert.equal(statusOf(answer), 403, `${line} ${Origin}`);
        }
      }
    },
  );
  await t.step("a page elsewhere cannot post", async () => {
    const answer = await raw(gateway, "POST /v1/chat/completions", {
      ...bearer,
      "Sec-Fetch-Site": "cross-site",
      "Content-Length": "0",
    });
    assert.equal(statusOf(answer), 403);
  });
  await t.step({
    name: "it listens on loopback and nowhere else",
    ignore: Deno.build.os !== "linux",
    fn: async () => {
      const hex = port.toString(16).toUpperCase().padStart(4, "0");
      assert.deepEqual(await listeningOn(port), [`0100007F:${hex}`]);
    },
  });
});
