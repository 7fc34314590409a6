/** A4: another site's page, or another name, reaches the local gateway. */
import assert from "node:assert/strict";
import { openGatewayHouse, rawRequest } from "../fakes/gateway_house.ts";

const AUTH = "Authorization: Bearer owner-token";
const UPGRADE = [
  "Upgrade: websocket",
  "Connection: Upgrade",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

Deno.test("A4: every Host and Origin is checked, on HTTP and on the upgrade", async (t) => {
  await using house = await openGatewayHouse({
    deps: {
      config: {
        host: "127.0.0.1",
        port: 0,
        hosts: ["gw.example"],
        origins: ["https://ui.example"],
        trustedProxies: [],
        container: false,
      },
    },
  });
  const { port } = house;
  const own = `127.0.0.1:${port}`;
  const hosts: [host: string | undefined, isGood: boolean][] = [
    [own, true],
    [`localhost:${port}`, true],
    [`LOCALHOST:${port}`, true],
    [`[::1]:${port}`, true],
    ["gw.example", true],
    [`gw.example:${port}`, true],
    ["evil.example", false],
    ["127.0.0.1", false],
    [`127.0.0.1:${port + 1}`, false],
    [`127.0.0.1:${port}.evil.example`, false],
    [`evil.example:${port}`, false],
    ["gw.example.evil.example", false],
    [`0.0.0.0:${port}`, false],
    ["", false],
    [undefined, false],
  ];
  for (const [host, isGood] of hosts) {
    await t.step(`Host ${host ?? "(none)"}`, async () => {
      const line = host === undefined ? [] : [`Host: ${host}`];
      for (const path of ["/v1/models", "/health/live", "/nowhere"]) {
        const { status } = await rawRequest(port, [
          `GET ${path} HTTP/1.1`,
          ...line,
          AUTH,
        ]);
        const want = path === "/nowhere" ? 404 : 200;
        if (isGood) assert.equal(status, want);
        else assert.ok(status === 400 || status === 403, String(status));
      }
      const { status } = await rawRequest(port, [
        "GET /ws HTTP/1.1",
        ...line,
        ...UPGRADE,
      ]);
      if (isGood) assert.equal(status, 101);
      else assert.ok(status === 400 || status === 403, String(status));
    });
  }
  const origins: [origin: string, isGood: boolean][] = [
    [`http://${own}`, true],
    [`http://localhost:${port}`, true],
    ["https://ui.example", true],
    ["https://evil.example", false],
    ["http://ui.example", false],
    ["https://ui.example.evil.example", false],
    ["https://ui.example:8443", false],
    [`http://127.0.0.1:${port + 1}`, false],
    [`https://${own}`, false],
    ["null", false],
    ["", false],
  ];
  for (const [origin, isGood] of origins) {
    await t.step(`Origin ${origin}`, async () => {
      for (const method of ["GET", "POST", "OPTIONS"]) {
        const { status, head } = await rawRequest(port, [
          `${method} /v1/models HTTP/1.1`,
          `Host: ${own}`,
          `Origin: ${origin}`,
          AUTH,
        ]);
        if (!isGood) assert.equal(status, 403);
        else assert.notEqual(status, 403);
        assert.equal(
          /access-control-allow-origin/i.test(head),
          isGood && origin === "https://ui.example",
        );
        assert.doesNotMatch(head, /set-cookie|allow-credentials/i);
      }
      const { status } = await rawRequest(port, [
        "GET / HTTP/1.1",
        `Host: ${own}`,
        `Origin: ${origin}`,
        ...UPGRADE,
      ]);
      assert.equal(status, isGood ? 101 : 403);
    });
  }
});

Deno.test("A4: a mutation that another site sent is refused by Sec-Fetch-Site", async (t) => {
  await using house = await openGatewayHouse();
  const rows: [site: string, isGood: boolean][] = [
    ["same-origin", true],
    ["none", true],
    ["same-site", false],
    ["cross-site", false],
    ["anything", false],
  ];
  for (const [site, isGood] of rows) {
    await t.step(site, async () => {
      const { status } = await rawRequest(house.port, [
        "POST /v1/chat/completions HTTP/1.1",
        `Host: 127.0.0.1:${house.port}`,
        `Sec-Fetch-Site: ${site}`,
        "Content-Type: application/json",
        "Content-Length: 0",
        AUTH,
      ]);
      // Past the door it is only a bad body.
      assert.equal(status === 403, !isGood);
    });
  }
});

Deno.test("A4: a form's content types never reach a handler", async () => {
  await using house = await openGatewayHouse();
  for (
    const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "multipart/form-data; boundary=x",
      "application/json-patch+json",
      "text/plain; application/json",
    ]
  ) {
    const answer = await house.post("/v1/chat/completions", "{}", {
      headers: { "content-type": type },
    });
    assert.equal(answer.status, 415, type);
    await answer.body?.cancel();
  }
});

Deno.test("A4: every answer forbids framing, sniffing and storing", async () => {
  await using house = await openGatewayHouse();
  for (const path of ["/health/live", "/v1/models", "/nowhere", "/a//b"]) {
    const answer = await house.get(path);
    await answer.body?.cancel();
    const { headers } = answer;
    assert.match(
      headers.get("content-security-policy") ?? "",
      /frame-ancestors 'none'/,
    );
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.match(headers.get("cache-control") ?? "", /no-store/);
    assert.equal(headers.get("referrer-policy"), "no-referrer");
  }
});
