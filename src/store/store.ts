/**
 * The only room that speaks Deno KV: opens it, and puts the collections
 * together over one journal.
 *
 * Never: two processes write one store; a value is read without being parsed.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Clock } from "../core/time.ts";
import { ApprovalRows } from "./approvals.ts";
import { Audit } from "./audit.ts";
import { Blobs } from "./blobs.ts";
import { type Cipher, CIPHER_KEY_BYTES, makeCipher } from "./cipher.ts";
import { DeviceRows } from "./devices.ts";
import { claimState, openKeyFile, prepareState } from "./files.ts";
import { ConfigRevisions } from "./config_revisions.ts";
import { FileLabels } from "./file_labels.ts";
import { InboundSeen } from "./inbound.ts";
import { Jobs } from "./jobs.ts";
import { type Journal, KvJournal } from "./journal.ts";
import { makeKey } from "./keys.ts";
import { McpPins } from "./mcp_pins.ts";
import { McpTokens } from "./mcp_tokens.ts";
import { Memories } from "./memory.ts";
import { Messages } from "./messages.ts";
import { Outbox } from "./outbox.ts";
import { Pairings } from "./pairings.ts";
import { Plugins } from "./plugins.ts";
import { PolicyLines } from "./policy_lines.ts";
import { Responses } from "./responses.ts";
import { Runs } from "./runs.ts";
import { migrate, type Migration, MIGRATIONS } from "./schema.ts";
import { Sessions } from "./sessions.ts";
import { Summaries } from "./summaries.ts";
import { TokenRows } from "./tokens.ts";
import { UsageRows } from "./usage.ts";
import { Codec, Values } from "./values.ts";

/** What a store is opened with. */
export interface StoreOptions {
  /** The state directory, or `:memory:`. */
  dir: string | ":memory:";
  clock: Clock;
  log: Log;
  /** Whether others of a container may see what is there. @default false */
  mayBeRead?: boolean;
  /** Seals every value; without it only what is always sealed. */
  cipher?: Cipher;
  /** For tests of the mechanism. */
  migrations?: readonly Migration[];
}

/** Everything that outlives the process. */
export interface Store extends AsyncDisposable {
  readonly journal: Journal;
  readonly sessions: Sessions;
  readonly messages: Messages;
  readonly summaries: Summaries;
  readonly runs: Runs;
  readonly inbound: InboundSeen;
  readonly responses: Responses;
  readonly tokens: TokenRows;
  readonly devices: DeviceRows;
  readonly approvals: ApprovalRows;
  readonly policyLines: PolicyLines;
  readonly memories: Memories;
  readonly blobs: Blobs;
  readonly fileLabels: FileLabels;
  readonly mcpPins: McpPins;
  readonly mcpTokens: McpTokens;
  readonly outbox: Outbox;
  readonly pairings: Pairings;
  readonly configRevisions: ConfigRevisions;
  readonly plugins: Plugins;
  readonly jobs: Jobs;
  readonly usage: UsageRows;
  readonly audit: Audit;
  /** Milliseconds a synced write took, for readiness. */
  probe(): Promise<number>;
  /** Rows that were skipped since the start because they could not be read. */
  unreadable(): number;
}

/**
 * Opens the store: directory, lock, engine, cipher, shape, in this order. The
 * lock is the one `lockState` took, or its own.
 *
 * @throws {AppError} `locked` (another process), `forbidden` (modes, wrong
 * passphrase), `conflict` (a newer shape)
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { clock, log, cipher } = options;
  await using opened = new AsyncDisposableStack();
  let path = ":memory:";
  let key: Uint8Array = crypto.getRandomValues(
    new Uint8Array(CIPHER_KEY_BYTES),
  );
  if (options.dir !== ":memory:") {
    opened.use(claimState(options.dir));
    path = await prepareState(options.dir, {
      log,
      mayBeRead: options.mayBeRead ?? false,
    });
    key = await openKeyFile(options.dir);
  }
  const kv = opened.use(await Deno.openKv(path));
  const codec = new Codec({
    keyFile: makeCipher(key),
    ...(cipher === undefined ? {} : { cipher }),
  });
  const values = new Values(kv, { codec, log });
  const journal = new KvJournal(kv, { codec, log });
  opened.defer(() => journal.close());
  await journal.open();
  await checkCipher({ values, journal }, cipher !== undefined);
  const schema = await migrate({ values, journal }, {
    migrations: options.migrations ?? MIGRATIONS,
    clock,
    log,
  });
  const audit = new Audit(values, { clock, instance: schema.instance });
  await audit.reload();
  const outbox = new Outbox(values, { journal, clock });
  await outbox.open();
  const closing = opened.move();
  return {
    journal,
    outbox,
    pairings: new Pairings(values),
    sessions: new Sessions(values, journal),
    messages: new Messages(values),
    summaries: new Summaries(values),
    runs: new Runs(values),
    inbound: new InboundSeen(values),
    responses: new Responses(values, journal),
    tokens: new TokenRows(values, journal),
    devices: new DeviceRows(values),
    approvals: new ApprovalRows(values),
    policyLines: new PolicyLines(values),
    memories: new Memories(values, journal),
    blobs: new Blobs(values),
    fileLabels: new FileLabels(values),
    mcpPins: new McpPins(values),
    mcpTokens: new McpTokens(values),
    configRevisions: new ConfigRevisions(values),
    plugins: new Plugins(values, journal),
    jobs: new Jobs(values),
    usage: new UsageRows(values),
    audit,
    probe: async () => {
      const begun = performance.now();
      await journal.commit([
        { key: makeKey("probe"), value: { at: clock.now() } },
      ]);
      return performance.now() - begun;
    },
    unreadable: () => values.unreadable,
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

const Check = z.strictObject({ text: z.literal("sealed") });

/** Refuses a passphrase that does not fit before anything is read or written. */
async function checkCipher(
  store: { values: Values; journal: Journal },
  hasCipher: boolean,
): Promise<void> {
  const key = makeKey("cipher_check");
  try {
    if (await store.values.find(key, Check) !== undefined) return;
  } catch (error) {
    throw hasCipher
      ? new AppError(
        "forbidden",
        "Cannot open the store: the passphrase does not fit",
        { cause: error, hint: "Set CARAPACE_PASSPHRASE as it was" },
      )
      : new AppError(
        "forbidden",
        "Cannot open the store: it is sealed with a passphrase",
        { cause: error, hint: "Set CARAPACE_PASSPHRASE" },
      );
  }
  if (hasCipher) {
    await store.journal.commit([{ key, value: { text: "sealed" } }]);
  }
}
