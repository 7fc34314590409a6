/** L1: discovery and links steer nobody; an address can pre-fill, never act. */
import assert from "node:assert/strict";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import {
  issueCertificate,
  makeAuthority,
} from "../../src/config/certificates.ts";
import { Secret } from "../../src/core/secret.ts";
import { systemClock } from "../../src/core/time.ts";
import { GatewayClient } from "../../src/remote/client.ts";
import { makeTrust, UnknownCertificate } from "../../src/remote/trust.ts";
import { client, servicePid, start } from "../process/gateways.ts";
import { readProc, root, scratch } from "../process/processes.ts";

async function* sources(dir: string): AsyncGenerator<string> {
  for await (const entry of Deno.readDir(dir)) {
    const path = `${dir}/${entry.name}`;
    if (entry.isDirectory) yield* sources(path);
    else if (path.endsWith(".ts") && !path.endsWith("_test.ts")) yield path;
  }
}

Deno.test("L1: nothing speaks UDP, announces itself or handles a link", async () => {
  const discovers =
    /listenDatagram|node:dgram|mdns|bonjour|5353|registerProtocolHandler|x-scheme-handler|openclaw:\/\//i;
  const bad: string[] = [];
  for await (const path of sources(`${root}/src`)) {
    if (discovers.test(await Deno.readTextFile(path))) bad.push(path);
  }
  assert.deepEqual(bad, []);
});

Deno.test({
  name: "L1: a running gateway has no UDP socket",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await using state = await scratch();
    await using gateway = await start({ dir: state.path });
    using one = await client(gateway);
    const pid = await servicePid(one);
    const { stdout } = await new Deno.Command("ls", {
      args: ["-l", `/proc/${pid}/fd`],
    }).output();
    const own = [
      ...new TextDecoder().decode(stdout).matchAll(/socket:\[(\d+)\]/g),
    ]
      .map(([, inode]) => inode ?? "");
    const inodes = async (table: string) =>
      (await readProc(`/proc/${pid}/net/${table}`)).split("\n").slice(1)
        .map((line) => line.trim().split(/\s+/)[9] ?? "");
    const tcp = await inodes("tcp");
    assert.ok(own.some((inode) => tcp.includes(inode)), "it listens on TCP");
    for (const table of ["udp", "udp6"]) {
      const udp = await inodes(table);
      assert.deepEqual(own.filter((inode) => udp.includes(inode)), []);
    }
  },
});

/** A TLS server that keeps every byte it is sent. */
async function openEar() {
  const now = Date.now();
  const authority = await makeAuthority({ name: "nobody", now });
  const names = ["127.0.0.1"];
  const { cert, key } = await issueCertificate({ authority, names, now });
  let heard = "";
  const server = createServer({ cert, key }, (socket) => {
    socket.on("data", (bytes: Uint8Array) => {
      heard += new TextDecoder().decode(bytes);
    });
    socket.on("error", () => {});
  });
  server.on("tlsClientError", () => {});
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  return {
    url: `wss://127.0.0.1:${(server.address() as AddressInfo).port}/ws`,
    heard: () => heard,
    [Symbol.asyncDispose]: async () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      server.close(() => resolve());
      await promise;
    },
  };
}

Deno.test("L1: a gateway nobody accepted hears no byte, whatever address names it", async (t) => {
  const pins: [what: string, pin: string | undefined][] = [
    ["never seen", undefined],
    ["another key than the pinned one", `sha256:${"ab".repeat(32)}`],
  ];
  for (const [what, pin] of pins) {
    await t.step(what, async () => {
      await using ear = await openEar();
      const trying = GatewayClient.connect({
        url: ear.url,
        token: new Secret("a-token-that-must-stay-here", "test"),
        tokenHint: "",
        trust: makeTrust({ host: "ear", pin }),
      }, { clock: systemClock });
      await assert.rejects(
        trying,
        (error: Error) =>
          pin === undefined
            ? error instanceof UnknownCertificate
            : /HAS CHANGED/.test(error.message),
      );
      assert.equal(ear.heard(), "");
    });
  }
  await t.step("without a judge, only an authority's word counts", async () => {
    await using ear = await openEar();
    const address = {
      url: ear.url,
      token: new Secret("a-token-that-must-stay-here", "test"),
      tokenHint: "",
    };
    await assert.rejects(
      GatewayClient.connect(address, { clock: systemClock }),
      UnknownCertificate,
    );
    assert.equal(ear.heard(), "");
  });
});
