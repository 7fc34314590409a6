/**
 * The whole house in this process over fake vendors: what a client of the field
 * meets, on a real socket, with real tokens, a real store and a real agent.
 */
import type { TailscaleConfig } from "../../src/auth/tailnet.ts";
import type { TokenRequest } from "../../src/auth/tokens.ts";
import { silentLog } from "../../src/core/log.ts";
import { Secret } from "../../src/core/secret.ts";
import { type Clock, systemClock } from "../../src/core/time.ts";
import { type House, type HouseOptions, openHouse } from "../../src/house.ts";
import type { LogRing } from "../../src/ops/log_ring.ts";
import { Settings } from "../../src/settings.ts";
import { fakeAnthropic } from "./anthropic.ts";
import { fakeOpenai } from "./openai.ts";
import type { Fake, Script } from "./vendor.ts";

/** What a test may set. */
export interface RealHouseOptions {
  /** What the model says, whichever of the vendors is asked. */
  script?: Script;
  settings?: Record<string, unknown>;
  /** More of the gateway than its port. */
  gateway?: Record<string, unknown>;
  /** Providers beside the two. */
  providers?: Record<string, unknown>;
  clock?: Clock;
  posture?: Parameters<typeof openHouse>[0]["posture"];
  logs?: LogRing;
  /** Past the schema, which wants TLS beside it: these sockets have none. */
  tailscale?: TailscaleConfig;
  peerOf?: HouseOptions["peerOf"];
  /** Where its state is; without it, a folder that goes with it. */
  stateDir?: string;
}

const SANDBOX_OFF = { tried: 0, refused: 0, sandboxOff: true, grants: {} };

/** An open house and its vendors. */
export interface RealHouse extends AsyncDisposable {
  house: House;
  /** `http://127.0.0.1:PORT`. */
  url: string;
  /** The owner's token. */
  owner: string;
  /** The agent's own vendor, and one of another dialect. */
  openai: Fake;
  anthropic: Fake;
  stateDir: string;
  /** Its settings with something else in them, as it would adopt them. */
  settings(change: Record<string, unknown>): Settings;
  /** A program's token. */
  token(change?: Partial<TokenRequest>): Promise<string>;
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

let names = 0;

/** Opens it; models are `openai:gpt-test` (the agent's) and `anthropic:claude-test`. */
export async function openRealHouse(
  options: RealHouseOptions = {},
): Promise<RealHouse> {
  await using opening = new AsyncDisposableStack();
  let { stateDir } = options;
  if (stateDir === undefined) {
    await Deno.mkdir("tests/.tmp", { recursive: true });
    const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
    opening.defer(() => Deno.remove(dir, { recursive: true }));
    stateDir = `${dir}/state`;
  }
  const { script } = options;
  const scripted = script === undefined ? {} : { script };
  const openai = opening.use(await fakeOpenai(scripted));
  const anthropic = opening.use(await fakeAnthropic(scripted));
  const apiKey = new Secret("sk-fake", "test");
  let owner = "";
  const port = freePort();
  const settings = (change: Record<string, unknown>) => {
    const parsed = Settings.parse({
      gateway: { port, ...options.gateway },
      providers: {
        openai: { baseUrl: openai.url, apiKey, api: "chat" },
        anthropic: { baseUrl: anthropic.url, apiKey },
        ...options.providers,
      },
      agents: { main: { model: "openai:gpt-test" } },
      ...options.settings,
      ...change,
    });
    const { tailscale } = options;
    return tailscale === undefined
      ? parsed
      : { ...parsed, gateway: { ...parsed.gateway, tailscale } };
  };
  const house = opening.use(
    await openHouse({
      settings: settings({}),
      stateDir,
      env: { get: () => undefined },
      clock: options.clock ?? systemClock,
      log: silentLog,
      logs: options.logs,
      peerOf: options.peerOf,
      beforeListening: async (tokens) => {
        const made = await tokens.create({
          name: "owner",
          scopes: ["admin"],
          kind: "owner",
          integrity: "owner",
        });
        owner = made.token;
      },
      posture: options.posture ?? SANDBOX_OFF,
    }),
  );
  const closing = opening.move();
  return {
    house,
    url: `http://127.0.0.1:${house.gateway.address.port}`,
    owner,
    openai,
    anthropic,
    stateDir,
    settings,
    token: async (change = {}) => {
      const made = await house.tokens.create({
        name: `program-${++names}`,
        scopes: ["write"],
        ...change,
      });
      return made.token;
    },
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}
