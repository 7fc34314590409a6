/**
 * `message_send`: says something in another conversation, or to the owner. What
 * carries it there is handed in; without a carrier for an address the call fails
 * and says so.
 *
 * @module
 */
import { z } from "zod";
import type { Authority } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import { join, type Label } from "../core/label.ts";
import { type Tool, tool } from "../core/tool.ts";

/** Something to be delivered. */
export interface Outgoing {
  to: string;
  text: string;
  /** Whose words it is made of; it arrives with this label. */
  label: Label;
  agentId: string;
  runId: string;
  sessionKey: string;
  authority: Authority;
  signal: AbortSignal;
}

/** One way to deliver. */
export interface Carrier {
  /** What its addresses look like, for the model. */
  readonly about: string;
  /** Whether an address is its to deliver to. */
  takes(to: string): boolean;
  /** Resolves with where it went, when it is delivered or stored for delivery. */
  deliver(message: Outgoing): Promise<string>;
}

const TEXT_CHARS_MAX = 16_000;

/** `message_send` over the carriers there are. */
export function messageSend(carriers: readonly Carrier[]): Tool {
  const about = carriers.map((carrier) => carrier.about).join("; ");
  return tool({
    name: "message_send",
    about: `Send a message to somebody. Addresses: ${about}`,
    input: z.strictObject({
      to: z.string().min(1).max(300),
      text: z.string().min(1).max(TEXT_CHARS_MAX),
    }),
    scope: "write",
    effect: "message",
    reach: "owner",
    result: { integrity: "inherit", secrecy: "inherit" },
    destinations: [{ path: "to", kind: "address" }],
    run: async ({ to, text }, context) => {
      const carrier = carriers.find((one) => one.takes(to));
      if (carrier === undefined) {
        throw new AppError("not_found", `Nothing here can send to "${to}"`, {
          hint: `There are: ${about}`,
        });
      }
      const { agentId, runId, sessionKey, authority, signal, now } = context;
      const at = now();
      const label = join(context.label, {
        integrity: "owner",
        secrecy: [],
        origins: [{ kind: "model", ref: sessionKey, at }],
      });
      return await carrier.deliver({
        ...{ to, text, label, agentId, runId, sessionKey },
        ...{ authority, signal },
      });
    },
  });
}
