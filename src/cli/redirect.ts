/**
 * Waits on loopback for the one redirect of a browser (RFC 8252, section 7.3).
 *
 * Never: it listens anywhere but on 127.0.0.1; an answer that does not carry the
 * expected state is taken.
 *
 * @module
 */

/** A listener that waits. */
export interface Redirected extends AsyncDisposable {
  /** The whole address the browser came back to. */
  readonly address: Promise<string>;
}

const HEADERS = {
  "content-type": "text/plain; charset=utf-8",
  "cache-control": "no-store",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
};

function say(status: number, text: string): Response {
  return new Response(`${text}\n`, { status, headers: HEADERS });
}

/** Listens, or answers nothing where that is not possible. */
export function awaitRedirect(
  redirectUri: string,
  state: string,
): Redirected | undefined {
  const meant = new URL(redirectUri);
  const came = Promise.withResolvers<string>();
  try {
    const server = Deno.serve({
      hostname: "127.0.0.1",
      port: Number(meant.port),
      onListen: () => {},
    }, (request) => {
      const url = new URL(request.url);
      if (request.method !== "GET" || url.pathname !== meant.pathname) {
        return say(404, "Nothing is here");
      }
      // Any page may send a browser here: only what we began is ours.
      const said = url.searchParams.getAll("state");
      if (said.length !== 1 || said[0] !== state) {
        return say(400, "This answer belongs to no login that was begun here");
      }
      came.resolve(`${meant.origin}${url.pathname}${url.search}`);
      return say(200, "Done. Look at the terminal; this page may be closed");
    });
    return {
      address: came.promise,
      [Symbol.asyncDispose]: () => server.shutdown(),
    };
  } catch {
    return undefined; // taken, or not granted: the person pastes it
  }
}
