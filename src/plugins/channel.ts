/**
 * A channel plugin: what comes in goes to the one admission as a sender of the
 * plugin's network, what goes out is stored before it is tried.
 *
 * The general outbox does not exist yet, so a message is tried once, at once,
 * and its row says what came of it; after a crash in between that is `unknown`,
 * and it is not sent again.
 *
 * Never: a sender nobody paired starts a turn; a key is delivered twice.
 *
 * @module
 */
import { AppError, errorText, isAbort } from "../core/errors.ts";
import { sha256Hex } from "../core/ids.ts";
import type { Inbound } from "../core/message.ts";
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { Journal } from "../store/journal.ts";
import type { Plugins, PluginSent } from "../store/plugins.ts";
import type { Emitted, PluginWorld } from "./context.ts";
import type { REQUESTS } from "./host_functions.ts";
import { guestLabel, type Instance } from "./instance.ts";
import type { z } from "zod";

/** The network's name a channel plugin's senders have. */
export function channelName(id: string): string {
  return `plugin:${id}`;
}

/** What carrying messages needs. */
export interface ChannelDeps {
  rows: Plugins;
  journal: Journal;
  world: PluginWorld;
  clock: Clock;
  log: Log;
}

/** One message to deliver. */
export interface ChannelMessage {
  /** The same key is delivered once. */
  key: string;
  to: string;
  text: string;
}

/** Cuts a text into what a network takes, at paragraphs where there are some. */
export function chunks(text: string, charsMax: number): string[] {
  const parts: string[] = [];
  let rest = text;
  while (rest.length > charsMax) {
    // Ends: each round takes at least half of what fits.
    const head = rest.slice(0, charsMax);
    const at = [head.lastIndexOf("\n\n"), head.lastIndexOf("\n")].find((n) =>
      n > charsMax / 2
    );
    const end = at ?? (isHighSurrogate(head.at(-1)) ? charsMax - 1 : charsMax);
    parts.push(rest.slice(0, end));
    rest = rest.slice(end).replace(/^\n+/, "");
  }
  if (rest !== "" || parts.length === 0) parts.push(rest);
  return parts;
}

function isHighSurrogate(char = ""): boolean {
  return /^[\uD800-\uDBFF]$/.test(char);
}

/**
 * Delivers through a channel plugin.
 *
 * @throws {AppError} `upstream` when the plugin failed, `conflict` when nobody
 * knows whether an earlier try was delivered
 */
export async function deliver(
  instance: Instance,
  message: ChannelMessage,
  deps: ChannelDeps,
): Promise<void> {
  const { channel } = instance.manifest;
  if (channel === undefined || !instance.can.channel) {
    throw new AppError("forbidden", `Plugin "${instance.id}" is no channel`);
  }
  const parts = chunks(message.text, channel.charsMax);
  for (const [n, text] of parts.entries()) {
    const key = parts.length === 1 ? message.key : `${message.key}#${n}`;
    const part = { ...message, key: key.slice(0, 256), text };
    await deliverPart(instance, part, { deps, sendExport: channel.sendExport });
  }
}

async function deliverPart(
  instance: Instance,
  { key, to, text }: ChannelMessage,
  { deps, sendExport }: { deps: ChannelDeps; sendExport: string },
): Promise<void> {
  const { rows, journal, clock } = deps;
  const { id } = instance;
  const before = await rows.sent(id, key);
  if (before?.state === "sent") return;
  if (before?.state === "sending" || before?.state === "unknown") {
    throw new AppError(
      "conflict",
      `Cannot send "${key}": nobody knows whether it was sent before`,
    );
  }
  const hash = await sha256Hex(text);
  const store = (state: PluginSent["state"], error?: string) =>
    journal.commit([
      rows.sentRow(id, {
        key,
        to: to.slice(0, 256),
        hash,
        state,
        at: clock.now(),
        ...error === undefined ? {} : { error },
      }),
    ]);
  await store("sending");
  try {
    await instance.call({
      export: sendExport,
      what: "channel",
      input: JSON.stringify({ key, to, text }),
      context: { kind: "channel", label: guestLabel(id, clock.now()) },
    });
  } catch (error) {
    await store("failed", errorText(error));
    throw error;
  }
  await store("sent");
}

/** After a start: what was being sent when the process ended is unknown. */
export async function settleUnfinished(
  id: string,
  { rows, journal, log }: ChannelDeps,
): Promise<void> {
  const open = await rows.unfinished(id);
  if (open.length === 0) return;
  await journal.commit(
    open.map((sent) => rows.sentRow(id, { ...sent, state: "unknown" })),
  );
  log("warn", "plugin.sends_unknown", { plugin: id, count: open.length });
}

/** A message from a plugin's network, on its way to the one admission. */
export async function receive(
  instance: Instance,
  event: z.output<(typeof REQUESTS)["carapace_emit"]>,
  deps: ChannelDeps,
): Promise<Emitted> {
  const { clock, world, log } = deps;
  const now = clock.now();
  const inbound: Inbound = {
    id: event.id,
    channel: channelName(instance.id),
    account: event.account,
    sender: {
      id: event.sender.id,
      ...event.sender.name === undefined ? {} : { name: event.sender.name },
    },
    chat: event.chat,
    kind: "message",
    text: event.text,
    images: [],
    label: guestLabel(instance.id, now),
    replyTo: event.chat.id,
    receivedAt: now,
  };
  return await world.receive(inbound, async (text) => {
    try {
      const key = `reply:${event.account}:${event.id}`.slice(0, 240);
      await deliver(instance, { key, to: event.chat.id, text }, deps);
    } catch (error) {
      instance.note("error", errorText(error));
      log("warn", "plugin.reply_not_sent", {
        plugin: instance.id,
        error: errorText(error),
      });
    }
  });
}

/** Asks a channel without a webhook for what came in, until the signal ends. */
export async function poll(
  instance: Instance,
  signal: AbortSignal,
  { clock, log }: Pick<ChannelDeps, "clock" | "log">,
): Promise<void> {
  const { pollExport, pollMs = 30_000 } = instance.manifest.channel ?? {};
  if (pollExport === undefined) return;
  while (!signal.aborted) {
    // Ends when the plugin does.
    try {
      await instance.call({
        export: pollExport,
        what: "poll",
        input: "{}",
        context: {
          kind: "channel",
          label: guestLabel(instance.id, clock.now()),
        },
        signal,
      });
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      log("debug", "plugin.poll_failed", {
        plugin: instance.id,
        error: errorText(error),
      });
    }
    try {
      await clock.sleep(pollMs, signal);
    } catch {
      return; // the plugin was stopped
    }
  }
}
