/**
 * What went wrong on the way out, in a word and in a sentence. Deno's and
 * Node's own errors hold the whole URL (which can hold a token), so they are
 * read here, classified, and not carried on.
 *
 * Never: a path, a query, a header or a body in an error's text or cause.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";

/** Why a request that was let out came to nothing. */
export type Failure =
  | "dns"
  | "refused"
  | "unreachable"
  | "reset"
  | "tls"
  | "proxy"
  | "protocol"
  | "redirects"
  | "replay"
  | "answer_time"
  | "total_time"
  | "request_size"
  | "port"
  | "size"
  | "inflate"
  | "encoding"
  | "cancelled"
  | "other";

const SIGNS: readonly [Failure, RegExp][] = [
  ["port", /Requests to port \d+ are blocked/],
  ["proxy", /proxy|tunnel/i],
  [
    "dns",
    /dns error|ENOTFOUND|EAI_AGAIN|failed to lookup|no addresses/i,
  ],
  [
    "tls",
    /certificate|altname|self.signed|UnknownIssuer|corrupt message|handshake|TLS|SSL|ERR_CERT/i,
  ],
  ["refused", /connection refused|ECONNREFUSED/i],
  [
    "unreachable",
    /unreachable|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|timed out/i,
  ],
  [
    "reset",
    /reset|ECONNRESET|EPIPE|broken pipe|closed before|unexpected (eof|end)|socket hang up|aborted|incomplete/i,
  ],
  ["protocol", /parse|invalid|HPE_|http2|protocol/i],
];

const WORDS: Readonly<Record<Failure, string>> = {
  dns: "the name could not be resolved",
  refused: "the connection was refused",
  unreachable: "the host could not be reached",
  reset: "the connection broke",
  tls: "the TLS handshake failed",
  proxy: "the proxy did not pass it on",
  protocol: "the answer is not HTTP",
  redirects: "it redirects too often",
  replay: "it redirects, and the request's body cannot be sent twice",
  answer_time: "no answer in time",
  total_time: "the answer did not end in time",
  request_size: "the request's body is too large",
  port: "this port is never used for HTTP",
  size: "the answer is too large",
  inflate: "the answer inflates beyond its limit",
  encoding: "the answer's encoding is broken or unknown",
  cancelled: "the caller left",
  other: "the request failed",
};

const HINTS: Partial<Record<Failure, string>> = {
  dns: "Check the host's spelling and this machine's DNS",
  refused: "Check that the server runs and listens on this port",
  unreachable: "Check this machine's network, or set egress.proxy",
  tls: "Check the host's certificate and this machine's clock",
  proxy: "Check egress.proxy",
};

/** All that an error says, its causes included; for reading, not for showing. */
function innerText(error: unknown): string {
  let text = "";
  let at: unknown = error;
  for (let depth = 0; depth < 4 && at instanceof Error; depth++) {
    const code = "code" in at && typeof at.code === "string" ? at.code : "";
    text += ` ${code} ${at.message}`;
    at = at.cause;
  }
  return text.replaceAll(/https?:\/\/\S+/gi, "").slice(0, 2000);
}

/** Sorts a thrown error into a class. */
export function classify(error: unknown): Failure {
  const text = innerText(error);
  return SIGNS.find(([, sign]) => sign.test(text))?.[0] ?? "other";
}

/**
 * The address or name that Deno's permissions refused, if that is what
 * happened. `fetch` hides it: it throws `TypeError: fetch failed`, and only the
 * cause says which resolved address was denied.
 */
export function findDenied(error: unknown): string | undefined {
  return /Requires net access to "([^"]{1,300})"/.exec(innerText(error))?.[1];
}

/** The failure as an error: `host:port` and the class, nothing of the URL. */
export function failureError(failure: Failure, at: string): AppError {
  const code = failure === "answer_time" || failure === "total_time"
    ? "timeout"
    : ["size", "inflate", "request_size"].includes(failure)
    ? "too_large"
    : failure === "cancelled"
    ? "cancelled"
    : "upstream";
  const hint = HINTS[failure];
  return new AppError(code, `Cannot reach "${at}": ${WORDS[failure]}`, {
    ...(hint === undefined ? {} : { hint }),
    details: { at, failure },
  });
}
