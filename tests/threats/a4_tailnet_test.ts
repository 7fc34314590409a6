/**
 * A4: what a browser adds to every request of whatever page it shows is no
 * credential. A login of the tailnet would be one, so it counts only for what
 * this gateway's own page sends, or nothing that is a browser.
 */
import assert from "node:assert/strict";
import { rawRequest } from "../fakes/gateway_house.ts";
import { openTailnetHouse } from "../fakes/tailnet.ts";

const UPGRADE = [
  "Upgrade: websocket",
  "Connection: Upgrade",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
const BROWSER = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0";

Deno.test("A4: another site's page is nobody, whoever's browser shows it", async (t) => {
  await using at = await openTailnetHouse("cross-site", {
    gateway: { origins: ["https://ui.example"] },
  });
  const own = `127.0.0.1:${new URL(at.house.url).port}`;
  const rows: [what: string, lines: string[], get: boolean, post: boolean][] = [
    ["no browser", [], true, true],
    ["no browser, with a name", ["User-Agent: curl/8.5.0"], true, true],
    [
      "its own page, reading",
      [BROWSER, "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"],
      true,
      true,
    ],
    [
      "its own page, writing",
      [BROWSER, `Origin: http://${own}`, "Sec-Fetch-Site: same-origin"],
      true,
      true,
    ],
    [
      "its own page in an older browser",
      [BROWSER, `Origin: http://${own}`],
      true,
      true,
    ],
    [
      "an address that was typed",
      [BROWSER, "Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"],
      true,
      false,
    ],
    [
      "another site's picture",
      [BROWSER, "Sec-Fetch-Site: cross-site"],
      false,
      false,
    ],
    [
      "another site's link",
      [BROWSER, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"],
      false,
      false,
    ],
    [
      "another machine of the tailnet",
      [BROWSER, "Sec-Fetch-Site: same-site"],
      false,
      false,
    ],
    [
      "a site nobody knows",
      [BROWSER, "Sec-Fetch-Site: anything"],
      false,
      false,
    ],
    [
      "two sites",
      ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"],
      false,
      false,
    ],
    ["marks without a site", ["Sec-Fetch-Mode: no-cors"], false, false],
    ["a picture in an old browser", [BROWSER], false, false],
    ["a referring page", ["Referer: https://evil.example/"], false, false],
    ["a cookie", ["Cookie: a=b"], false, false],
    ["a proxy", ["X-Forwarded-For: 203.0.113.9"], false, false],
    ["a proxy that hides", ["Forwarded: for=unknown"], false, false],
    ["one that says so", ["Via: 1.1 cache"], false, false],
    ["one of its own kind", ["X-Real-IP: 203.0.113.9"], false, false],
    ["one for a name", ["X-Forwarded-Host: box.example"], false, false],
    [
      "another origin that may call with a token",
      ["Origin: https://ui.example"],
      false,
      false,
    ],
    [
      "the same, marked",
      ["Origin: https://ui.example", "Sec-Fetch-Site: cross-site"],
      false,
      false,
    ],
    [
      "another name of this gateway",
      [`Origin: http://localhost:${own.split(":")[1]}`],
      false,
      false,
    ],
    [
      "a typed address with an origin",
      [`Origin: http://${own}`, "Sec-Fetch-Site: none"],
      false,
      false,
    ],
    ["another site", ["Origin: https://evil.example"], false, false],
    ["no origin", ["Origin: null"], false, false],
  ];
  const send = (request: string, lines: readonly string[]) =>
    rawRequest(Number(own.split(":")[1]), [
      `${request} HTTP/1.1`,
      `Host: ${own}`,
      ...lines,
    ]);
  const body = ["Content-Type: application/json", "Content-Length: 0"];
  for (const [what, lines, mayGet, mayPost] of rows) {
    await t.step(what, async () => {
      at.tailscaled.asked.length = 0;
      const get = await send("GET /v1/models", lines);
      assert.equal(get.status === 200, mayGet, `${get.status}`);
      if (!mayGet) assert.match(`${get.status}`, /^(401|403)$/);
      const asked = at.tailscaled.asked.length;
      assert.equal(asked > 0, mayGet);
      // Past the door and the check it is only a bad body.
      const post = await send("POST /v1/chat/completions", [...lines, ...body]);
      const isIn = post.status !== 401 && post.status !== 403;
      assert.equal(isIn, mayPost, `${post.status}`);
    });
  }
});

Deno.test("A4: another site's socket is nobody's", async (t) => {
  await using at = await openTailnetHouse("cross-site", {
    gateway: { origins: ["https://ui.example"] },
  });
  const port = Number(new URL(at.house.url).port);
  const own = `http://127.0.0.1:${port}`;
  const connect = async (headers: Record<string, string>) => {
    // The page's own types do not know that others may send headers.
    const socket: WebSocket = Reflect.construct(WebSocket, [
      `${own.replace("http", "ws")}/ws`,
      { headers },
    ]);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.event === "connect.challenge") {
        const client = { id: "x", version: "1", platform: "x", mode: "ui" };
        socket.send(JSON.stringify({
          type: "req",
          id: "1",
          method: "connect",
          params: { minProtocol: 3, maxProtocol: 4, client },
        }));
      }
      if (frame.type === "res") resolve(frame.ok);
    };
    socket.onclose = () => resolve(false);
    const isIn = await promise;
    socket.close();
    return isIn;
  };
  const rows: [headers: Record<string, string>, isIn: boolean][] = [
    [{}, true],
    [{ origin: own }, true],
    [{ origin: own, "sec-fetch-site": "same-origin" }, true],
    [{ referer: `${own}/ui` }, false],
    [{ "sec-fetch-mode": "websocket" }, false],
    [{ origin: "https://ui.example" }, false],
    [{ origin: "https://ui.example", "sec-fetch-site": "cross-site" }, false],
    [{ origin: own, "sec-fetch-site": "none" }, false],
    [{ "sec-fetch-site": "none" }, false],
    [{ "sec-fetch-site": "cross-site" }, false],
  ];
  for (const [headers, isIn] of rows) {
    await t.step(JSON.stringify(headers), async () => {
      assert.equal(await connect(headers), isIn);
    });
  }
  await t.step(
    "an origin that is not allowed is not even upgraded",
    async () => {
      const { status } = await rawRequest(port, [
        "GET /ws HTTP/1.1",
        `Host: 127.0.0.1:${port}`,
        "Origin: https://evil.example",
        ...UPGRADE,
      ]);
      assert.equal(status, 403);
    },
  );
});
