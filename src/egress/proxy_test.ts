import assert from "node:assert/strict";
import { openProxy } from "../../tests/fakes/proxy.ts";
import { openTlsServer, TEST_CA } from "../../tests/fakes/tls_server.ts";
import { silentLog } from "../core/log.ts";
import { systemClock } from "../core/time.ts";
import { EgressConfig } from "./config.ts";
import { type Egress, makeEgress } from "./egress.ts";

function open(port: number, config: Record<string, unknown> = {}): Egress {
  return makeEgress({
    config: EgressConfig.parse({
      proxy: `http://127.0.0.1:${port}`,
      ...config,
    }),
    clock: systemClock,
    log: silentLog,
    caCerts: [TEST_CA],
    resolve: () => Promise.reject(new TypeError("nobody resolves here")),
  });
}

Deno.test("with a proxy, https is tunnelled and TLS ends at the host", async () => {
  await using server = await openTlsServer((_, response) => response.end("hi"));
  await using proxy = openProxy((host) =>
    host.endsWith(".example.com") ? server.port : undefined
  );
  using egress = open(proxy.port);
  const fetch = egress.door({
    caller: "t",
    hosts: [
      { host: "good.example.com", scheme: "https" },
      { host: "evil.example.com", scheme: "https" },
      { host: "gone.example.org", scheme: "https" },
    ],
  });
  const response = await fetch("https://good.example.com/secret-path");
  assert.equal(await response.text(), "hi");
  const [head = ""] = proxy.heads;
  assert.match(head, /^CONNECT good\.example\.com:443 HTTP\/1\.1\r\n/);
  assert.doesNotMatch(head, /secret-path/);

  await assert.rejects(fetch("https://evil.example.com/"), {
    code: "upstream",
    message: 'Cannot reach "evil.example.com:443": the TLS handshake failed',
  });
  await assert.rejects(fetch("https://gone.example.org/"), {
    code: "upstream",
    message: /the proxy did not pass it on/,
  });
});

Deno.test("with a proxy, http goes in absolute form", async () => {
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    () => new Response("plain"),
  );
  await using proxy = openProxy(() => server.addr.port);
  using egress = open(proxy.port);
  const fetch = egress.door({
    caller: "t",
    hosts: [{ host: "models.example.com", scheme: "http", port: 8080 }],
  });
  const response = await fetch("http://models.example.com:8080/v1/x");
  assert.equal(await response.text(), "plain");
  assert.match(
    proxy.heads[0] ?? "",
    /^GET http:\/\/models\.example\.com:8080\/v1\/x /,
  );
});

Deno.test("with a proxy, the open route still refuses what is plainly not public", async () => {
  await using server = await openTlsServer((_, response) => response.end("hi"));
  await using proxy = openProxy(() => server.port);
  using egress = open(proxy.port, { open: true });
  const fetch = egress.door({ caller: "t", hosts: ["public"] });
  for (
    const url of [
      "https://127.0.0.1/",
      "https://[::1]/",
      "https://0x7f.1/",
      "https://localhost/",
      "https://metadata.google.internal/",
      "https://good.example.com./",
      "http://good.example.com/",
    ]
  ) {
    await assert.rejects(fetch(url), { code: "forbidden" }, url);
  }
  assert.deepEqual(proxy.heads, []);
  const response = await fetch("https://good.example.com/");
  assert.equal(await response.text(), "hi");
});

Deno.test("with a proxy, what a rule names on this machine is reached directly", async () => {
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    () => new Response("here"),
  );
  await using proxy = openProxy(() => undefined);
  using egress = open(proxy.port);
  const { port } = server.addr;
  const fetch = egress.door({
    caller: "t",
    hosts: [{ host: "127.0.0.1", scheme: "http", port }],
  });
  assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), "here");
  assert.deepEqual(proxy.heads, []);
});
