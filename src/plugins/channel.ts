/**
 * A channel plugin: what comes in goes to the one admission as a sender of the
 * plugin's network, what goes out is handed to it piece by piece by the outbox.
 *
 * Never: a sender nobody let in starts a turn.
 *
 * @module
 */
import {
  type Capabilities,
  type Channel,
  type Delivered,
  type Out,
  type Received,
  SendError,
} from "../core/channel.ts";
import { AppError, errorText, isAbort } from "../core/errors.ts";
import { join, type Label, label } from "../core/label.ts";
import type { Inbound } from "../core/message.ts";
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import type { PluginWorld } from "./context.ts";
import type { REQUESTS } from "./host_functions.ts";
import { guestLabel, type Instance } from "./instance.ts";
import type { z } from "zod";

/** The network's name a channel plugin's senders have. */
function channelName(id: string): string {
  return `plugin:${id}`;
}

/** A message nobody labelled is the owner's. */
const PRIVATE = label("untrusted", ["owner"]);

/** How a guest says that it cannot know whether its network took a message. */
const UNKNOWN = "failed: unknown:";

/** A channel plugin as a channel. */
export class PluginChannel implements Channel {
  readonly id: string;
  readonly #instance: Instance;
  readonly #clock: Clock;

  constructor(instance: Instance, clock: Clock) {
    this.id = channelName(instance.id);
    this.#instance = instance;
    this.#clock = clock;
  }

  capabilities(): Capabilities {
    const { charsMax = 4096, idempotent = false, markdown = "markdown" } =
      this.#instance.manifest.channel ?? {};
    return {
      charsMax,
      idempotent,
      markdown,
      edits: false,
      media: false,
      threads: false,
    };
  }

  /** A plugin names accounts as it likes; what has none is `default`. */
  accounts(): readonly string[] {
    return ["default"];
  }

  async send(
    { key, destination, text, label, signal }: Out,
  ): Promise<Delivered> {
    const { channel } = this.#instance.manifest;
    if (channel === undefined) {
      throw new SendError("forbidden", `"${this.id}" is no channel`, {
        sent: "no",
        final: true,
      });
    }
    const { account, chat: to } = destination;
    try {
      await this.#instance.call({
        export: channel.sendExport,
        what: "channel",
        input: JSON.stringify({
          key,
          ...account === "default" ? {} : { account },
          to,
          text,
        }),
        context: {
          kind: "channel",
          label: guestLabel(this.#instance.id, this.#clock.now()),
          // To its network it may go; into what it does later it may not.
          carried: label ?? PRIVATE,
        },
        signal,
      });
    } catch (error) {
      this.#instance.note("error", errorText(error));
      throw toSendError(error);
    }
    return {};
  }

  check(): Promise<void> {
    return Promise.resolve();
  }
}

/** A guest that says that it failed did not send; of one that broke nobody knows. */
function toSendError(error: unknown): SendError {
  const isSaid = error instanceof AppError &&
    (error.details?.["said"] === true && !error.message.includes(UNKNOWN) ||
      error.code === "unavailable" || error.code === "rate_limited");
  const code = error instanceof AppError ? error.code : "upstream";
  return new SendError(code, errorText(error), {
    sent: isSaid ? "no" : "maybe",
    cause: error,
  });
}

/** An event of a plugin's network, on its way to the one admission. */
export async function receive(
  instance: Instance,
  event: z.output<(typeof REQUESTS)["carapace_emit"]>,
  { world, clock, seen }: { world: PluginWorld; clock: Clock; seen: Label },
): Promise<Received> {
  const now = clock.now();
  const { name } = event.sender;
  const inbound: Inbound = {
    id: event.id,
    channel: channelName(instance.id),
    account: event.account,
    sender: { id: event.sender.id, ...name === undefined ? {} : { name } },
    chat: event.chat,
    kind: "message",
    mentioned: event.mentioned,
    text: event.text,
    images: [],
    label: join(guestLabel(instance.id, now), seen),
    receivedAt: now,
  };
  return await world.receive(inbound);
}

/** Asks a channel without a webhook for what came in, until the signal ends. */
export async function poll(
  instance: Instance,
  signal: AbortSignal,
  { clock, log }: { clock: Clock; log: Log },
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
