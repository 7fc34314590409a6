/** The plugins that come with the program, as they are built. */
import { PUBLIC_OWNER } from "../../src/core/label.ts";
import { until } from "../process/processes.ts";
import assert from "node:assert/strict";
import { parse } from "jsonc-parser";
import jsQR from "jsqr";
import { fileURLToPath } from "node:url";
import {
  check,
  guestHashes,
  knownGuests,
  sources,
} from "../../plugins/build.ts";
import { Secret } from "../../src/core/secret.ts";
import { fakeHost } from "../fakes/plugins.ts";

const folder = fileURLToPath(new URL("../../plugins/", import.meta.url));

type Raw = Record<string, unknown>;

async function read(
  id: string,
): Promise<{ manifest: Raw; bytes: Uint8Array<ArrayBuffer> }> {
  const text = await Deno.readTextFile(`${folder}${id}/plugin.jsonc`);
  const manifest: Raw = parse(text);
  const { file } = manifest["wasm"] as { file: string };
  return { manifest, bytes: await Deno.readFile(`${folder}${id}/${file}`) };
}

Deno.test("each is what its source compiles to", async (t) => {
  const all = await sources();
  assert.equal(all.length, 3);
  for (const source of all) {
    await t.step(source.file, async () => {
      assert.equal(await check(source), undefined);
    });
  }
  await t.step("and so is each guest of the tests", async () => {
    assert.deepEqual(await guestHashes(), await knownGuests());
  });
});

/** A drawn code as pixels, read back by another's decoder. */
function decode(svg: string): string | undefined {
  const size = Number(/viewBox="0 0 (\d+)/.exec(svg)?.[1]);
  const scale = 4;
  const side = size * scale;
  const pixels = new Uint8ClampedArray(side * side * 4).fill(255);
  for (const [, x, y, width] of svg.matchAll(/M(\d+) (\d+)h(\d+)/g)) {
    for (let dy = 0; dy < scale; dy++) {
      for (let dx = 0; dx < Number(width) * scale; dx++) {
        const at = (Number(y) * scale + dy) * side + Number(x) * scale + dx;
        pixels.fill(0, at * 4, at * 4 + 3);
      }
    }
  }
  const read = (jsQR as unknown as {
    default: (p: Uint8ClampedArray, w: number, h: number) =>
      | { binaryData: number[] }
      | null;
  }).default ?? jsQR;
  const found = read(pixels, side, side);
  return found === null
    ? undefined
    : new TextDecoder().decode(new Uint8Array(found.binaryData));
}

Deno.test("qr draws codes that a decoder reads", async (t) => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await read("qr");
  const view = await fake.add(manifest, bytes);
  assert.deepEqual([view.state, view.wants], ["ready", []]);
  assert.equal(fake.registry.find("qr_encode")?.implied, undefined);
  const rows: [text: string, level: string][] = [
    ["a", "L"],
    ["https://example.com/?q=1", "M"],
    ["WIFI:T:WPA;S:home;P:p4ss w0rd;;", "Q"],
    ["Grüße, 世界 🌍", "H"],
    ["x".repeat(150), "M"],
    ["y".repeat(271), "L"],
    ["0123456789".repeat(11), "H"],
  ];
  for (const [text, level] of rows) {
    await t.step(`${text.length} characters, level ${level}`, async () => {
      const svg = await fake.call("qr", "encode", {
        text,
        level,
        format: "svg",
      });
      assert.equal(decode(svg), text);
    });
  }
  await t.step("blocks for a terminal", async () => {
    const drawn = await fake.call("qr", "encode", { text: "a" });
    assert.match(drawn, /^█+\n/);
    assert.equal(drawn.trim().split("\n").length, 15);
  });
  await t.step("a thousand calls leave nothing behind", async () => {
    for (let n = 0; n < 1_000; n++) {
      await fake.call("qr", "encode", { text: `${n}` });
    }
    assert.deepEqual(await fake.host.logs("qr", 10), []);
  });
  await t.step("too much is refused with its size", async () => {
    await assert.rejects(
      fake.call("qr", "encode", { text: "z".repeat(271), level: "H" }),
      /the text is too long: 271 bytes/,
    );
  });
});

async function signed(body: string, secret: string): Promise<string> {
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey(
    "raw",
    encoder.encode(secret),
    algorithm,
    false,
    ["sign"],
  );
  const mac = await crypto.subtle.sign("HMAC", key, encoder.encode(body));
  return `sha256=${new Uint8Array(mac).toHex()}`;
}

