/**
 * Promise 7: what leaves goes through the door, to the address that was checked:
 * a model cannot make the gateway speak to this machine or to a private network,
 * however the address is written.
 */
import assert from "node:assert/strict";
import { fakeOpenai } from "../fakes/openai.ts";
import { say } from "../fakes/vendor.ts";
import { ask, client, providedBy, start } from "../process/gateways.ts";
import { scratch } from "../process/processes.ts";

/** Counts who comes to a port of this machine that nobody granted. */
function trap(): { port: number; visits: number } & AsyncDisposable {
  const found = { visits: 0 };
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => {
      found.visits++;
      return new Response("a secret of this machine");
    },
  );
  return {
    port: server.addr.port,
    get visits() {
      return found.visits;
    },
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

Deno.test("one door out", async (t) => {
  await using dir = await scratch();
  await using inside = trap();
  await using fake = await fakeOpenai({ script: () => say("ok") });
  await using gateway = await start({
    dir: dir.path,
    env: {
      ...providedBy(fake),
      // Would take every request of a plain fetch, past the allow list.
      HTTP_PROXY: `http://127.0.0.1:${inside.port}`,
      HTTPS_PROXY: `http://127.0.0.1:${inside.port}`,
      CARAPACE_CONFIG_JSON: JSON.stringify({ egress: { open: true } }),
    },
  });
  using one = await client(gateway);
  const { port } = inside;
  for (
    const url of [
      `http://127.0.0.1:${port}/`,
      `http://localhost:${port}/`,
      `http://2130706433:${port}/`,
      `http://0x7f.1:${port}/`,
      `http://[::ffff:127.0.0.1]:${port}/`,
      `http://0.0.0.0:${port}/`,
      `${fake.url}/`,
      "http://169.254.169.254/latest/meta-data/",
      "http://10.0.0.1/",
    ]
  ) {
    await t.step(`not ${url.replace(/:\d{4,5}/, ":PORT")}`, async () => {
      let asked = 0;
      fake.script = () =>
        ++asked === 1
          ? { calls: [{ name: "web_fetch", args: { url } }] }
          : say("so be it");
      const { status } = await ask(one, `fetch ${url}`);
      assert.equal(status, "ok");
      const { content } = fake.requests.at(-1)?.body.messages.at(-1) ?? {};
      assert.doesNotMatch(String(content), /a secret of this machine/);
    });
  }
  await t.step("nobody came, not even by way of the proxy", () => {
    assert.equal(inside.visits, 0);
    assert.ok(fake.requests.length > 0);
  });
});
