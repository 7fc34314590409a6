/** A9: routes outside the authentication, and paths that are read in two ways. */
import { ROUTES } from "../../src/gateway/routes.ts";
import assert from "node:assert/strict";
import fc from "fast-check";
import { openGatewayHouse, rawRequest } from "../fakes/gateway_house.ts";

const AMBIGUOUS = [
  "//health/live",
  "/health//live",
  "/health/live/..%2f..%2fv1/models",
  "/health/live/../../v1/models",
  "/health/live/%2e%2e/%2e%2e/v1/models",
  "/health/%2e/live",
  "/health%2flive",
  "/health%2Flive",
  "/health%5clive",
  "/health\\live",
  "/health%252flive",
  "/v1%00/models",
  "/health/live;/v1/models",
  "/HEALTH/LIVE",
  "/health/live/",
  "/health/live%20",
  "/health/live%3f",
  "/%68ealth%2flive",
  "/health/live/../../mcp",
  "/health/live%2f..%2f..%2fmcp",
  "/health/ready/..%2f..%2ftools/invoke",
  "/%6dcp",
  "/tools%2finvoke",
  "/tools/./invoke",
  "/v1/models/..%2fmodels",
  "/v1/models/%2e%2e/models",
  "/v1/models/openai%2fgpt",
  "/v1/responses/..",
  "/v1/responses/%2e%2e%2fmodels",
  "/v1/messages/../models",
  "/openapi.json%00",
  "/openapi%2ejson",
  // One byte, many spellings: each begins at a public path and means another.
  "/health/live/%2e%2e%2fv1%2fmodels",
  "/health/live/.%2e/v1/models",
  "/health/live/%2e./v1/models",
  "/health/live/..;/v1/models",
  "/health/live/..%00/v1/models",
  "/health/live/..%0d%0a/v1/models",
  "/health/live/..%c0%af../v1/models",
  "/health/live/%c0%ae%c0%ae/v1/models",
  "/health/live/%e0%80%ae%e0%80%ae/v1/models",
  "/health/live/%uff0e%uff0e/v1/models",
  "/health/live/%u002e%u002e/v1/models",
  "/health/live/\\..\\v1/models",
  "/health/live/..%5cv1/models",
  "/health/live%5c..%5cv1%5cmodels",
  "/health/live/..%255cv1/models",
  "/health/live/%252e%252e/v1/models",
  "/health/live/..%252fv1/models",
  "/health/live/%25252e%25252e/v1/models",
  "/health/live%09",
  "/health/live%0a",
  "/health/live%0d",
  "/health/live%7f",
  "/health/live%1f",
  "/health/live%",
  "/health/live%2",
  "/health/live%zz",
  "/health/live%ff",
  "/health/live%ed%a0%80",
  "/health/live%23",
  "/health/live%3b",
  "/health/live/.",
  "/health/live/..",
  "/./health/live",
  "/../health/live",
  "/health/../health/live",
  "/.health/live",
  "/health.live",
  "/health/liv%65%00",
  "/v1//models",
  "/v1/./models",
  "/v1/models/%2f",
  "/v1/models/a%2f..%2fb",
  "/metrics%2f",
  "/metrics/%2e",
  "///metrics",
  "/ws/..%2fmetrics",
];

Deno.test("A9: no spelling of a path gets past the authentication", async (t) => {
  await using house = await openGatewayHouse();
  assert.ok(new Set(AMBIGUOUS).size >= 60);
  const host = `Host: 127.0.0.1:${house.port}`;
  for (const path of AMBIGUOUS) {
    await t.step(path, async () => {
      const { status } = await rawRequest(house.port, [
        `GET ${path} HTTP/1.1`,
        host,
      ]);
      assert.ok([400, 401].includes(status), String(status));
    });
  }
  await t.step("a target that names another host", async () => {
    for (const target of ["http://evil.example/health/live", "*"]) {
      const { status } = await rawRequest(house.port, [
        `GET ${target} HTTP/1.1`,
        host,
      ]);
      assert.ok(status === 400 || status === 0, String(status));
    }
  });
  await t.step("any path at all", async () => {
    const open = new Set(
      ROUTES.filter(({ scope }) => scope === "public").map(({ path }) => path),
    );
    await fc.assert(
      fc.asyncProperty(fc.webPath(), async (path) => {
        fc.pre(!open.has(path));
        const { status } = await rawRequest(house.port, [
          `GET ${path === "" ? "/" : path} HTTP/1.1`,
          host,
        ]);
        assert.ok([400, 401].includes(status), `${path} ${status}`);
      }),
      { numRuns: 100 },
    );
  });
});

Deno.test("A9: an unknown path is 401 without a token, 404 with one", async () => {
  await using house = await openGatewayHouse();
  for (
    const path of [
      "/nowhere",
      "/v1/nowhere",
      "/ui/x",
      "/ui/app.ts",
      "/api",
      "/mcp/x",
      "/mcpx",
      "/tools",
      "/tools/invoke/x",
      "/v1/models/",
      "/v1/responses/a/b",
      "/v1/messages/count_tokens/x",
      "/openapi.jsonx",
      "/openapi",
    ]
  ) {
    const stranger = await fetch(`${house.url}${path}`);
    assert.equal(stranger.status, 401);
    await stranger.body?.cancel();
    const owner = await house.get(path);
    assert.equal(owner.status, 404);
    await owner.body?.cancel();
  }
  const other = await fetch(`${house.url}/v1/chat/completions`);
  assert.equal(other.status, 401);
  await other.body?.cancel();
  const method = await house.get("/v1/chat/completions");
  assert.equal(method.status, 405);
  await method.body?.cancel();
});
