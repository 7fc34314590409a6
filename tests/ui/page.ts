/// <reference lib="dom" />
/** The page in a real browser, served by a whole gateway in its sandbox. */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { client, type Gateway, start } from "../process/gateways.ts";
import {
  freePort,
  LAUNCHER_FLAGS,
  Proc,
  root,
  scratch,
} from "../process/processes.ts";
import { openBrowser } from "./browser.ts";

const WAIT = { timeout: 15_000 };
const SHOTS = Deno.env.get("CARAPACE_SHOTS");

/** Runs a verb beside a gateway; what it printed. */
async function carapace(gateway: Gateway, ...words: string[]): Promise<string> {
  await using proc = new Proc(
    ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, ...words],
    {
      env: {
        CARAPACE_STATE_DIR: gateway.dir,
        CARAPACE_PORT: String(gateway.port),
      },
    },
  );
  assert.equal(await proc.code(), 0, proc.err.join("\n"));
  return proc.out.join("\n");
}

async function stateIs(page: Page, text: RegExp): Promise<void> {
  await page.locator("#state").filter({ hasText: text }).waitFor(WAIT);
}

async function said(page: Page, role: string, text: RegExp): Promise<void> {
  await page.locator(`.said[data-role="${role}"]`).filter({ hasText: text })
    .first().waitFor(WAIT);
}

async function say(page: Page, text: string): Promise<void> {
  await page.getByLabel("Message").fill(text);
  await page.keyboard.press("Enter");
}

async function shot(page: Page, name: string): Promise<void> {
  if (SHOTS !== undefined) {
    await page.screenshot({ path: `${SHOTS}/${name}.png` });
  }
}

