import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import { Secret } from "../../core/secret.ts";
import {
  connected,
  type LoginBench,
  openLoginBench,
} from "../../../tests/fakes/mcp_login.ts";
import { runTool } from "../../../tests/fakes/tools.ts";
import { McpConfig, mcpNeeds } from "./config.ts";
import { OAuthPlaces } from "./oauth_config.ts";

async function pay({ registry }: LoginBench): Promise<string> {
  const tool = registry.find("mcp_bank_pay");
  assert.ok(tool !== undefined);
  return (await runTool(tool, {})).text;
}

const needsLogin = (error: unknown) =>
  error instanceof AppError && error.code === "unauthorized" &&
  /carapace mcp login bank/.test(error.hint ?? "");

Deno.test("a login registers, proves itself with PKCE, and its token reaches the server", async () => {
  await using bench = await openLoginBench();
  const { desk, authorization, mcp, clock, store } = bench;
  assert.equal(desk.list()[0]?.state, "needs_login");
  assert.equal(mcp.asked.length, 0, "without a login nothing is asked");
  const begun = await desk.startLogin("bank", {});
  const url = new URL(begun.url);
  assert.equal(begun.issuer, authorization.issuer);
  assert.equal(url.origin, authorization.issuer);
  assert.equal(url.searchParams.get("code_challenge_method"), "S256");
  assert.equal(url.searchParams.get("resource"), mcp.url);
  assert.equal(url.searchParams.get("redirect_uri"), begun.redirectUri);
  // What the server's refusal asked for, not all that it knows.
  assert.deepEqual(begun.scopes, ["read"]);
  await desk.finishLogin("bank", {
    url: await authorization.browse(begun.url),
  });
  await connected(desk);
  assert.equal(await pay(bench), "paid");
  const [view] = desk.list();
  assert.equal(view?.login?.issuer, authorization.issuer);
  assert.deepEqual(view?.login?.scopes, ["read"]);
  assert.equal(view?.login?.expiresAt, clock.now() + 3_600_000);
  const row = await store.mcpTokens.find("bank");
  assert.ok(row?.access instanceof Secret && row.refresh instanceof Secret);
});

Deno.test("a configured client is used with its secret, and none is registered", async () => {
  await using bench = await openLoginBench({
    clientId: "house",
    clientSecret: new Secret("s3cret-of-house", "test"),
    scopes: ["write"],
  });
  const { authorization, desk, store } = bench;
  authorization.clients.set("house", {
    redirectUris: ["http://127.0.0.1:18797/mcp/callback"],
    secret: "s3cret-of-house",
  });
  await bench.login();
  assert.equal(await pay(bench), "paid");
  assert.deepEqual(desk.list()[0]?.login?.scopes, ["write"]);
  assert.ok(!authorization.seen.some(({ path }) => path === "/register"));
  const row = await store.mcpTokens.find("bank");
  assert.equal(row?.client.secret, undefined, "it stays the configuration's");
  // Also after a restart the secret comes from there.
  authorization.endAccess();
  const again = await bench.reopen();
  assert.equal(await pay(again), "paid");
  assert.equal(authorization.renewals, 1);
});

Deno.test("a token is renewed before it ends, and once when it is refused before", async () => {
  await using bench = await openLoginBench();
  const { authorization, clock } = bench;
  await bench.login();
  await clock.tick(3_600_000 - 30_001);
  assert.equal(await pay(bench), "paid");
  assert.equal(authorization.renewals, 0);
  await clock.tick(1);
  assert.equal(await pay(bench), "paid");
  assert.equal(authorization.renewals, 1);
  authorization.endAccess();
  const all = await Promise.all([pay(bench), pay(bench), pay(bench)]);
  assert.deepEqual(all, ["paid", "paid", "paid"]);
  assert.equal(authorization.renewals, 2, "many at once renew once");
});

Deno.test("what cannot be renewed needs a login, says so, and comes back with one", async () => {
  await using bench = await openLoginBench();
  const { authorization, desk, mcp } = bench;
  await bench.login();
  authorization.endAccess();
  authorization.refresh.clear();
  await assert.rejects(pay(bench), needsLogin);
  const [view] = desk.list();
  assert.equal(view?.state, "needs_login");
  assert.match(view?.why ?? "", /does not renew/);
  const asked = mcp.asked.length;
  await assert.rejects(pay(bench), needsLogin);
  assert.equal(mcp.asked.length, asked, "nothing is asked without a login");
  await bench.login();
  assert.equal(await pay(bench), "paid");
});

Deno.test("an authorization server that cannot be reached ends no login", async () => {
  await using bench = await openLoginBench();
  const { authorization, desk, clock } = bench;
  await bench.login();
  const answers: (() => Response)[] = [
    () => new Response("busy", { status: 503 }),
    () => Response.json({ error: "temporarily_unavailable" }, { status: 400 }),
    () => new Response("<html>", { status: 200 }),
  ];
  await clock.tick(3_590_000);
  for (const answer of answers) {
    authorization.answerToken = answer;
    assert.equal(await pay(bench), "paid", "it is good for ten seconds more");
  }
  await clock.tick(10_000);
  for (const answer of answers) {
    authorization.answerToken = answer;
    await assert.rejects(pay(bench), { code: "upstream" });
  }
  assert.equal(desk.list()[0]?.state, "connected");
  authorization.answerToken = undefined;
  assert.equal(await pay(bench), "paid");
});

