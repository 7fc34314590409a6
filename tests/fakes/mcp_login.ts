/** A desk with one MCP server behind a login, over a real store and real sockets. */
import type { Log } from "../../src/core/log.ts";
import { EgressConfig } from "../../src/egress/config.ts";
import { makeEgress } from "../../src/egress/egress.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { McpConfig } from "../../src/tools/mcp/config.ts";
import { McpDesk } from "../../src/tools/mcp/desk.ts";
import { Registry } from "../../src/tools/registry.ts";
import { FakeClock } from "./clock.ts";
import {
  type FakeAuthorization,
  fakeAuthorization,
  type GuardedMcp,
  guardedMcp,
} from "./oauth_server.ts";

/** What a test of logins works with. */
export interface LoginBench extends AsyncDisposable {
  clock: FakeClock;
  store: Store;
  authorization: FakeAuthorization;
  mcp: GuardedMcp;
  registry: Registry;
  desk: McpDesk;
  /** Everything that was logged, as text. */
  readonly logged: string[];
  /** The whole login, as a person makes it. */
  login(): Promise<void>;
  /** Another desk over the same store: what a restart makes. */
  reopen(oauth?: Record<string, unknown>): Promise<LoginBench>;
}

/** Hosts of fakes as a configuration names them. */
export function hostOf({ port }: { port: number }): string {
  return `127.0.0.1:${port}`;
}

/** Opens one; its server is `bank`, with one tool `pay`. */
export async function openLoginBench(
  oauth: Record<string, unknown> = {},
): Promise<LoginBench> {
  await using opening = new AsyncDisposableStack();
  const clock = new FakeClock();
  const authorization = opening.use(fakeAuthorization());
  const mcp = opening.use(
    guardedMcp(authorization, [{ name: "pay", answer: "paid" }]),
  );
  const logged: string[] = [];
  const log = (...line: unknown[]) => void logged.push(JSON.stringify(line));
  const store = opening.use(
    await openStore({ dir: ":memory:", clock, log: log as Log }),
  );
  const closing = opening.move();
  const open = async (change: Record<string, unknown>): Promise<LoginBench> => {
    const egress = closing.use(
      makeEgress({ config: EgressConfig.parse({}), clock, log: log as Log }),
    );
    const { servers } = McpConfig.parse({
      servers: {
        bank: {
          url: mcp.url,
          oauth: { hosts: [hostOf(authorization)], ...change },
        },
      },
    });
    const registry = new Registry([]);
    const desk = closing.use(
      new McpDesk({
        servers,
        egress,
        runner: undefined,
        registry,
        pins: store.mcpPins,
        tokens: store.mcpTokens,
        journal: store.journal,
        clock,
        log: log as Log,
      }),
    );
    await desk.settled();
    return {
      clock,
      store,
      authorization,
      mcp,
      registry,
      desk,
      logged,
      login: async () => {
        const { url } = await desk.startLogin("bank", {});
        await desk.finishLogin("bank", {
          url: await authorization.browse(url),
        });
        await connected(desk);
      },
      reopen: (next = change) => open(next),
      [Symbol.asyncDispose]: () => closing.disposeAsync(),
    };
  };
  try {
    return await open(oauth);
  } catch (error) {
    await closing.disposeAsync();
    throw error;
  }
}

/** Waits until the server is connected, or is found to be in another state. */
export async function connected(
  desk: McpDesk,
  state = "connected",
): Promise<void> {
  const end = performance.now() + 10_000;
  while (desk.list()[0]?.state !== state) {
    if (performance.now() > end) {
      throw new DOMException(JSON.stringify(desk.list()), "TimeoutError");
    }
    await new Promise((done) => setTimeout(done, 5));
  }
}
