/**
 * What plugins are handed of the rest of the house: the decision about an act,
 * a way to tell the owner something, and the one admission for what comes in
 * through a channel plugin.
 *
 * Never: what a plugin says counts as anybody's but its own words.
 *
 * @module
 */
import type { Authority } from "../core/authority.ts";
import { makeId } from "../core/ids.ts";
import { join, type Label, label, PUBLIC_OWNER } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import { type Inbound, NO_USAGE, type StoredMessage } from "../core/message.ts";
import type { Clock } from "../core/time.ts";
import { decide } from "../guard/decide.ts";
import { normalPlace } from "../guard/destinations.ts";
import type { GuardRules } from "../guard/rules.ts";
import type { Courier } from "../channels/courier.ts";
import type { Received } from "../core/channel.ts";
import type { PluginAct, PluginWorld } from "../plugins/context.ts";
import type { Session } from "../store/sessions.ts";
import type { Store } from "../store/store.ts";

/** What the world of plugins is made of. */
export interface PluginWorldDeps {
  store: Pick<Store, "journal" | "sessions" | "messages">;
  /** The one admission for what comes in by a network. */
  receive(event: Inbound): Promise<Received>;
  /** The outbox. */
  courier: Pick<Courier, "take">;
  /** What a plugin acts as; only `auth` makes one. */
  pluginAuthority(plugin: string): Authority;
  /** What the guard decides by. */
  rules(): GuardRules;
  /** A session got a message outside of a turn. Must not throw. */
  onSession(key: string): void;
  clock: Clock;
  log: Log;
}

/** The session a plugin's messages to the owner are in. */
function pluginSessionKey(plugin: string): string {
  return `agent:main:hook:plugin-${plugin}`;
}

/** Makes the world of plugins. */
export function makePluginWorld(deps: PluginWorldDeps): PluginWorld {
  const telling = new Map<string, Promise<void>>();
  return {
    decide: (act) => decideAct(act, deps),
    tellOwner: async (plugin, text, seen) => {
      // One after the other: each takes the next place in the session.
      const mine = (telling.get(plugin) ?? Promise.resolve())
        .then(() => tell({ plugin, text, seen }, deps));
      const settled = mine.catch(() => {});
      telling.set(plugin, settled);
      await mine;
    },
    receive: (inbound) => deps.receive(inbound),
    send: async ({ plugin, key, channel, account, chat, text, label }) => {
      await deps.courier.take({
        idempotencyKey: `plugin:${plugin}:${key}`,
        destination: { channel, account, chat },
        parts: [{ kind: "text", text, label }],
        by: `plugin:${plugin}`,
      });
    },
  };
}

/**
 * Decides as for any call: the plugin's grant is a standing grant for its places
 * as long as it was shown nothing private, and nobody can be asked here, so what
 * would be asked about is denied.
 */
function decideAct(
  act: PluginAct,
  { rules, pluginAuthority }: PluginWorldDeps,
): ReturnType<PluginWorld["decide"]> {
  const { plugin, what, effect, place, label: seen } = act;
  const kind = what === "http" ? "url" as const : "address" as const;
  const name = `plugin_${plugin}_${what}`;
  const { secrecy } = seen;
  const { policy, grants, trusted, fetchKnownOnly } = rules();
  const own = label("untrusted", [], { kind: "plugin", ref: plugin, at: 0 });
  const decision = decide({
    call: {
      tool: {
        name,
        scope: "chat",
        effect,
        destinations: [{ path: "place", kind }],
      },
      args: { place },
    },
    context: {
      joined: join(seen, own),
      agent: "main",
      channel: `plugin:${plugin}`,
      sessionKey: pluginSessionKey(plugin),
      sessionId: "",
      fetches: 0,
      scratch: undefined,
      read: secrecy,
      names: () => false,
      namesText: () => false,
      namesNumber: () => false,
      isLinkOfItsSite: () => false,
      hasLink: () => false,
      whyNotPlain: () =>
        secrecy.length === 0
          ? undefined
          : `it was shown private data of ${secrecy.join(", ")}`,
    },
    authority: pluginAuthority(plugin),
    attended: false,
    replyTo: undefined,
    trusted,
    audienceOf: ({ value }) => value === "owner" ? ["owner"] : "world",
    grants: secrecy.every((of) => of === "owner" && place === "owner")
      ? [...grants, {
        id: `plugins.granted.${plugin}`,
        tool: name,
        places: [normalPlace(kind, place)],
      }]
      : grants,
    policy,
    remembered: [],
    fetchKnownOnly,
  });
  const verdict = decision.verdict === "allow" ? "allow" : "deny";
  return { verdict, reason: decision.reason };
}

async function tell(
  { plugin, text, seen }: { plugin: string; text: string; seen: Label },
  { store, clock, onSession }: PluginWorldDeps,
): Promise<void> {
  const now = clock.now();
  const key = pluginSessionKey(plugin);
  const found = await store.sessions.find(key);
  const session: Session = found ?? {
    key,
    id: makeId("ses", now),
    agentId: "main",
    kind: "hook",
    label: `Messages from ${plugin}`,
    channel: `plugin:${plugin}`,
    createdAt: now,
    updatedAt: now,
    seq: 0,
    queueMode: "queue",
    usage: NO_USAGE,
    joined: PUBLIC_OWNER,
    owner: "owner",
  };
  const own = join(
    seen,
    label("untrusted", [], { kind: "plugin", ref: plugin, at: now }),
  );
  const message: StoredMessage = {
    role: "user",
    parts: [{ kind: "text", text, label: own }],
    seq: session.seq + 1,
    at: now,
    sender: `plugin:${plugin}`,
  };
  const next: Session = {
    ...session,
    seq: message.seq,
    updatedAt: now,
    joined: join(session.joined, own),
  };
  await store.journal.commit([
    ...store.sessions.rows(next, found),
    ...store.messages.rows(session.id, message),
  ]);
  onSession(key);
}
