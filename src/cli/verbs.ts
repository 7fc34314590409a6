/**
 * The verbs of the command line, in the order help lists them. A verb's module
 * loads only when it is called.
 *
 * @module
 */
import type { Verb } from "./verb.ts";

/** One row: enough to list a verb without loading it. */
export interface VerbRow {
  name: string;
  about: string;
  load(): Promise<Verb>;
}

export const VERBS: readonly VerbRow[] = [
  {
    name: "start",
    about: "Run the gateway",
    load: async () => (await import("./verbs/start.ts")).start,
  },
  {
    name: "chat",
    about: "Talk to an agent",
    load: async () => (await import("./verbs/chat.ts")).chat,
  },
  {
    name: "ui",
    about: "Make a link that opens the page in a browser and pairs it",
    load: async () => (await import("./verbs/ui.ts")).ui,
  },
  {
    name: "status",
    about: "Show what runs, for how long, and under which sandbox",
    load: async () => (await import("./verbs/status.ts")).status,
  },
  {
    name: "doctor",
    about: "Check the installation and say how to repair it",
    load: async () => (await import("./verbs/doctor.ts")).doctor,
  },
  {
    name: "sessions",
    about: "List conversations, last used first",
    load: async () => (await import("./verbs/sessions.ts")).sessions,
  },
  {
    name: "session",
    about: "Show, search, export, copy and delete conversations",
    load: async () => (await import("./verbs/session.ts")).session,
  },
  {
    name: "cron",
    about: "Add, list, change, run and remove scheduled jobs",
    load: async () => (await import("./verbs/cron.ts")).cron,
  },
  {
    name: "usage",
    about: "Show what models were paid, and what for",
    load: async () => (await import("./verbs/usage.ts")).usage,
  },
  {
    name: "budget",
    about: "Show the limits on spending, and how they stand today",
    load: async () => (await import("./verbs/budget.ts")).budget,
  },
  {
    name: "token",
    about: "Make, list, rotate and revoke tokens",
    load: async () => (await import("./verbs/token.ts")).token,
  },
  {
    name: "device",
    about: "Pair devices, invite them, and end them",
    load: async () => (await import("./verbs/device.ts")).device,
  },
  {
    name: "config",
    about: "Show, check and change the configuration",
    load: async () => (await import("./verbs/config.ts")).config,
  },
  {
    name: "secret",
    about: "Store secrets, sealed",
    load: async () => (await import("./verbs/secret.ts")).secret,
  },
  {
    name: "plugin",
    about: "Install, grant and call plugins",
    load: async () => (await import("./verbs/plugin.ts")).plugin,
  },
  {
    name: "channel",
    about: "Show and check channels; let senders in",
    load: async () => (await import("./verbs/channel.ts")).channel,
  },
  {
    name: "outbox",
    about: "List, show, retry and drop messages that are not sent",
    load: async () => (await import("./verbs/outbox.ts")).outbox,
  },
  {
    name: "send",
    about: "Send a message by a channel",
    load: async () => (await import("./verbs/send.ts")).send,
  },
  {
    name: "memory",
    about: "List, search, show, export and delete what agents remember",
    load: async () => (await import("./verbs/memory.ts")).memory,
  },
  {
    name: "mcp",
    about: "List MCP servers, log in to them, accept tools that changed",
    load: async () => (await import("./verbs/mcp.ts")).mcp,
  },
  {
    name: "skills",
    about: "List skills, whose words each is, and what it lacks",
    load: async () => (await import("./verbs/skills.ts")).skills,
  },
  {
    name: "policy",
    about: "Explain decisions, replay a session, list remembered answers",
    load: async () => (await import("./verbs/policy.ts")).policy,
  },
  {
    name: "audit",
    about: "List what mattered, and verify the record of it",
    load: async () => (await import("./verbs/audit.ts")).audit,
  },
  {
    name: "permissions",
    about: "Show the computed sandbox and the reason for each entry",
    load: async () => (await import("./verbs/permissions.ts")).permissions,
  },
  {
    name: "remote",
    about: "Name other gateways, so that agents of this one can be on them",
    load: async () => (await import("./verbs/remote.ts")).remote,
  },
  {
    name: "tls",
    about: "Make certificates for a local network, and show their fingerprints",
    load: async () => (await import("./verbs/tls.ts")).tls,
  },
  {
    name: "link",
    about: "Install the carapace command for this user",
    load: async () => (await import("./verbs/link.ts")).link,
  },
  {
    name: "version",
    about: "Print the version",
    load: async () => (await import("./verbs/version.ts")).version,
  },
];

/** The row of a verb by its name. */
export function findVerb(name: string): VerbRow | undefined {
  return VERBS.find((row) => row.name === name);
}
