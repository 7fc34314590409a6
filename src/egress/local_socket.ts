/**
 * A question to a program on this machine, over its Unix socket: one GET, one
 * answer, within a signal and a size.
 *
 * Measured on Deno 2.9.6: connecting wants read and write of the path and net
 * access to `unix:PATH`, all three; `fetch` through such a socket would want net
 * access to the host's name as well, `node:http` does not.
 *
 * Never: an answer that is larger than was asked for is held; a connection is
 * kept for another question.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import { AppError } from "../core/errors.ts";
import { type Need, need } from "../core/needs.ts";

/** What is asked. */
export interface LocalQuestion {
  /** The socket's path. */
  socket: string;
  /** The `Host` header: such programs look at it. */
  host: string;
  /** Path and query. */
  target: string;
  /** A larger answer is an error. */
  bytesMax: number;
}

/** What was answered. */
export interface LocalAnswer {
  status: number;
  body: string;
}

/** What {@linkcode askLocal} needs of the sandbox: that socket and nothing beside. */
export function localSocketNeeds(socket: string, because: string): Need[] {
  return [
    need("net", `unix:${socket}`, because),
    need("read", socket, because),
    need("write", socket, because),
  ];
}

/**
 * Asks.
 *
 * @throws {AppError} `too_large`; the signal's reason; what the platform says of
 * a socket that is not there or not permitted
 */
export async function askLocal(
  { socket, host, target, bytesMax }: LocalQuestion,
  signal: AbortSignal,
): Promise<LocalAnswer> {
  signal.throwIfAborted();
  const { request } = await import("node:http");
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const sent = request({
    socketPath: socket,
    path: target,
    method: "GET",
    headers: { host, connection: "close" },
    agent: false,
  }, resolve);
  const stop = () => {
    reject(signal.reason);
    sent.destroy(signal.reason);
  };
  sent.on("error", reject);
  signal.addEventListener("abort", stop, { once: true });
  try {
    sent.end();
    const answer = await promise;
    return {
      status: answer.statusCode ?? 0,
      body: await readAll(answer, { bytesMax, signal }),
    };
  } finally {
    signal.removeEventListener("abort", stop);
    sent.destroy();
  }
}

/** The body's text. It ends with the signal even when the stream does not. */
function readAll(
  answer: IncomingMessage,
  { bytesMax, signal }: { bytesMax: number; signal: AbortSignal },
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const stop = () => reject(signal.reason);
  let bytes = 0;
  let text = "";
  answer.on("data", (chunk: Uint8Array<ArrayBuffer>) => {
    bytes += chunk.length;
    if (bytes > bytesMax) {
      reject(
        new AppError("too_large", `It answers more than ${bytesMax} bytes`),
      );
      answer.destroy();
      return;
    }
    try {
      text += decoder.decode(chunk, { stream: true });
    } catch (error) {
      reject(error);
    }
  });
  answer.on("end", () => resolve(text));
  answer.on("error", reject);
  answer.on(
    "close",
    () => reject(new AppError("upstream", "The answer broke off")),
  );
  signal.addEventListener("abort", stop, { once: true });
  return promise.finally(() => signal.removeEventListener("abort", stop));
}
