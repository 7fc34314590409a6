/**
 * A login at an MCP server through the whole of it: a launcher and its service
 * in their computed sandbox, the verb as a process of its own, a browser that
 * comes back to it, and a service that is killed.
 */
import assert from "node:assert/strict";
import { EXIT } from "../../src/core/exit.ts";
import { hostOf } from "../fakes/mcp_login.ts";
import {
  type FakeAuthorization,
  fakeAuthorization,
  type GuardedMcp,
  guardedMcp,
} from "../fakes/oauth_server.ts";
import { client, type Gateway, servicePid, start } from "./gateways.ts";
import {
  freePort,
  isAlive,
  LAUNCHER_FLAGS,
  Proc,
  root,
  scratch,
  until,
} from "./processes.ts";
import { carapace, good } from "./verbs.ts";

interface Bench {
  dir: string;
  gateway: Gateway;
  authorization: FakeAuthorization;
  mcp: GuardedMcp;
}

/** The verb as a process whose input and output a test has. */
function verb(
  { dir, gateway }: Pick<Bench, "dir" | "gateway">,
  args: readonly string[],
): Proc {
  return new Proc(
    ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, "mcp", ...args],
    {
      env: { CARAPACE_STATE_DIR: dir, CARAPACE_PORT: String(gateway.port) },
      stdin: "piped",
    },
  );
}

async function pay(gateway: Gateway) {
  using one = await client(gateway);
  const done = await one.call("tools.invoke", { name: "mcp_bank_pay" });
  return done.output?.content[0]?.text ?? done.error?.message;
}

async function listed(gateway: Gateway) {
  using one = await client(gateway);
  return (await one.call("mcp.list", {})).servers[0];
}

async function connected(gateway: Gateway): Promise<void> {
  await until(
    "a connected server",
    async () => (await listed(gateway))?.state === "connected",
  );
}