Deno.test("a server whose tokens end without a refresh token says when it is over", async () => {
  await using bench = await openLoginBench();
  const { authorization } = bench;
  const { desk } = bench;
  const begun = await desk.startLogin("bank", {});
  const url = await authorization.browse(begun.url);
  authorization.answerToken = () => {
    const family = {
      client: "",
      resource: bench.mcp.url,
      scope: "",
      isOver: false,
    };
    authorization.access.set("at-only", family);
    return Response.json({ access_token: "at-only", token_type: "bearer" });
  };
  await desk.finishLogin("bank", { url });
  await connected(desk);
  assert.equal(await pay(bench), "paid");
  assert.equal(desk.list()[0]?.login?.renews, false);
  authorization.endAccess();
  await assert.rejects(pay(bench), needsLogin);
});

Deno.test("a login outlives a restart, and a logout ends it there and here", async () => {
  await using bench = await openLoginBench();
  await bench.login();
  const { authorization, store } = bench;
  const again = await bench.reopen();
  assert.equal(await pay(again), "paid");
  const row = await store.mcpTokens.find("bank");
  const held = [row?.refresh?.reveal(), row?.access?.reveal()];
  assert.deepEqual(await again.desk.logout("bank"), { revoked: true });
  assert.deepEqual(authorization.revoked, held);
  assert.equal(await store.mcpTokens.find("bank"), undefined);
  await assert.rejects(pay(again), needsLogin);
  assert.equal(again.desk.list()[0]?.state, "needs_login");
  assert.deepEqual(await again.desk.logout("bank"), { revoked: false });
});

Deno.test("the sandbox holds the server's host and those that are named, each with its line", () => {
  const { servers } = McpConfig.parse({
    servers: {
      a: {
        url: "https://mcp.example.com/mcp",
        oauth: { hosts: ["auth.example.com", "login.example.org:8443"] },
      },
      b: { url: "https://b.example.com/", oauth: {} },
    },
  });
  assert.deepEqual(
    mcpNeeds(servers).map(({ value, because }) => [value, because]),
    [
      ["mcp.example.com:443", "mcp.servers.a.url"],
      ["auth.example.com:443", "mcp.servers.a.oauth.hosts"],
      ["login.example.org:8443", "mcp.servers.a.oauth.hosts"],
      ["b.example.com:443", "mcp.servers.b.url"],
    ],
  );
});

Deno.test("oauth is refused where it would be in the clear, or beside another credential", () => {
  const parse = (server: Record<string, unknown>) =>
    McpConfig.safeParse({ servers: { a: { oauth: {}, ...server } } }).success;
  const secret = new Secret("t", "test");
  const url = "https://mcp.example.com/";
  assert.ok(parse({ url }));
  assert.ok(parse({ url: "http://127.0.0.1:99/mcp" }));
  assert.ok(!parse({ url: "http://mcp.example.com/" }));
  assert.ok(!parse({ url: "http://127.0.0.2/" }));
  assert.ok(!parse({ url, token: secret }));
  assert.ok(!parse({ url, headers: { Authorization: secret } }));
  assert.ok(!parse({ url, oauth: { clientSecret: secret } }));
  const bad = ["*.example.com", "https://x.com", "a/b", "a b", "u@h", ""];
  for (const host of bad) {
    assert.ok(!parse({ url, oauth: { hosts: [host] } }), host);
  }
  for (const port of [1_023, 65_536]) {
    assert.ok(!parse({ url, oauth: { redirectPort: port } }));
  }
});

Deno.test("OAuthPlaces.check() takes named hosts by https, loopback by http too", () => {
  const places = new OAuthPlaces("a", new URL("https://mcp.example.com/x"), {
    hosts: ["auth.example.com", "127.0.0.1:9000"],
    redirectPort: 18_797,
  });
  const isTaken = (text: string) => {
    try {
      return places.check(text, "metadata") instanceof URL;
    } catch (error) {
      assert.ok(error instanceof AppError && error.code === "forbidden");
      return false;
    }
  };
  for (
    const text of [
      "https://mcp.example.com/other",
      "https://auth.example.com:443/x",
      "http://127.0.0.1:9000/token",
    ]
  ) assert.ok(isTaken(text), text);
  for (
    const text of [
      "http://auth.example.com/",
      "https://auth.example.com:8443/",
      "https://auth.example.com.evil.test/",
      "https://evil.test/",
      "https://user@auth.example.com/",
      "http://127.0.0.1:9001/",
      "javascript:alert(1)",
      "nothing",
    ]
  ) assert.ok(!isTaken(text), text);
  assert.throws(
    () => places.check("https://evil.test/", "token endpoint"),
    (error) =>
      error instanceof AppError &&
      /add "evil\.test" to mcp\.servers\.a\.oauth\.hosts/.test(
        error.hint ?? "",
      ),
  );
});