Deno.test({
  name: "the page in a browser",
  // The browser's own pipes are not this test's.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    await using dir = await scratch();
    await Deno.writeTextFile(
      `${dir.path}/carapace.jsonc`,
      `{ "guard": { "policy": [{ "verdict": "ask", "tool": "math_eval" }] } }`,
      { mode: 0o600 },
    );
    let gateway = await start({ dir: dir.path });
    await using stack = new AsyncDisposableStack();
    stack.defer(() => gateway[Symbol.asyncDispose]());
    const browser = stack.use(await openBrowser());
    const context = await browser.newContext();
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on("pageerror", (error: Error) => complaints.push(error.message));
    const link = JSON.parse(await carapace(gateway, "ui", "--json"));

    await t.step("a stranger's browser is told how to be let in", async () => {
      const other = await (await browser.newContext()).newPage();
      await other.goto(`${gateway.url}/ui/`);
      await stateIs(other, /not paired/);
      await other.getByText("carapace ui").waitFor(WAIT);
      await shot(other, "unpaired");
      await other.close();
    });

    await t.step(
      "the link pairs this browser; its code is gone from the address",
      async () => {
        await page.goto(link.url);
        await stateIs(page, /^connected$/);
        assert.equal(page.url(), `${gateway.url}/ui/`);
      },
    );

    await t.step("the link works once", async () => {
      const other = await (await browser.newContext()).newPage();
      await other.goto(link.url);
      await stateIs(other, /not paired/);
      await other.close();
    });

    await t.step("a question is answered as it streams", async () => {
      await say(page, "hello <b>you</b>");
      await said(page, "user", /hello <b>you<\/b>/);
      await said(page, "assistant", /demo provider/);
    });

    await t.step("an ask shows its card, and the answer goes on", async () => {
      await say(page, "what is 12 * (3 + 4)?");
      const card = page.getByLabel("Approval");
      await card.filter({ hasText: "math_eval" }).waitFor(WAIT);
      await shot(page, "approval");
      await card.getByRole("button", { name: "Allow once" }).click();
      await said(page, "assistant", /84/);
      await card.waitFor({ state: "detached", ...WAIT });
      // The keyboard is where it was: the button it had been on is gone.
      await page.getByLabel("Message").and(page.locator(":focus"))
        .waitFor(WAIT);
      await shot(page, "chat");
    });

    await t.step("a text is read in the order it was written in", async () => {
      await say(page, "see \u202egnp.exe and \u2067more");
      for (const role of ["user", "assistant"]) {
        await said(page, role, /see ⟨U\+202E⟩gnp\.exe and ⟨U\+2067⟩more/);
      }
      const { length } = await page.getByText("\u202e").all();
      assert.equal(length, 0);
    });

    await t.step("a fenced block of code is set apart, as text", async () => {
      await say(page, "look:\n```html\n<b>x</b>\n```\nwell?");
      const code = page.locator('.said[data-role="user"] pre').first();
      await code.waitFor(WAIT);
      assert.equal(await code.textContent(), "<b>x</b>");
    });

    await t.step("no is no", async () => {
      await say(page, "what is 2 * 21?");
      const card = page.getByLabel("Approval");
      await card.getByRole("button", { name: "No" }).click(WAIT);
      await card.waitFor({ state: "detached", ...WAIT });
      const { length } = await page.locator(".said").filter({
        hasText: /\b42\b/,
      })
        .all();
      assert.equal(length, 0);
    });

    await t.step("the key can be used, and read by nobody", async () => {
      const kept = await page.evaluate(async () => {
        const database: IDBDatabase = await new Promise((resolve, reject) => {
          const request = indexedDB.open("carapace");
          request.onsuccess = () => resolve(request.result);
          request.onerror = () => reject(request.error);
        });
        const key: { pair: CryptoKeyPair } = await new Promise((resolve) => {
          const request = database.transaction("device").objectStore("device")
            .get("key");
          request.onsuccess = () => resolve(request.result);
        });
        database.close();
        const { privateKey } = key.pair;
        const tries = await Promise.all(
          (["pkcs8", "jwk"] as const).map((format) =>
            crypto.subtle.exportKey(format as "jwk", privateKey).then(
              () => "read",
              (error: Error) => error.name,
            )
          ),
        );
        return { extractable: privateKey.extractable, tries };
      });
      assert.deepEqual(kept, {
        extractable: false,
        tries: ["InvalidAccessError", "InvalidAccessError"],
      });
    });

    await t.step("nothing ambient: no cookie, no stored text", async () => {
      assert.deepEqual(await context.cookies(), []);
      assert.deepEqual(
        await page.evaluate(() => [localStorage.length, sessionStorage.length]),
        [0, 0],
      );
    });

    await t.step(
      "a text cannot become markup, nor a script run inline",
      async () => {
        const blocked = await page.evaluate(() => {
          const outcome = (act: () => void) => {
            try {
              act();
              return "done";
            } catch (error) {
              return (error as Error).name;
            }
          };
          const script = document.createElement("script");
          return {
            html: outcome(() => document.body.innerHTML = "<i>x</i>"),
            source: outcome(() => script.src = "https://evil.example.com/x.js"),
            inline: (() => {
              const button = document.createElement("button");
              outcome(() =>
                button.setAttribute("onclick", "globalThis.ran = 1")
              );
              button.click();
              return "ran" in globalThis ? "ran" : "did not run";
            })(),
          };
        });
        assert.deepEqual(blocked, {
          html: "TypeError",
          source: "TypeError",
          inline: "did not run",
        });
      },
    );

    await t.step(
      "another site can neither frame it nor speak to the gateway",
      async () => {
        const port = freePort();
        await using _other = Deno.serve(
          { hostname: "127.0.0.1", port, onListen: () => {} },
          () =>
            new Response(`<iframe src="${gateway.url}/ui/"></iframe>`, {
              headers: { "content-type": "text/html" },
            }),
        );
        const evil = await context.newPage();
        const refused: string[] = [];
        evil.on("console", (line) => refused.push(line.text()));
        await evil.goto(`http://127.0.0.1:${port}/`);
        const tried = await evil.evaluate(async (at: string) => {
          const socket = await new Promise((resolve) => {
            const one = new WebSocket(`${at.replace("http", "ws")}/ws`);
            one.onmessage = () => resolve("spoken to");
            one.onerror = () => resolve("refused");
          });
          const read = await fetch(`${at}/v1/models`).then(
            () => "read",
            () => "refused",
          );
          const sent = await fetch(`${at}/v1/chat/completions`, {
            method: "POST",
            mode: "no-cors",
            body: "{}",
          }).then(({ type }) => type, () => "refused");
          return { socket, read, sent };
        }, gateway.url);
        assert.deepEqual(tried, {
          socket: "refused",
          read: "refused",
          sent: "refused",
        });
        assert.ok(refused.some((line) => /frame-ancestors|X-Frame/.test(line)));
        await evil.close();
      },
    );

    await t.step("after a restart the page comes back by itself", async () => {
      const { port } = gateway;
      await gateway[Symbol.asyncDispose]();
      await stateIs(page, /not connected/);
      gateway = await start({ dir: dir.path, port });
      await stateIs(page, /^connected$/);
      await said(page, "assistant", /84/);
    });

    await t.step("a browser that was revoked is out at once", async () => {
      using owner = await client(gateway);
      const { paired } = await owner.call("device.pair.list", {});
      const deviceId = paired[0]?.deviceId ?? "";
      await owner.call("device.token.revoke", { deviceId });
      await stateIs(page, /not paired/);
    });

    assert.deepEqual(complaints, []);
  },
});
