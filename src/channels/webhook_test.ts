import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { webhookReceiver } from "../../tests/fakes/webhook_receiver.ts";
import { SendError } from "../core/channel.ts";
import { silentLog } from "../core/log.ts";
import { Secret } from "../core/secret.ts";
import { systemClock } from "../core/time.ts";
import { EgressConfig } from "../egress/config.ts";
import { makeEgress } from "../egress/egress.ts";
import { channelNeeds, ChannelsConfig, WebhookAccount } from "./config.ts";
import {
  parseRetryAfter,
  signatureHeaders,
  WebhookChannel,
} from "./webhook.ts";

const secret = new Secret("s3cret", "test");

Deno.test("signatureHeaders() sign as Standard Webhooks do", async () => {
  // The key and message of the specification's own example.
  const key = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const headers = await signatureHeaders('{"test": 2432232314}', {
    id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
    secret: new Secret(`whsec_${key}`, "test"),
    now: 1_614_265_330_000,
  });
  const expected = createHmac("sha256", Uint8Array.fromBase64(key)).update(
    'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}',
  ).digest("base64");
  assert.equal(headers["webhook-signature"], `v1,${expected}`);
  assert.equal(headers["webhook-timestamp"], "1614265330");
});

Deno.test("a secret that is no base64 behind whsec_ is refused, unsaid", async () => {
  const bad = new Secret("whsec_%%%", "secret BAD");
  await assert.rejects(
    signatureHeaders("", { id: "x", secret: bad, now: 0 }),
    (error: Error) =>
      /secret BAD/.test(error.message) && !/%%/.test(error.message),
  );
});

Deno.test("parseRetryAfter() reads seconds and dates, and nothing else", () => {
  const now = Date.UTC(2026, 0, 1);
  assert.equal(parseRetryAfter("120", now), 120_000);
  assert.equal(parseRetryAfter("Thu, 01 Jan 2026 00:01:00 GMT", now), 60_000);
  assert.equal(parseRetryAfter("Thu, 01 Jan 2020 00:01:00 GMT", now), 0);
  assert.equal(parseRetryAfter("soon", now), undefined);
  assert.equal(parseRetryAfter(null, now), undefined);
});

Deno.test("what an answer says of a message", async (t) => {
  await using receiver = webhookReceiver("s3cret");
  using egress = makeEgress({
    config: EgressConfig.parse({}),
    clock: systemClock,
    log: silentLog,
  });
  const account = WebhookAccount.parse({ url: receiver.url, secret });
  const channel = new WebhookChannel({
    accounts: () => ({
      a: account,
      gone: { ...account, url: "http://127.0.0.1:9/" },
    }),
    egress,
    clock: systemClock,
  });
  const send = (to: string) =>
    channel.send({
      key: "k",
      destination: { channel: "webhook", account: to, chat: "" },
      text: "hi",
      signal: new AbortController().signal,
    });
  const rows: [number, "no" | "maybe", boolean][] = [
    [400, "no", true],
    [401, "no", true],
    [404, "no", true],
    [302, "no", true],
    [408, "maybe", false],
    [425, "no", false],
    [429, "no", false],
    [500, "maybe", false],
    [502, "maybe", false],
    [503, "no", false],
  ];
  for (const [status, sent, final] of rows) {
    await t.step(`${status}`, async () => {
      const headers = { "retry-after": "7", location: receiver.url };
      receiver.script = () => new Response(null, { status, headers });
      const posts = receiver.posts.length;
      await assert.rejects(send("a"), (error) => {
        assert.ok(error instanceof SendError);
        assert.deepEqual([error.sent, error.final], [sent, final]);
        assert.equal(error.retryAfterMs, 7_000);
        return true;
      });
      assert.equal(receiver.posts.length, posts + 1, "no redirect is followed");
    });
  }
  await t.step("nobody listens: it was not sent", async () => {
    await assert.rejects(send("gone"), (error) => {
      assert.ok(error instanceof SendError);
      assert.deepEqual([error.sent, error.final], ["no", false]);
      return true;
    });
  });
  await t.step("an account that is not there", async () => {
    await assert.rejects(send("nobody"), /channels\.webhook|no webhook/);
  });
});

Deno.test("a receiver is https, or this machine, and is granted exactly", () => {
  const parse = (url: string) =>
    ChannelsConfig.safeParse({ webhook: { a: { url, secret } } });
  for (
    const url of [
      "http://example.com/in",
      "https://user:pw@example.com/",
      "ftp://example.com/",
      "example.com",
      "https://example.com/#x",
    ]
  ) assert.ok(!parse(url).success, url);
  const config = ChannelsConfig.parse({
    webhook: {
      a: { url: "https://example.com/in?x=1", secret },
      b: { url: "http://127.0.0.1:8080/in", secret },
    },
  });
  assert.deepEqual(
    channelNeeds(config).map(({ kind, value }) => [kind, value]),
    [
      ["net", "example.com:443"],
      ["net", "127.0.0.1:8080"],
    ],
  );
});
