/**
 * Where plugins are handled: by the running gateway, or, when none runs on this
 * machine, by this very process over the same store.
 *
 * @module
 */
import { putIncoming } from "../../../config/incoming.ts";
import { AppError } from "../../../core/errors.ts";
import type {
  MethodInput,
  MethodName,
  MethodOutput,
} from "../../../core/methods.ts";
import type { GatewayClient } from "../../../remote/client.ts";
import { findStateDir, openGateway } from "../../gateway.ts";
import type { Io, Roof } from "../../verb.ts";

type Methods = Extract<MethodName, `plugins.${string}`>;

/** The plugins' methods, whoever answers them. */
export interface PluginLink extends AsyncDisposable {
  call<M extends Methods>(
    method: M,
    params: MethodInput<M>,
  ): Promise<MethodOutput<M>>;
  /** Takes the configuration that was just written, if nobody else does. */
  reload(): Promise<void>;
  /** Puts a module where `plugins.install` finds it. */
  put(sha256: string, bytes: Uint8Array): Promise<AsyncDisposable>;
}

/** How long a gateway may take to start again with other permissions. */
const RECONNECT_MS = 40_000;

/** The gateway, or this process in its place. */
export async function openLink(io: Io, roof: Roof): Promise<PluginLink> {
  const stateDir = await findStateDir(io);
  const put: PluginLink["put"] = (sha256, bytes) =>
    putIncoming(stateDir, sha256, bytes);
  let client: GatewayClient;
  try {
    client = await openGateway(io, { roof });
  } catch (error) {
    const isNobody = error instanceof AppError && error.code === "unavailable";
    const isElsewhere = io.env.get("CARAPACE_URL") !== undefined;
    if (!isNobody || isElsewhere || roof.plugins === undefined) throw error;
    const alone = await roof.plugins();
    return { ...alone, put };
  }
  return {
    call: async (method, params) =>
      await retrying(io, () => client.call(method, params), {
        isRead: method === "plugins.list",
        reopen: async () => {
          client[Symbol.dispose]();
          client = await openGateway(io, { roof });
        },
      }),
    reload: () => Promise.resolve(),
    put,
    [Symbol.asyncDispose]: () => {
      client[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}

/** A read is asked again while the gateway restarts; nothing else is. */
async function retrying<T>(
  io: Io,
  ask: () => Promise<T>,
  { isRead, reopen }: { isRead: boolean; reopen(): Promise<void> },
): Promise<T> {
  const until = io.clock.now() + RECONNECT_MS;
  for (let isFirst = true;; isFirst = false) {
    // Ends at `until` at the latest.
    try {
      if (!isFirst) await reopen();
      return await ask();
    } catch (error) {
      const isGone = error instanceof AppError && error.code === "unavailable";
      if (!isRead || !isGone || io.clock.now() >= until) throw error;
      await io.clock.sleep(250);
    }
  }
}
