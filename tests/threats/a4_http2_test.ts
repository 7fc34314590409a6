/** A4: over TLS clients speak HTTP/2, and the names they ask by are checked too. */
import assert from "node:assert/strict";
import { connect } from "node:http2";
import {
  issueCertificate,
  makeAuthority,
} from "../../src/config/certificates.ts";
import { openGatewayHouse } from "../fakes/gateway_house.ts";

Deno.test("A4: HTTP/2 is answered by our names and by no other", async (t) => {
  const now = Date.now();
  const authority = await makeAuthority({ name: "test", now });
  const tls = await issueCertificate({
    authority,
    names: ["127.0.0.1"],
    now,
  });
  await using house = await openGatewayHouse({
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