Deno.test("github-webhook tells the owner what happened, once", async (t) => {
  await using fake = await fakeHost();
  const { manifest, bytes } = await read("github-webhook");
  const secret = "the-webhook-secret";
  await fake.add(manifest, bytes, {
    secrets: { secret: new Secret(secret, "secret GITHUB") },
  });
  const deliver = async (kind: string, event: unknown) => {
    const body = JSON.stringify(event);
    const answer = await fake.host.webhook(
      { id: "github-webhook", name: "events" },
      {
        method: "POST",
        query: new URLSearchParams(),
        headers: new Headers({
          "x-github-event": kind,
          "x-hub-signature-256": await signed(body, secret),
        }),
        body: new TextEncoder().encode(body),
        hasScope: false,
        signal: new AbortController().signal,
      },
    );
    return await answer.text();
  };
  const repository = { full_name: "a/b" };
  const sender = { login: "ann" };
  const push = {
    ref: "refs/heads/main",
    repository,
    pusher: { name: "ann" },
    commits: [{ message: 'Say "hello"\n\nmore' }, { message: "Ü" }],
  };
  const rows: [kind: string, event: unknown, want: string][] = [
    ["ping", { repository, zen: "x" }, "a/b: the webhook works"],
    [
      "push",
      push,
      'a/b: ann pushed 2 commits to main\n- Say "hello"\n- Ü',
    ],
    [
      "issues",
      {
        action: "opened",
        repository,
        sender,
        issue: { number: 7, title: "It breaks", html_url: "https://g.test/7" },
      },
      "a/b: ann opened issue #7 It breaks\nhttps://g.test/7",
    ],
    [
      "pull_request",
      {
        action: "closed",
        repository,
        sender,
        pull_request: { number: 8, title: "Mend", merged: true, html_url: "u" },
      },
      "a/b: ann merged pull request #8 Mend\nu",
    ],
    [
      "workflow_run",
      {
        action: "completed",
        repository,
        workflow_run: {
          name: "CI",
          conclusion: "failure",
          head_branch: "main",
          html_url: "u",
        },
      },
      "a/b: CI ended with failure on main\nu",
    ],
  ];
  for (const [kind, event, want] of rows) {
    await t.step(kind, async () => {
      assert.equal(await deliver(kind, event), "told");
      assert.equal(fake.told.at(-1)?.text, want);
    });
  }
  await t.step("the same again is not told again", async () => {
    assert.match(await deliver("push", push), /duplicate/);
    assert.equal(fake.told.length, rows.length);
  });
  await t.step("what it does not know is ignored", async () => {
    assert.equal(await deliver("star", { repository, n: 1 }), "ignored");
  });
});

Deno.test("ntfy carries messages out and in", async (t) => {
  const posted: { topic: string; body: string; headers: Headers }[] = [];
  const inbox: Raw[] = [];
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const url = new URL(request.url);
      if (request.method === "POST") {
        const body = await request.text();
        const topic = url.pathname.slice(1);
        posted.push({ topic, body, headers: request.headers });
        return Response.json({ id: "x" });
      }
      const since = url.searchParams.get("since");
      const from = inbox.findIndex(({ id }) => id === since) + 1;
      const lines = inbox.slice(from).map((one) => JSON.stringify(one));
      return new Response(`${lines.join("\n")}\n`);
    },
  );
  const { port } = server.addr;
  const { manifest, bytes } = await read("ntfy");
  // As its manifest says to do for a server of one's own.
  const wants = manifest["wants"] as Record<string, Raw[]>;
  const place = { host: "127.0.0.1", scheme: "http", port };
  const own = {
    ...manifest,
    channel: { ...manifest["channel"] as Raw, pollMs: 1_000 },
    wants: {
      ...wants,
      http: [{ ...place, methods: ["GET", "POST"] }],
      secrets: [{ ...wants["secrets"]?.[0], host: "127.0.0.1" }],
    },
  };
  await using fake = await fakeHost();
  const view = await fake.add(own, bytes, {
    config: {
      topic: "alerts",
      inbox: "words",
      server: `http://127.0.0.1:${port}`,
    },
    secrets: { token: new Secret("tk_0123456789", "secret NTFY_TOKEN") },
  });
  assert.equal(view.state, "ready", `${view.why}`);
  await t.step("out, with the token the plugin never sees", async () => {
    const parts = [{
      kind: "text" as const,
      text: "Hällo",
      label: PUBLIC_OWNER,
    }];
    const to = { channel: "plugin:ntfy", account: "default", chat: "" };
    const out = { idempotencyKey: "1", destination: to, parts, by: "owner" };
    await fake.courier.take(out);
    await until("a post", () => posted.length === 1);
    const [sent] = posted;
    assert.deepEqual([sent?.topic, sent?.body], ["alerts", "Hällo"]);
    assert.equal(sent?.headers.get("authorization"), "Bearer tk_0123456789");
    assert.equal(sent?.headers.get("tags"), "carapace");
  });
  await t.step("in, each once, and not what we sent", async () => {
    inbox.push(
      { id: "a1", event: "message", message: "one" },
      { id: "a2", event: "message", message: "ours", tags: ["carapace"] },
      { id: "a3", event: "keepalive" },
      { id: "a4", event: "message", message: "two" },
    );
    while (fake.received.length < 2) {
      await new Promise((done) => setTimeout(done, 50));
    }
    await new Promise((done) => setTimeout(done, 1_200));
    assert.deepEqual(
      fake.received.map(({ inbound }) => [inbound.id, inbound.text]),
      [["a1", "one"], ["a4", "two"]],
    );
    assert.equal(fake.received[0]?.inbound.sender.id, "words");
  });
  await t.step("a reply goes out to the topic", async () => {
    const { channel = "", account = "", chat } = fake.received[0]?.inbound ??
      {};
    await fake.courier.take({
      idempotencyKey: "reply",
      destination: { channel, account, chat: chat?.id ?? "" },
      parts: [{ kind: "text", text: "yes", label: PUBLIC_OWNER }],
      by: "owner",
    });
    await until("the reply", () => posted.length === 2);
    assert.deepEqual([posted[1]?.topic, posted[1]?.body], ["alerts", "yes"]);
  });
});
