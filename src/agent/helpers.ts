/**
 * What tools may ask of the agent: a child run, a message to another of the
 * owner's conversations, one question to the agent's own model.
 *
 * Never: more authority than the caller's; a run that outlives its caller's
 * wish to stop it.
 *
 * @module
 */
import type { Channels } from "../channels/channels.ts";
import type { Courier } from "../channels/courier.ts";
import { parseDestination, showDestination } from "../core/channel.ts";
import { AppError } from "../core/errors.ts";
import { makeId, SessionKey } from "../core/ids.ts";
import { label } from "../core/label.ts";
import type { Inbound } from "../core/message.ts";
import type { Clock } from "../core/time.ts";
import type { Sessions } from "../store/sessions.ts";
import type { AskModel } from "../tools/media.ts";
import type { Carrier } from "../tools/message.ts";
import type { RunChild } from "../tools/spawn.ts";
import type { AgentSettings, Models } from "./deps.ts";
import type { Payer } from "./metered.ts";
import type { Turns } from "./turns.ts";

/** What these work on. */
export interface HelperDeps {
  /** The desk; it is made after the tools that lead here. */
  turns(): Turns;
  sessions: Pick<Sessions, "find">;
  clock: Clock;
}

const CHILD_MS = 600_000;
const ANSWER_CHARS_MAX = 65_536;

function inboundOf(
  { text, from, label, now }: {
    text: string;
    from: string;
    label: Inbound["label"];
    now: number;
  },
): Inbound {
  return {
    id: makeId("msg", now),
    channel: "session",
    account: "local",
    sender: { id: from },
    chat: { kind: "direct", id: from },
    kind: "message",
    text,
    images: [],
    label,
    receivedAt: now,
  };
}

/** Runs a task in a conversation of its own; nobody is asked for it. */
export function childRunner({ turns, sessions, clock }: HelperDeps): RunChild {
  return async (child) => {
    const { sessionKey, agentId, authority, signal } = child;
    const { events } = await turns().start({
      inbound: inboundOf({
        text: child.task,
        from: `run:${child.parentRunId}`,
        label: child.label,
        now: clock.now(),
      }),
      authority,
      sessionKey,
      agentId,
      attended: false,
      isPlain: true,
      signal,
      limitMs: CHILD_MS,
    });
    let reply = "";
    let reason = "interrupted";
    for await (const event of events) {
      if (event.kind === "reply") reply = event.text;
      else if (event.kind === "end") {
        reason = event.reason;
        if (reply === "") reply = event.message ?? "";
      }
    }
    signal.throwIfAborted();
    const session = await sessions.find(sessionKey);
    // A conversation that cannot be found has read who knows what.
    const read = session?.joined ?? label("untrusted", child.label.secrecy);
    return { reply, reason, label: read };
  };
}

/** Carries a message into another conversation of the same principal. */
export function sessionCarrier(
  { turns, sessions, clock }: HelperDeps,
): Carrier {
  return {
    about: "a session's key (its agent answers there)",
    takes: (to) => SessionKey.safeParse(to).success,
    deliver: async (message) => {
      const { to, authority, sessionKey, agentId } = message;
      if (to === sessionKey) {
        throw new AppError("bad_input", "That is this very conversation", {
          hint: "Say it in your answer",
        });
      }
      const session = await sessions.find(to);
      if (session?.owner !== authority.principal) {
        throw new AppError("not_found", `There is no session "${to}"`);
      }
      const { runId } = await turns().start({
        inbound: inboundOf({
          text: message.text,
          from: `agent:${agentId}`,
          label: message.label,
          now: clock.now(),
        }),
        authority: authority.narrow({ integrity: message.label.integrity }),
        sessionKey: to,
        agentId: session.agentId,
        attended: false,
        isPlain: true,
      });
      return `Delivered to ${to} as run ${runId}`;
    },
  };
}

/** Asks an agent's own model one thing, without tools. */
export function modelAsker(
  deps: {
    models: Pick<Models, "settle" | "chosen">;
    settings(): AgentSettings;
    /** A stream that is paid for. */
    paid(payer: Payer): Models["stream"];
  },
): AskModel {
  return async (messages, { agentId, authority, sessionKey, signal }) => {
    const { agents, limits } = deps.settings();
    const named = agents[agentId]?.model ?? (await deps.models.chosen()).model;
    const model = await deps.models.settle(named, signal);
    const stream = deps.paid({
      principal: authority.principal,
      credential: authority.credential,
      purses: authority.purses,
      agent: agentId,
      session: sessionKey,
    });
    let text = "";
    const { outputTokensMax } = limits;
    for await (
      const event of stream(model, { messages, outputTokensMax }, signal)
    ) {
      if (event.kind === "text") text += event.text;
      if (text.length > ANSWER_CHARS_MAX) break;
    }
    return text;
  };
}

/** Tells the owner's connected clients; nobody there is an error. */
export function ownerCarrier(
  deps: {
    clock: Clock;
    /** Shows a message in a session to the owner's clients; how many saw it. */
    show(sessionKey: string, message: { runId: string; text: string }): number;
  },
): Carrier {
  return {
    about: '"owner" (whoever is connected now)',
    takes: (to) => to === "owner",
    deliver: ({ text, runId, agentId }) => {
      const seen = deps.show(`agent:${agentId}:main`, { runId, text });
      if (seen > 0) return Promise.resolve(`Shown to the owner (${seen})`);
      throw new AppError("unavailable", "The owner is not connected now", {
        hint: "Say it in your answer, or send it to a session's key",
      });
    },
  };
}

/** Hands a message to the outbox, for a channel there is. */
export function channelCarrier(
  { channels, courier }: {
    channels: Pick<Channels, "find">;
    courier: Pick<Courier, "take">;
  },
): Carrier {
  const accounts = (id: string) => channels.find(id)?.accounts() ?? [];
  return {
    about: "a channel's address (CHANNEL/ACCOUNT/CHAT)",
    takes: (to) => channels.find(to.split("/", 1)[0] ?? "") !== undefined,
    deliver: async ({ to, text, label, runId, authority }) => {
      const destination = parseDestination(to, { accounts });
      const { id } = await courier.take({
        idempotencyKey: `tool:${runId}:${crypto.randomUUID()}`,
        destination,
        parts: [{ kind: "text", text, label }],
        by: authority.principal,
        runId,
      });
      return `On its way to ${showDestination(destination)} as ${id}`;
    },
  };
}
