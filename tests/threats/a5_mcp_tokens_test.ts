/**
 * Threat A5: what a login at an MCP server gives is wanted by the server next to
 * it, by a page in the owner's browser, by a model, by whoever reads a log.
 */
import assert from "node:assert/strict";
import { AppError } from "../../src/core/errors.ts";
import { connected, hostOf, openLoginBench } from "../fakes/mcp_login.ts";
import type { LoginBench } from "../fakes/mcp_login.ts";
import { fakeAuthorization } from "../fakes/oauth_server.ts";
import { runTool } from "../fakes/tools.ts";

const code = (want: string, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof AppError, String(error));
  assert.equal(error.code, want);
  assert.match(`${error.message} ${error.hint}`, text);
  return true;
};

async function pay({ registry }: LoginBench): Promise<string> {
  const tool = registry.find("mcp_bank_pay");
  assert.ok(tool !== undefined);
  return (await runTool(tool, {})).text;
}

/** Begins a login and lets the browser agree; the address it came back to. */
async function back(bench: LoginBench): Promise<URL> {
  const { url } = await bench.desk.startLogin("bank", {});
  return new URL(await bench.authorization.browse(url));
}

const NO_LOGIN = code("forbidden", /no login that was begun/);
const tokenCalls = ({ authorization }: LoginBench) =>
  authorization.seen.filter(({ path }) => path === "/token").length;

