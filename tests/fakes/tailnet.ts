/** A real house that is reached from a tailnet, as its sockets' peers say it. */
import { TailscaleConfig } from "../../src/auth/tailnet.ts";
import type { Settings } from "../../src/settings.ts";
import {
  openRealHouse,
  type RealHouse,
  type RealHouseOptions,
} from "./real_house.ts";
import { type FakeTailscaled, fakeTailscaled } from "./tailscaled.ts";

export const OWNER = "owner@example.com";
export const GUEST = "guest@example.com";
/** The owner's phone, a guest's laptop, and somebody else's. */
export const PHONE = "100.64.0.7";
export const LAPTOP = "fd7a:115c:a1e0::42";
export const STRANGER = "100.99.0.9";

const USERS = {
  [OWNER]: { as: "owner", scopes: ["write", "approvals"] },
  [GUEST]: { scopes: ["chat", "read"] },
};

/** The house, tailscaled, and where requests come from. */
export interface TailnetHouse extends AsyncDisposable {
  house: RealHouse;
  tailscaled: FakeTailscaled;
  /** The other end of every socket, as the next request finds it. */
  from: { hostname: string; port?: number };
  /** Its settings with other lines about the tailnet. */
  settings(users: unknown): Settings;
  get(path: string, headers?: Record<string, string>): Promise<Response>;
}

/** Opens it: {@linkcode PHONE} and {@linkcode LAPTOP} are known. */
export async function openTailnetHouse(
  name: Parameters<typeof fakeTailscaled>[0],
  options: RealHouseOptions & { users?: unknown } = {},
): Promise<TailnetHouse> {
  await using opening = new AsyncDisposableStack();
  const tailscaled = opening.use(fakeTailscaled(name));
  tailscaled.nodes.set(PHONE, { login: OWNER });
  tailscaled.nodes.set(LAPTOP, { login: GUEST, user: 8 });
  tailscaled.nodes.set(STRANGER, { login: "stranger@example.com", user: 9 });
  const configOf = (users: unknown) =>
    TailscaleConfig.parse({ socket: tailscaled.socket, users });
  const from: TailnetHouse["from"] = { hostname: PHONE };
  const house = opening.use(
    await openRealHouse({
      tailscale: configOf(options.users ?? USERS),
      peerOf: ({ port }) => ({ port, ...from }),
      ...options,
    }),
  );
  const closing = opening.move();
  return {
    house,
    tailscaled,
    from,
    settings: (users) => {
      const settings = house.settings({});
      const tailscale = users === undefined ? undefined : configOf(users);
      return { ...settings, gateway: { ...settings.gateway, tailscale } };
    },
    get: (path, headers = {}) => fetch(`${house.url}${path}`, { headers }),
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}
