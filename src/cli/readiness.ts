/**
 * What a gateway says of itself over HTTP, as checks of the doctor.
 *
 * @module
 */
import { z } from "zod";
import { decodeUtf8, parseJson, readBytes } from "../core/bounded.ts";
import type { Check } from "../ops/local_checks.ts";
import { type GatewayAddress, JSON_LIMITS } from "../remote/handshake.ts";
import { makeTrust } from "../remote/trust.ts";

const ReadyAnswer = z.object({
  status: z.string(),
  checks: z.array(z.object({
    name: z.string(),
    ok: z.boolean(),
    why: z.string().optional(),
    fix: z.string().optional(),
  })).default([]),
});

const READY_BYTES_MAX = 262_144;
const READY_MS = 10_000;

/** Asks `GET /health/ready`, which names each check to a token that may read. */
export async function fetchReadiness(
  address: GatewayAddress,
): Promise<Check[]> {
  const { body: text, isOk } = await get(address);
  const answer = ReadyAnswer.parse(parseJson(text, JSON_LIMITS));
  if (answer.checks.length === 0) {
    return [{
      name: "readiness",
      state: isOk ? "ok" : "fail",
      detail: answer.status,
    }];
  }
  return answer.checks.map(({ name, ok, why, fix }) => ({
    name: `ready: ${name}`,
    state: ok ? "ok" : "fail",
    detail: why ?? "works",
    ...(ok ? {} : { fix: fix ?? "Look at the gateway's log" }),
  }));
}

async function get(
  address: GatewayAddress,
): Promise<{ body: string; isOk: boolean }> {
  const url = new URL("/health/ready", address.url);
  const signal = AbortSignal.timeout(READY_MS);
  const headers: Record<string, string> = {};
  if (address.token !== undefined) {
    headers["authorization"] = `Bearer ${address.token.reveal()}`;
  }
  if (url.protocol === "wss:") {
    const { getOverTls } = await import("../egress/tls.ts");
    const trust = address.trust ??
      makeTrust({ host: url.host, pin: undefined });
    const { status, body } = await getOverTls(url, { trust, signal, headers });
    return { body, isOk: status === 200 };
  }
  url.protocol = "http:";
  const response = await fetch(url, { redirect: "error", signal, headers });
  const bytes = await readBytes(response.body, READY_BYTES_MAX);
  return { body: decodeUtf8(bytes), isOk: response.ok };
}