Deno.test("A5: an answer counts once, for its own login, from its own issuer, in time", async (t) => {
  await using bench = await openLoginBench();
  const { desk, clock } = bench;
  const finish = (url: URL) => desk.finishLogin("bank", { url: url.href });
  const changed = (url: URL, name: string, value?: string) => {
    const next = new URL(url);
    if (value === undefined) next.searchParams.delete(name);
    else next.searchParams.set(name, value);
    return next;
  };

  await t.step("no login was begun", async () => {
    const url = new URL("http://127.0.0.1:18797/mcp/callback?code=a&state=b");
    await assert.rejects(finish(url), NO_LOGIN);
  });
  await t.step("a wrong, a missing, a doubled state", async () => {
    const url = await back(bench);
    await assert.rejects(finish(changed(url, "state", "x")), NO_LOGIN);
    await assert.rejects(finish(changed(url, "state")), NO_LOGIN);
    const twice = new URL(url);
    twice.searchParams.append("state", "x");
    await assert.rejects(finish(twice), NO_LOGIN);
    const parts = { code: url.searchParams.get("code") ?? "" };
    await assert.rejects(desk.finishLogin("bank", parts), NO_LOGIN);
  });
  await t.step("the state of an earlier login", async () => {
    const old = await back(bench);
    await back(bench);
    await assert.rejects(finish(old), NO_LOGIN);
  });
  await t.step("another address than we sent the browser to", async () => {
    const url = await back(bench);
    const elsewhere = new URL(url);
    elsewhere.port = "18798";
    const refusal = code("bad_input", /does not begin with/);
    await assert.rejects(finish(elsewhere), refusal);
    await assert.rejects(
      desk.finishLogin("bank", { url: "javascript:alert(1)" }),
      refusal,
    );
  });
  await t.step("another issuer, or none where one is promised", async () => {
    for (const iss of ["https://evil.test", undefined]) {
      const url = await back(bench);
      const refusal = code("forbidden", /not that authorization server's/);
      await assert.rejects(finish(changed(url, "iss", iss)), refusal);
      // It was used up by that.
      await assert.rejects(finish(url), NO_LOGIN);
    }
  });
  await t.step("a refusal of the owner's, its words cleaned", async () => {
    const url = changed(
      await back(bench),
      "error",
      "access_denied\u001b[2J<b>",
    );
    await assert.rejects(finish(url), code("forbidden", /"access_denied2Jb"/));
  });
  assert.equal(tokenCalls(bench), 0, "nothing was exchanged so far");
  await t.step("somebody else's code is not taken for ours", async () => {
    const other = await back(bench);
    const url = await back(bench);
    const injected = other.searchParams.get("code") ?? "";
    await assert.rejects(
      finish(changed(url, "code", injected)),
      code("upstream", /invalid_grant/),
    );
  });
  await t.step("ten minutes, to the millisecond", async () => {
    const late = await back(bench);
    await clock.tick(600_000);
    await assert.rejects(finish(late), code("forbidden", /ten minutes/));
    const timely = await back(bench);
    await clock.tick(599_999);
    await finish(timely);
    await connected(desk);
    // And never twice.
    await assert.rejects(finish(timely), NO_LOGIN);
  });
});

Deno.test("A5: metadata that points elsewhere is refused with the line to add", async (t) => {
  await using bench = await openLoginBench();
  const { desk, authorization, mcp } = bench;
  const start = () => desk.startLogin("bank", {});
  for (
    const endpoint of ["authorization", "token", "registration", "revocation"]
  ) {
    await t.step(`the ${endpoint} endpoint`, async () => {
      authorization.change = (metadata) => ({
        ...metadata,
        [`${endpoint}_endpoint`]: "https://evil.test/x",
      });
      await assert.rejects(
        start(),
        code(
          "forbidden",
          /add "evil\.test" to mcp\.servers\.bank\.oauth\.hosts/,
        ),
      );
    });
  }
  const metadata = async (
    what: string,
    change: Record<string, unknown>,
    refusal: (error: unknown) => boolean,
  ) => {
    await t.step(what, async () => {
      authorization.change = (before) => ({ ...before, ...change });
      await assert.rejects(start(), refusal);
      authorization.change = (before) => before;
    });
  };
  await metadata(
    "in the clear",
    { token_endpoint: "http://auth.example.com/token" },
    code("forbidden", /without https/),
  );
  await metadata(
    "another issuer than was asked",
    { issuer: "http://127.0.0.1:1" },
    code("upstream", /another one than was asked/),
  );
  for (const methods of [undefined, [], ["plain"]]) {
    await metadata(
      `PKCE ${JSON.stringify(methods)}`,
      { code_challenge_methods_supported: methods },
      code("upstream", /PKCE/),
    );
  }
  const resource = async (
    what: string,
    change: Record<string, unknown>,
    refusal: (error: unknown) => boolean,
  ) => {
    await t.step(what, async () => {
      mcp.change = (before) => ({ ...before, ...change });
      await assert.rejects(start(), refusal);
      mcp.change = (before) => before;
    });
  };
  await resource(
    "an authorization server that is not named",
    { authorization_servers: ["https://evil.test"] },
    code("forbidden", /add "evil\.test"/),
  );
  await resource(
    "metadata of another resource",
    { resource: "https://other.example.com/mcp" },
    code("upstream", /another server than itself/),
  );
  await t.step("metadata behind a header that points away", async () => {
    const { guard } = mcp;
    mcp.guard = () =>
      new Response("no", {
        status: 401,
        headers: {
          "www-authenticate":
            'Bearer resource_metadata="https://evil.test/.well-known/x"',
        },
      });
    await assert.rejects(start(), code("forbidden", /resource metadata.*evil/));
    mcp.guard = guard;
  });
  assert.deepEqual(
    authorization.seen.filter(({ method }) => method === "POST"),
    [],
    "nothing was registered or exchanged",
  );
  await start();
});

Deno.test("A5: a token goes to the server it was given for, and nowhere else", async (t) => {
  await using bench = await openLoginBench();
  const { desk, authorization, mcp, store, clock } = bench;
  await bench.login();
  assert.equal(await pay(bench), "paid");
  const row = await store.mcpTokens.find("bank");
  const access = row?.access?.reveal() ?? "";
  assert.match(access, /^at-/);

  await t.step("not to the authorization server", async () => {
    await clock.tick(3_599_000);
    await pay(bench);
    assert.equal(authorization.renewals, 1);
    const text = authorization.seen.map(({ path, headers, body }) =>
      path + JSON.stringify([...headers]) + body
    ).join();
    assert.ok(!text.includes("at-"), "the socket saw no access token");
  });
  await t.step("not in discovery at the server itself", () => {
    const carried = mcp.asked.filter(({ authorization }) =>
      authorization !== null
    );
    assert.ok(carried.length > 0);
    assert.ok(carried.every(({ path }) => path === "/mcp"));
    return Promise.resolve();
  });
  await t.step("not along a redirect, to another host or its own", async () => {
    await using other = fakeAuthorization();
    for (const to of [`${other.issuer}/mcp`, new URL("/x", mcp.url).href]) {
      const before = mcp.asked.length;
      mcp.instead = () =>
        new Response(null, { status: 307, headers: { location: to } });
      await assert.rejects(
        pay(bench),
        code("upstream", /not carried along a redirect/),
      );
      assert.equal(mcp.asked.length, before + 1);
    }
    mcp.instead = undefined;
    assert.equal(other.seen.length, 0, "nobody else was asked");
  });
  await t.step("not to another address under the same name", async () => {
    const moved = new URL(mcp.url);
    moved.pathname = "/elsewhere";
    const url = mcp.url;
    Object.assign(mcp, { url: moved.href });
    const again = await bench.reopen();
    assert.equal(again.desk.list()[0]?.state, "needs_login");
    Object.assign(mcp, { url });
  });
  await t.step("not as another client", async () => {
    const again = await bench.reopen({
      hosts: [hostOf(authorization)],
      clientId: "other",
    });
    assert.equal(again.desk.list()[0]?.state, "needs_login");
  });
  await t.step(
    "a refresh token not to a host that is no longer named",
    async () => {
      const again = await bench.reopen({ hosts: [] });
      authorization.endAccess();
      const before = authorization.seen.length;
      await assert.rejects(pay(again), code("forbidden", /oauth\.hosts/));
      assert.equal(authorization.seen.length, before);
    },
  );
  await t.step("and is read by nobody", async () => {
    authorization.answerToken = () =>
      Response.json({ error: access, error_description: access }, {
        status: 400,
      });
    await assert.rejects(pay(bench), (error) => {
      assert.ok(error instanceof AppError);
      const text = JSON.stringify([error.message, error.hint, error.details]);
      assert.ok(!text.includes(access), text);
      return true;
    });
    const now = await store.mcpTokens.find("bank");
    const secrets = [access, now?.access?.reveal(), now?.refresh?.reveal()];
    const text = bench.logged.join("\n") + JSON.stringify(desk.list()) +
      JSON.stringify(now) + Deno.inspect(now, { depth: 9 });
    for (const secret of secrets) {
      assert.ok(secret === undefined || !text.includes(secret));
    }
    assert.doesNotMatch(text, /at-[0-9a-f]{8}|rt-[0-9a-f]{8}|code-[0-9a-f]{8}/);
  });
});

Deno.test("A5: a server that moves to another authorization server asks the owner again", async () => {
  await using bench = await openLoginBench();
  await using other = fakeAuthorization();
  const { desk, authorization, mcp } = bench;
  await bench.login();
  const both = { hosts: [hostOf(authorization), hostOf(other)] };
  // Even where its host is named.
  const again = await bench.reopen(both);
  mcp.authorization = other;
  await assert.rejects(
    pay(again),
    code("unauthorized", /authorization server is now "http:\/\/127/),
  );
  const sent = other.seen.map(({ method, body }) => method + body).join();
  assert.doesNotMatch(sent, /POST|rt-|at-/, "no token and no form went there");
  assert.equal(again.desk.list()[0]?.state, "needs_login");
  await assert.rejects(
    again.desk.startLogin("bank", {}),
    code("conflict", /carapace mcp login bank --issuer http:\/\/127/),
  );
  await assert.rejects(
    again.desk.startLogin("bank", { issuer: "https://evil.test" }),
    { code: "conflict" },
  );
  const { url } = await again.desk.startLogin("bank", { issuer: other.issuer });
  await again.desk.finishLogin("bank", { url: await other.browse(url) });
  await connected(again.desk);
  assert.equal(await pay(again), "paid");
  assert.equal(again.desk.list()[0]?.login?.issuer, other.issuer);
  assert.ok(desk.list().length === 1);
});

Deno.test("A5: a renewal is stored before it is used, and a spent token is not used again", async () => {
  await using bench = await openLoginBench();
  const { authorization, store, mcp } = bench;
  await bench.login();
  const before = (await store.mcpTokens.find("bank"))?.refresh?.reveal();
  authorization.endAccess();
  const used: [sent: string | null, stored: string][] = [];
  mcp.instead = async ({ headers }) => {
    // The server has a new token in its hands: the store must have it too.
    const kept = await store.mcpTokens.find("bank");
    const stored = `Bearer ${kept?.access?.reveal()}`;
    used.push([headers.get("authorization"), stored]);
    return undefined;
  };
  assert.equal(await pay(bench), "paid");
  assert.equal(used.length, 1);
  for (const [sent, stored] of used) assert.equal(sent, stored);
  const row = await store.mcpTokens.find("bank");
  assert.notEqual(row?.refresh?.reveal(), before);
  assert.ok(authorization.refresh.has(row?.refresh?.reveal() ?? ""));
  // A desk that knows nothing but the store goes on with the new one.
  authorization.endAccess();
  const again = await bench.reopen();
  assert.equal(await pay(again), "paid");
  assert.equal(authorization.renewals, 2);
});
