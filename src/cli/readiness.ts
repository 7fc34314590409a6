/**
 * What a gateway says of itself over HTTP, as checks of the doctor.
 *
 * @module
 */
import { z } from "zod";
import { decodeUtf8, parseJson, readBytes } from "../core/bounded.ts";
import type { Check } from "../ops/local_checks.ts";
import { type GatewayAddress, JSON_LIMITS } from "../remote/handshake.ts";

const ReadyAnswer = z.object({
  status: z.string(),
  checks: z.array(z.object({
    name: z.string(),
    ok: z.boolean(),
    why: z.string().optional(),
  })).default([]),
});

const READY_BYTES_MAX = 262_144;
const READY_MS = 10_000;

/** Asks `GET /health/ready`, which names each check to a token that may read. */
export async function fetchReadiness(
  address: GatewayAddress,
): Promise<Check[]> {
  const url = new URL("/health/ready", address.url);
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  const response = await fetch(url, {
    redirect: "error",
    signal: AbortSignal.timeout(READY_MS),
    headers: address.token === undefined
      ? {}
      : { authorization: `Bearer ${address.token.reveal()}` },
  });
  const text = decodeUtf8(await readBytes(response.body, READY_BYTES_MAX));
  const answer = ReadyAnswer.parse(parseJson(text, JSON_LIMITS));
  if (answer.checks.length === 0) {
    return [{
      name: "readiness",
      state: response.ok ? "ok" : "fail",
      detail: answer.status,
    }];
  }
  return answer.checks.map(({ name, ok, why }) => ({
    name: `ready: ${name}`,
    state: ok ? "ok" : "fail",
    detail: why ?? "works",
    ...(ok ? {} : { fix: "Look at the gateway's log" }),
  }));
}
