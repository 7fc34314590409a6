/**
 * `docs/openclaw-client.md`: what OpenClaw's published client can call, from
 * the table that `tests/clients/openclaw_test.ts` tries.
 *
 * @module
 */
import { CALLS, type Fit } from "../clients/openclaw_calls.ts";
import { markdownTable } from "./markdown.ts";

const WORDS: Readonly<Record<Fit, string>> = {
  same: "fits the published schema",
  more: "fits, with fields of our own beside",
  other: "differs from the published schema",
  none: "works; no schema is published",
  refused: "refused",
};

/** The document. */
export function makeOpenClawDoc(): Promise<string> {
  const rows = CALLS.map(({ method, fit, note = "" }) => [
    `\`${method}\``,
    WORDS[fit],
    note,
  ]);
  return Promise.resolve(`# OpenClaw's client

Made by \`deno task docs\` from what \`tests/clients/openclaw_test.ts\` tries:
\`@openclaw/gateway-client\` as it is published (2026.9.1), unmodified, over a
real socket against the sandboxed service.

- It connects with a token (\`token\`) at protocol 4; a wrong one is refused.
- With a device identity (\`deviceIdentity\`, \`hostDeps\`) it asks to be paired,
  is approved by the owner, is given a device token, comes back with it, and is
  cut off when the device is revoked.
- As \`role: "node"\` it is paired for its commands, gets
  \`node.invoke.request\` in the published shape and answers it.
- \`chat\` events fit \`ChatEvent\`; \`agent\` events fit \`AgentEvent\` with
  \`sessionKey\` beside. Events arrive without a gap.

Answers, held to the schemas of \`@openclaw/gateway-protocol\`:

${markdownTable(["call", "answer", "notes"], rows)}

[protocol.md](protocol.md) describes every method that this gateway has.

That program publishes some 400 methods. What is not named here is not there: its
boards, projects, worktrees, terminals, desktops, wizards, speech, push, user
profiles and skill market are no part of this gateway. A call of one is refused
with \`INVALID_REQUEST\`.
`);
}
