/**
 * What a decision needs to know of a conversation, drawn from its labelled
 * parts: what the owner typed, which links a page held, which text is private.
 *
 * Never: a part that the model wrote counts as read, named or public.
 *
 * @module
 */
import type { Label } from "../core/label.ts";
import type { Message, Part, TextPart } from "../core/message.ts";
import type { ContextFacts } from "./decide.ts";
import { NamedPlaces } from "./destinations.ts";
import { indexOfPart, whyNotPlain, type WindowIndex } from "./fetching.ts";
import { ReadLinks, textOfPart } from "./links.ts";

/** Whose typed words bless a place here. */
export type Blesses = "owner" | "peer" | "nobody";

/** What surrounds a conversation. */
export interface FactsOptions {
  joined: Label;
  agent: string;
  channel: string;
  sessionKey: string;
  sessionId: string;
  /** The owner's words, or also this session's only peer's. */
  blesses: Blesses;
  /** Fetches of this run so far. */
  fetches: number;
  /** Where the agent may write unasked; absolute, normalised. */
  scratch?: string | undefined;
}

function isTyped(message: Message, part: Part, blesses: Blesses): boolean {
  if (message.role !== "user" || part.kind !== "text") return false;
  const { integrity } = part.label;
  return integrity === "owner" && blesses !== "nobody" ||
    integrity === "peer" && blesses === "peer";
}

const named = new WeakMap<Part, NamedPlaces>();

/** What a typed text names; read once, because a part does not change. */
function namedIn(part: TextPart): NamedPlaces {
  let places = named.get(part);
  if (places === undefined) {
    named.set(part, places = new NamedPlaces());
    places.add(part.text);
  }
  return places;
}

function* partsOf(
  messages: readonly Message[],
): Generator<[Message, Part], void> {
  for (const message of messages) {
    for (const part of message.parts) yield [message, part];
  }
}

/**
 * The principals whose private data was read, beyond what was typed here: what
 * somebody types together with an address is meant for it, what a tool reads
 * is not.
 */
function readPrivate(
  messages: readonly Message[],
  blesses: Blesses,
): readonly string[] {
  const principals = new Set<string>();
  for (const [message, part] of partsOf(messages)) {
    if (message.role === "assistant" || isTyped(message, part, blesses)) {
      continue;
    }
    const own = part.kind === "tool_result" && part.adds !== undefined
      ? part.adds
      : part.label.secrecy;
    for (const principal of own) principals.add(principal);
  }
  return [...principals].sort();
}

class Facts implements ContextFacts {
  readonly joined: Label;
  readonly agent: string;
  readonly channel: string;
  readonly sessionKey: string;
  readonly sessionId: string;
  readonly fetches: number;
  readonly scratch: string | undefined;
  readonly #messages: readonly Message[];
  readonly #blesses: Blesses;
  #named: NamedPlaces[] | undefined;
  #links: ReadLinks | undefined;
  #read: readonly string[] | undefined;
  #secret: WindowIndex[] | undefined;

  constructor(messages: readonly Message[], options: FactsOptions) {
    this.#messages = messages;
    this.#blesses = options.blesses;
    this.joined = options.joined;
    this.agent = options.agent;
    this.channel = options.channel;
    this.sessionKey = options.sessionKey;
    this.sessionId = options.sessionId;
    this.fetches = options.fetches;
    this.scratch = options.scratch;
  }

  /** What each message of who may bless names, the newest first. */
  get #places(): readonly NamedPlaces[] {
    if (this.#named === undefined) {
      this.#named = [];
      for (const [message, part] of partsOf(this.#messages)) {
        if (part.kind === "text" && isTyped(message, part, this.#blesses)) {
          this.#named.push(namedIn(part));
        }
      }
      this.#named.reverse();
    }
    return this.#named;
  }

  get #allLinks(): ReadLinks {
    return this.#links ??= new ReadLinks(this.#messages);
  }

  get read(): readonly string[] {
    return this.#read ??= readPrivate(this.#messages, this.#blesses);
  }

  names(value: string): boolean {
    return this.#places.some((named) => named.has(value));
  }

  namesText(text: string): boolean {
    return this.#places.some((named) => named.hasText(text));
  }

  namesNumber(value: number): boolean {
    return this.#places.some((named) => named.hasNumber(value));
  }

  isLinkOfItsSite(url: string): boolean {
    return this.#allLinks.isOnItsSite(url);
  }

  hasLink(link: string): boolean {
    return this.#allLinks.has(link);
  }

  #isPublicText(text: string): boolean {
    for (const [message, part] of partsOf(this.#messages)) {
      if (message.role === "assistant") continue;
      const own = part.kind === "tool_result" && part.adds !== undefined
        ? part.adds
        : part.label.secrecy;
      if (own.length === 0 && textOfPart(part).includes(text)) return true;
    }
    return false;
  }

  whyNotPlain(url: Readonly<URL>): string | undefined {
    if (this.#secret === undefined) {
      this.#secret = [];
      for (const [message, part] of partsOf(this.#messages)) {
        if (message.role === "assistant" || part.label.secrecy.length === 0) {
          continue;
        }
        // What a tool read in public is no secret because the owner asked.
        if (
          part.kind === "tool_result" && part.adds !== undefined &&
          part.adds.length === 0
        ) continue;
        this.#secret.push(indexOfPart(part, textOfPart(part)));
      }
    }
    return whyNotPlain(url, {
      secret: this.#secret,
      isPublicText: (text) => this.#isPublicText(text),
      isOwnersWord: (word) =>
        /^\p{L}{1,24}$/u.test(word) &&
        this.#places.some((named) => named.hasWord(word)),
    });
  }
}

/** The facts of a conversation. What is not asked for is not computed. */
export function contextFacts(
  messages: readonly Message[],
  options: FactsOptions,
): ContextFacts {
  return new Facts(messages, options);
}
