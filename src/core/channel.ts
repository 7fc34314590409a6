/**
 * A way to a chat network: what goes out, what comes in, and what the network
 * can do. Every network is one implementation; what is common to all (order,
 * retries, chunks, who is served) is not theirs.
 *
 * Never: a channel decides who is served or what may be said; it is handed what
 * was decided.
 *
 * @module
 */
import { z } from "zod";
import { AppError, type AppErrorOptions, type ErrorCode } from "./errors.ts";
import type { Label } from "./label.ts";
import { Inbound } from "./message.ts";

/** A channel's name: a network's, or `plugin:<id>`. */
export const ChannelId = Inbound.shape.channel;

/** A place messages go to, as its network names it. */
export const Destination = z.strictObject({
  channel: ChannelId,
  account: z.string().min(1).max(128),
  /** Empty where the account itself says where its messages go. */
  chat: z.string().max(256),
  thread: z.string().max(256).optional(),
});
export type Destination = z.infer<typeof Destination>;

/** What a network can do. */
export const Capabilities = z.strictObject({
  /** UTF-16 units of one message. */
  charsMax: z.int().min(16).max(1_048_576),
  /** A second message with the same key is dropped by the network. */
  idempotent: z.boolean(),
  /** How it writes emphasis; `none` gets plain text. */
  markdown: z.enum(["none", "markdown", "own"]),
  edits: z.boolean(),
  media: z.boolean(),
  threads: z.boolean(),
});
export type Capabilities = z.infer<typeof Capabilities>;

/** One message as a network is given it: cut and converted. */
export interface Out {
  /** The same key is the same message. */
  key: string;
  destination: Destination;
  text: string;
  /** Of the whole message; without one it counts as private. */
  label?: Label;
  /** Aborts when nobody waits for it any longer. */
  signal: AbortSignal;
}

/** What a network said of a message it took. */
export interface Delivered {
  /** The network's own id of the message. */
  messageId?: string;
}

/** Who may talk through a channel's account. */
export const SenderPolicy = z.enum(["pairing", "allowlist", "open", "off"]);
export type SenderPolicy = z.infer<typeof SenderPolicy>;

/** A sender the configuration names, by the network's immutable id. */
export const ListedSender = z.strictObject({
  account: z.string().min(1).max(128),
  id: z.string().min(1).max(256),
});
export type ListedSender = z.infer<typeof ListedSender>;

/** What came of an event from a network. */
export type Received =
  | { accepted: true; runId: string }
  | { accepted: false; reason: "unpaired" | "duplicate" | "refused" };

/** One way to a network. */
export interface Channel {
  readonly id: string;
  /** What it can do for an account. */
  capabilities(account: string): Capabilities;
  /** Accounts it has; the first is meant where none is named. */
  accounts(): readonly string[];
  /** Listens until the signal aborts; each event resolves once it is stored. */
  listen?(
    onEvent: (event: Inbound) => Promise<Received>,
    signal: AbortSignal,
  ): Promise<void>;
  /** @throws {SendError} which says whether it may have been sent */
  send(out: Out): Promise<Delivered>;
  /** An act of the network's own (reactions, pins, …). */
  act?(tool: string, args: unknown): Promise<unknown>;
  /** The network's way to write a model's Markdown, with `markdown: "own"`. */
  convert?(markdown: string): string;
  /** Does something harmless that fails when sending would. */
  check(): Promise<void>;
}

/** What is known of a message that was not confirmed. */
export interface SendErrorOptions extends AppErrorOptions {
  /** `no`: the network certainly did not take it. */
  sent: "no" | "maybe";
  /** Trying again cannot help. @default false */
  final?: boolean;
}

/** A message that was not confirmed. */
export class SendError extends AppError {
  override readonly name = "SendError";
  readonly sent: "no" | "maybe";
  readonly final: boolean;

  constructor(code: ErrorCode, message: string, options: SendErrorOptions) {
    super(code, message, options);
    this.sent = options.sent;
    this.final = options.final ?? false;
  }
}

/** A destination as people write it: `webhook/alerts`, `plugin:ntfy/default/topic`. */
export function showDestination(to: Destination): string {
  const { channel, account, chat, thread } = to;
  return [channel, account, ...chat === "" ? [] : [chat]].join("/") +
    (thread === undefined ? "" : `#${thread}`);
}

/**
 * Reads an address: `channel/account/chat`, `channel/chat` for the first
 * account, or with `channel` given the rest alone.
 *
 * @throws {AppError} `bad_input` for an address without a channel
 */
export function parseDestination(
  text: string,
  from: {
    channel?: string | undefined;
    accounts(channel: string): readonly string[];
  },
): Destination {
  const at = text.indexOf("/");
  const first = at < 0 ? text : text.slice(0, at);
  const isFull = from.channel === undefined || first === from.channel;
  const channel = isFull ? first : from.channel;
  const rest = !isFull ? text : at < 0 ? "" : text.slice(at + 1);
  const accounts = from.accounts(channel ?? "");
  const account = accounts.find((name) =>
    rest === name || rest.startsWith(`${name}/`)
  );
  const parsed = Destination.safeParse({
    channel,
    account: account ?? accounts[0] ?? "default",
    chat: account === undefined ? rest : rest.slice(account.length + 1),
  });
  if (parsed.success) return parsed.data;
  throw new AppError("bad_input", `"${text.slice(0, 80)}" is no address`, {
    hint: "Write CHANNEL/ACCOUNT/CHAT, like webhook/alerts",
  });
}
