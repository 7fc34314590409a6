/**
 * The contracts of the WebSocket methods for approvals and policy.
 *
 * @module
 */
import { z } from "zod";
import { contracts } from "./contract.ts";

const Nothing = z.strictObject({});
const Id = z.string().min(1).max(64);
const VerdictWord = z.enum(["allow", "ask", "deny"]);

/** A pending ask, as it is shown. */
export const PendingApproval = z.object({
  id: z.string(),
  runId: z.string(),
  sessionKey: z.string(),
  callId: z.string(),
  tool: z.string(),
  args: z.unknown(),
  question: z.string(),
  card: z.array(z.string()),
  answers: z.array(z.string()),
  hash: z.string(),
  createdAt: z.int(),
  expiresAt: z.int(),
});
export type PendingApproval = z.infer<typeof PendingApproval>;

/** A remembered answer, as it is listed. */
export const RememberedLine = z.object({
  id: z.string(),
  for: z.enum(["session", "always"]),
  agent: z.string(),
  principal: z.string(),
  tool: z.string(),
  places: z.array(z.string()),
  secrecy: z.array(z.string()),
  sources: z.array(z.string()),
  sessionKey: z.string(),
  createdAt: z.int(),
});
export type RememberedLine = z.infer<typeof RememberedLine>;

const Resolve = z.strictObject({
  id: Id,
  decision: z.enum(["allow-once", "allow-session", "allow-always", "deny"]),
  /** What the answer is for, as it was shown; another is refused. */
  hash: z.string().max(128).optional(),
});
const Resolved = z.object({ ok: z.literal(true), id: z.string() });

/**
 * The remembered answers as the field's file of approvals: what is not in a
 * list asks, and where nobody can be asked the answer is no.
 */
export const ApprovalsFile = z.object({
  version: z.literal(1),
  defaults: z.object({
    security: z.literal("allowlist"),
    ask: z.literal("on-miss"),
    askFallback: z.literal("deny"),
    autoAllowSkills: z.literal(false),
  }),
  agents: z.record(
    z.string(),
    z.object({
      allowlist: z.array(z.object({
        id: z.string(),
        /** The tool and the places it was allowed for. */
        pattern: z.string(),
        lastUsedAt: z.int().optional(),
      })),
    }),
  ),
});
export type ApprovalsFile = z.infer<typeof ApprovalsFile>;

const ApprovalsSnapshot = z.object({
  path: z.string(),
  exists: z.boolean(),
  /** For `baseHash`. */
  hash: z.string(),
  file: ApprovalsFile,
});

export const GUARD_METHODS = contracts({
  "approval.list": {
    scope: "approvals",
    about: "What waits for the owner's answer",
    input: () => Nothing,
    output: () => z.object({ approvals: z.array(PendingApproval) }),
  },
  "approval.resolve": {
    scope: "approvals",
    about: "Answer an ask",
    input: () => Resolve,
    output: () => Resolved,
  },
  "exec.approval.resolve": {
    scope: "approvals",
    about: "The same, by the name that clients of the field use",
    input: () => Resolve,
    output: () => Resolved,
  },
  "exec.approval.request": {
    scope: "approvals",
    about: "Refused: only this gateway's own decisions ask",
    input: () => z.looseObject({}),
    output: () => Resolved,
  },
  "exec.approvals.get": {
    scope: "approvals",
    about: "The remembered answers in the shape of the field's file",
    input: () => Nothing,
    output: () => ApprovalsSnapshot,
  },
  "exec.approvals.set": {
    scope: "approvals",
    about:
      "Forget the remembered answers that the file leaves out; it can add none",
    input: () =>
      z.strictObject({
        file: z.looseObject({
          agents: z.record(
            z.string(),
            z.looseObject({
              allowlist: z.array(
                z.looseObject({ id: z.string().max(64).optional() }),
              )
                .max(1_000).optional(),
            }),
          ).optional(),
        }),
        baseHash: z.string().max(128).optional(),
      }),
    output: () => ApprovalsSnapshot,
  },
  "policy.list": {
    scope: "approvals",
    about: "Answers that are remembered for a session or for always",
    input: () => Nothing,
    output: () => z.object({ lines: z.array(RememberedLine) }),
  },
  "policy.revoke": {
    scope: "approvals",
    about: "Forget a remembered answer",
    input: () => z.strictObject({ id: Id }),
    output: () => Resolved,
  },
  "policy.explain": {
    scope: "admin",
    owner: true,
    about: "What would be decided of a call in a session, and by which rules",
    input: () =>
      z.strictObject({
        tool: z.string().min(1).max(256),
        args: z.json().optional(),
        sessionKey: z.string().min(1).max(300),
        attended: z.boolean().optional(),
      }),
    output: () =>
      z.object({
        verdict: VerdictWord,
        rule: z.string(),
        reason: z.string(),
        effect: z.string(),
        integrity: z.string(),
        trace: z.array(z.object({
          rule: z.string(),
          says: z.string(),
          why: z.string(),
        })),
      }),
  },
  "policy.replay": {
    scope: "admin",
    owner: true,
    about: "Decide a recorded session's calls again, also under other rules",
    input: () =>
      z.strictObject({
        sessionKey: z.string().min(1).max(300),
        /** The guard's part of a configuration; without it the present one. */
        guard: z.json().optional(),
      }),
    output: () =>
      z.object({
        calls: z.array(z.object({
          seq: z.int(),
          tool: z.string(),
          /** What became of it then. */
          then: z.enum(["ran", "refused", "open"]),
          verdict: VerdictWord,
          rule: z.string(),
          reason: z.string(),
        })),
      }),
  },
});
