/**
 * One rule for session keys that come from outside, and for who may see a run.
 *
 * The owner's keys are taken as they are (`main` is the default agent's main
 * session; the field's shorter forms are made whole). Anyone else's key `K` on agent `A` becomes
 * `agent:A:client:<caller>:K`, so that no text a caller writes names a session
 * that is not its own. A key that is already in that form stays as it is.
 *
 * Never: a key authorises.
 *
 * @module
 */
import type { RunView } from "../agent/turns.ts";
import type { Authority, Principal } from "../core/authority.ts";
import { AppError } from "../core/errors.ts";
import {
  AgentId,
  agentOf,
  fullKeyParts,
  peerSegment,
  SessionKey,
} from "../core/ids.ts";

const SEGMENT = /^[A-Za-z0-9_.@+-]{1,64}$/;
const SEGMENTS_MAX = 8;
const KEY_CHARS_MAX = 300;

/** A principal, what it may do here, and its name inside session keys. */
export class Caller {
  readonly principal: Principal;
  readonly authority: Authority;
  /** Its segment in keys; no two principals share one. */
  readonly segment: string;

  private constructor(
    principal: Principal,
    authority: Authority,
    segment: string,
  ) {
    this.principal = principal;
    this.authority = authority;
    this.segment = segment;
  }

  /** @param authority The principal's own, or narrower (what `connect` asked for) */
  static async of(
    principal: Principal,
    authority: Authority = principal.authority,
  ): Promise<Caller> {
    const token = /^token:([a-z0-9_]{1,34})$/.exec(principal.id)?.[1];
    const segment = token !== undefined
      ? `token-${token}`
      : principal.id.startsWith("token-")
      ? await peerSegment("principal", "", `:${principal.id}`)
      : await peerSegment("principal", "", principal.id);
    return new Caller(principal, authority, segment);
  }

  get isOwner(): boolean {
    return this.principal.kind === "owner";
  }

  /** The agent, when the caller may use it. @throws `forbidden`, `bad_input` */
  checkAgent(agentId: string): string {
    if (!AgentId.safeParse(agentId).success) {
      throw new AppError("bad_input", `Cannot use agent "${agentId}": bad id`);
    }
    if (!this.authority.allowsAgent(agentId)) {
      throw new AppError(
        "forbidden",
        `Cannot use agent "${agentId}": this credential may not`,
      );
    }
    return agentId;
  }

  /**
   * The session a key from outside means for this caller.
   *
   * @param agentId The agent when the key names none
   * @throws {AppError} `bad_input`, `forbidden`
   */
  async toKey(text: string, agentId: string): Promise<string> {
    const { agent, prefix, rest } = this.#read(text, agentId);
    this.checkAgent(agent);
    return await this.#fit(prefix, rest);
  }

  /** What two keys share that are one session's; no key itself. */
  nameOf(text: string, agentId: string): string {
    const { prefix, rest } = this.#read(text, agentId);
    return prefix + rest.join(":");
  }

  #read(
    text: string,
    agentId: string,
  ): { agent: string; prefix: string; rest: string[] } {
    const parts = text.split(":");
    const named = parts[0] === "agent" && parts.length > 1;
    const agent = named ? parts[1] ?? "" : agentId;
    let rest = named ? parts.slice(2) : parts;
    if (rest.length === 0) rest = ["main"];
    if (this.isOwner) {
      return { agent, prefix: `agent:${agent}:`, rest: fullKeyParts(rest) };
    }
    if (rest[0] === "client" && rest[1] === this.segment && rest.length > 2) {
      rest = rest.slice(2);
    }
    return { agent, prefix: `agent:${agent}:client:${this.segment}:`, rest };
  }

  async #fit(prefix: string, rest: string[]): Promise<string> {
    const used = prefix.split(":").length - 3;
    const key = prefix + rest.join(":");
    const fits = rest.every((segment) => SEGMENT.test(segment)) &&
      rest.length + used <= SEGMENTS_MAX && key.length <= KEY_CHARS_MAX;
    if (fits) return SessionKey.parse(key);
    const id = this.principal.id;
    return SessionKey.parse(
      // Never harmless by itself, so always the hashed form.
      prefix + await peerSegment("client", id, `:${rest.join(":")}`),
    );
  }

  /** Whether a session is this caller's to read and stop. */
  ownsSession(key: string): boolean {
    if (!this.authority.allowsAgent(agentOf(key))) return false;
    if (this.isOwner) return true;
    const parts = key.split(":", 4);
    return parts[2] === "client" && parts[3] === this.segment;
  }

  /** Whether a run is this caller's to see. */
  maySee(run: RunView): boolean {
    if (this.isOwner) return this.authority.allowsAgent(run.agentId);
    return run.principal === this.principal.id ||
      this.ownsSession(run.sessionKey);
  }
}