Deno.test("carapace mcp login: by a browser here, by a pasted address, and over a kill -9", async (t) => {
  await using folder = await scratch();
  const dir = folder.path;
  await using authorization = fakeAuthorization();
  await using mcp = guardedMcp(authorization, [{
    name: "pay",
    answer: "paid",
    annotations: { readOnlyHint: true },
  }]);
  const redirectPort = freePort();
  await Deno.writeTextFile(
    `${dir}/carapace.jsonc`,
    JSON.stringify({
      mcp: {
        servers: {
          bank: {
            url: mcp.url,
            effects: { pay: "none" },
            oauth: { hosts: [hostOf(authorization)], redirectPort },
          },
        },
      },
    }),
  );
  await Deno.chmod(`${dir}/carapace.jsonc`, 0o600);

  await t.step("the sandbox names the line behind each host", async () => {
    const told = await good(dir, ["permissions", "--explain"]);
    assert.match(
      told,
      new RegExp(
        `${hostOf(authorization)}.*mcp\\.servers\\.bank\\.oauth\\.hosts`,
      ),
    );
    assert.doesNotMatch(told, new RegExp(`127.0.0.1:${redirectPort}`));
  });

  let gateway = await start({ dir });
  await using stack = new AsyncDisposableStack();
  stack.defer(() => gateway[Symbol.asyncDispose]());
  const at = () => ({ dir, gateway });
  const list = async () => {
    const ran = await carapace(dir, ["mcp", "list"], {
      CARAPACE_PORT: String(gateway.port),
    });
    return ran.out + ran.err;
  };
  const bearer = (proc: Proc) =>
    proc.line((line) => line.startsWith(authorization.issuer));

  await t.step("it needs one, and says how", async () => {
    const told = await list();
    assert.match(told, /needs login/);
    assert.match(told, /carapace mcp login bank/);
  });

  await t.step("a browser that comes back to this machine", async () => {
    await using proc = verb(at(), ["login", "bank"]);
    const back = await authorization.browse(await bearer(proc));
    assert.equal(new URL(back).port, String(redirectPort));
    await proc.line((line) => line.startsWith("Waiting for"), proc.err);
    const get = async (url: string | URL) => {
      const answer = await fetch(url);
      return [answer.status, await answer.text()] as const;
    };
    const wrong = new URL(back);
    wrong.searchParams.set("state", "x");
    assert.equal((await get(wrong))[0], 400);
    assert.equal((await get(new URL("/", back)))[0], 404);
    const [status, text] = await get(back);
    assert.equal(status, 200);
    assert.doesNotMatch(text, /code|state/);
    assert.equal(await proc.code(), EXIT.ok, proc.err.join("\n"));
    assert.match(proc.out.join("\n"), /logged in to bank/);
    await connected(gateway);
    assert.equal(await pay(gateway), "paid");
    const told = await list();
    assert.match(told, /logged in, scopes read, expires 20.*renews/);
    assert.doesNotMatch(told, /at-|rt-/);
  });

  await t.step(
    "killed after a renewal it goes on with the new token",
    async () => {
      authorization.endAccess();
      assert.equal(await pay(gateway), "paid");
      assert.equal(authorization.renewals, 1);
      using one = await client(gateway);
      const pid = await servicePid(one);
      Deno.kill(pid, "SIGKILL");
      await until("its end", async () => !await isAlive(pid));
      await gateway[Symbol.asyncDispose]();
      gateway = await start({ dir });
      await connected(gateway);
      authorization.endAccess();
      assert.equal(await pay(gateway), "paid");
      assert.equal(authorization.renewals, 2);
    },
  );

  await t.step("nothing of it is in the store's file or the log", async () => {
    const secrets = [...authorization.access, ...authorization.refresh]
      .map(([token]) => token);
    assert.equal(secrets.length, 2);
    const said = [...gateway.proc.out, ...gateway.proc.err].join("\n");
    const decoder = new TextDecoder("latin1");
    const files: string[] = [said];
    for await (const { name, isFile } of Deno.readDir(dir)) {
      if (isFile) {
        files.push(decoder.decode(await Deno.readFile(`${dir}/${name}`)));
      }
    }
    assert.ok(files.length > 3);
    for (const text of files) {
      for (const secret of secrets) assert.ok(!text.includes(secret));
    }
  });

  await t.step("a logout revokes and forgets", async () => {
    await using proc = verb(at(), ["logout", "bank"]);
    assert.equal(await proc.code(), EXIT.ok, proc.err.join("\n"));
    assert.match(proc.out.join("\n"), /^logged out of bank$/m);
    assert.equal(authorization.refresh.size, 0);
    assert.match(String(await pay(gateway)), /needs a login|no tool|not/);
    assert.equal((await listed(gateway))?.state, "needs_login");
  });

  await t.step("a browser elsewhere: its address is pasted", async () => {
    await using proc = verb(at(), ["login", "bank", "--paste"]);
    const back = await authorization.browse(await bearer(proc));
    const writer = proc.child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(`${back}\n`));
    await writer.close();
    assert.equal(await proc.code(), EXIT.ok, proc.err.join("\n"));
    await connected(gateway);
    assert.equal(await pay(gateway), "paid");
  });

  await t.step(
    "what is not a login's answer is refused, as JSON too",
    async () => {
      await using proc = verb(at(), ["login", "bank", "--paste", "--json"]);
      const begun = JSON.parse(await proc.line((line) => line.startsWith("{")));
      assert.equal(begun.waits, false);
      assert.equal(begun.issuer, authorization.issuer);
      const writer = proc.child.stdin.getWriter();
      const answer = `${begun.redirectUri}?code=x&state=y\n`;
      await writer.write(new TextEncoder().encode(answer));
      await writer.close();
      assert.notEqual(await proc.code(), EXIT.ok);
      assert.match(proc.err.join("\n"), /no login that was begun/);
      assert.equal(await pay(gateway), "paid", "the one before is untouched");
    },
  );
});
