/**
 * A receiver of signed webhooks on a real socket: checks the signature as
 * Standard Webhooks says, keeps what it was sent, drops seconds if it promised.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

/** One post, as it arrived. */
export interface Posted {
  id: string;
  text: string;
  chat: string | undefined;
}

/** The receiver. Dispose it to close its port. */
export interface WebhookReceiver extends AsyncDisposable {
  url: string;
  /** Every post with a good signature. */
  posts: Posted[];
  /** What was taken: with `idempotent` each id once. */
  taken: Posted[];
  /** Posts whose signature, time or key was wrong. */
  bad: number;
  /** Answers instead of taking; `undefined` takes. */
  script: (
    posted: Posted,
  ) => Promise<Response | undefined> | Response | undefined;
  /** Runs after it is taken, before it is answered. */
  after: (posted: Posted) => Promise<void> | void;
}

/** Opens one. */
export function webhookReceiver(
  secret: string,
  { idempotent = false } = {},
): WebhookReceiver {
  const receiver: WebhookReceiver = {
    url: "",
    posts: [],
    taken: [],
    bad: 0,
    script: () => undefined,
    after: () => {},
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
  const isSigned = (headers: Headers, body: string): boolean => {
    const id = headers.get("webhook-id") ?? "";
    const timestamp = headers.get("webhook-timestamp") ?? "";
    const isNow = Math.abs(Date.now() / 1000 - Number(timestamp)) < 300;
    const mac = createHmac("sha256", secret)
      .update(`${id}.${timestamp}.${body}`).digest();
    const [version, sent = ""] = (headers.get("webhook-signature") ?? "")
      .split(",");
    const given = Uint8Array.fromBase64(sent);
    return version === "v1" && isNow && given.length === mac.length &&
      headers.get("idempotency-key") === id && timingSafeEqual(given, mac);
  };
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const body = await request.text();
      if (!isSigned(request.headers, body)) {
        receiver.bad++;
        return new Response(null, { status: 401 });
      }
      const { data } = JSON.parse(body);
      const posted = { id: data.id, text: data.text, chat: data.chat };
      receiver.posts.push(posted);
      const answer = await receiver.script(posted);
      if (answer !== undefined) return answer;
      const isSecond = receiver.taken.some(({ id }) => id === posted.id);
      if (!isSecond || !idempotent) receiver.taken.push(posted);
      await receiver.after(posted);
      return new Response(null, { status: 204 });
    },
  );
  receiver.url = `http://127.0.0.1:${server.addr.port}/in`;
  return receiver;
}
