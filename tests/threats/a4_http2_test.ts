/** A4: over TLS clients speak HTTP/2 or 1.1; the names they ask by are checked in both. */
import assert from "node:assert/strict";
import { connect } from "node:http2";
import {
  issueCertificate,
  makeAuthority,
} from "../../src/config/certificates.ts";
import { openGatewayHouse } from "../fakes/gateway_house.ts";

/** A gateway over TLS, by the name `127.0.0.1`, and its certificate. */
async function openTlsHouse() {
  const now = Date.now();
  const authority = await makeAuthority({ name: "test", now });
  const tls = await issueCertificate({
    authority,
    names: ["127.0.0.1"],
    now,
  });
  const house = await openGatewayHouse({
    deps: {
      tls,
      config: {
        host: "127.0.0.1",
        port: 0,
        hosts: [],
        origins: [],
        trustedProxies: [],
        container: false,
        tls: { cert: "cert.pem", key: "key.pem" },
      },
    },
  });
  return {
    house,
    tls,
    [Symbol.asyncDispose]: () => house[Symbol.asyncDispose](),
  };
}

Deno.test("A4: HTTP/1.1 over TLS is answered by our names and by no other", async (t) => {
  await using at = await openTlsHouse();
  const { house: { port }, tls } = at;
  const own = `127.0.0.1:${port}`;
  const ask = async (target: string, hosts: readonly string[]) => {
    using socket = await Deno.connectTls({
      hostname: "127.0.0.1",
      port,
      caCerts: [tls.cert],
      alpnProtocols: ["http/1.1"],
    });
    const head = [
      `GET ${target} HTTP/1.1`,
      ...hosts.map((host) => `Host: ${host}`),
      "Authorization: Bearer owner-token",
      "Connection: close",
    ];
    const bytes = new TextEncoder().encode(`${head.join("\r\n")}\r\n\r\n`);
    await socket.write(bytes);
    const text = await new Response(socket.readable).text();
    return Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]);
  };
  const path = "/v1/models";
  const rows: [why: string, target: string, hosts: string[], want: number][] = [
    ["its own name", path, [own], 200],
    ["another's", path, ["evil.example"], 403],
    // No browser leaves it out, so no page's name is behind it; over TLS the
    // runtime does not tell it from HTTP/2, which has none.
    ["none: where it was reached", path, [], 200],
    ["two", path, [own, "evil.example"], 400],
    ["two, the other way round", path, ["evil.example", own], 400],
    ["an empty one", path, [""], 403],
    ["ours in the target alone", `https://${own}${path}`, [], 200],
    ["another's in the target alone", `https://evil.example${path}`, [], 403],
    ["another's in the target", `https://evil.example${path}`, [own], 400],
    ["ours in the target", `https://${own}${path}`, ["evil.example"], 403],
  ];
  for (const [why, target, hosts, want] of rows) {
    await t.step(why, async () => {
      assert.equal(await ask(target, hosts), want);
    });
  }
});

Deno.test("A4: HTTP/2 is answered by our names and by no other", async (t) => {
  await using at = await openTlsHouse();
  const { house, tls } = at;
  const own = `127.0.0.1:${house.port}`;
  const session = connect(`https://${own}`, { ca: tls.cert });
  session.on("error", () => {});
  const ask = (headers: Record<string, string>) => {
    const { promise, resolve } = Promise.withResolvers<
      { status: number; policy: string; text: string }
    >();
    const request = session.request({
      ":path": "/v1/models",
      authorization: "Bearer owner-token",
      ...headers,
    });
    let text = "";
    let status = 0;
    let policy = "";
    request.setEncoding("utf8");
    request.on("response", (head) => {
      status = Number(head[":status"]);
      policy = String(head["content-security-policy"]);
    });
    request.on("data", (piece) => text += piece);
    request.on("end", () => resolve({ status, policy, text }));
    request.on(
      "error",
      (error) => resolve({ status: 0, policy: "", text: error.message }),
    );
    request.end();
    return promise;
  };
  const rows: [why: string, headers: Record<string, string>, want: number][] = [
    ["its own name", {}, 200],
    ["another's", { ":authority": "evil.example" }, 403],
    ["another's, with our port", {
      ":authority": `evil.example:${house.port}`,
    }, 403],
    ["with a user", { ":authority": `x@${own}` }, 403],
    ["ours, beside another's Host", { ":authority": own, host: "evil" }, 403],
    ["another's, beside our Host", { ":authority": "evil", host: own }, 400],
    ["another site's page", { origin: "https://evil.example" }, 403],
    ["its own page", { origin: `https://${own}` }, 200],
    ["nobody", { authorization: "Bearer nobody" }, 401],
  ];
  for (const [why, headers, want] of rows) {
    await t.step(why, async () => {
      const { status, text } = await ask(headers);
      // What the runtime itself refuses ends the stream.
      assert.ok(
        status === want || want >= 400 && status === 0,
        `${status} ${text}`,
      );
    });
  }
  await t.step("the page may call the name it came by", async () => {
    const { status, policy } = await ask({ ":path": "/ui/" });
    assert.equal(status, 200);
    assert.ok(policy.includes(`wss://${own};`), policy);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  session.close(resolve);
  await promise;
});
