/**
 * Puts the room together: one limiter before every check, one account of what
 * was refused, tokens, devices and their pairing.
 *
 * @module
 */
import type { Log } from "../core/log.ts";
import type { Secret } from "../core/secret.ts";
import type { Clock } from "../core/time.ts";
import type { Store } from "../store/store.ts";
import { Authenticator } from "./authenticate.ts";
import { Front } from "./connect.ts";
import { Credentials } from "./credentials.ts";
import { Devices } from "./devices.ts";
import { FailureLimiter } from "./limiter.ts";
import { type PairEvent, Pairing } from "./pairing.ts";
import { CurrentPassword } from "./password.ts";
import { Refusals } from "./refusals.ts";
import type { TailscaleConfig } from "./tailnet.ts";
import type { Tokens } from "./tokens.ts";
import { Whois } from "./whois.ts";

/** What identity is made of. */
export interface IdentityDeps {
  store: Pick<Store, "devices" | "tokens" | "journal" | "audit">;
  tokens: Tokens;
  clock: Clock;
  log: Log;
  isAdmitted(credential: string): Promise<boolean>;
  plugins(): Iterable<string>;
  onPairing(event: PairEvent): void;
  /** The configuration's; without it nobody comes in by one. */
  password?: Secret | undefined;
  /** The tailnet's logins; without it nobody comes in by one. */
  tailscale?: TailscaleConfig | undefined;
}

/** Everything that says who is calling. */
export interface Identity {
  readonly authenticator: Authenticator;
  readonly front: Front;
  readonly devices: Devices;
  readonly pairing: Pairing;
  readonly credentials: Credentials;
  readonly whois: Whois;
  /** The one limiter, as far as others may look. */
  readonly limiter: Pick<FailureLimiter, "size">;
  /** Takes another password at once. */
  readonly password: Pick<CurrentPassword, "change">;
  /** What is done now and then. */
  keep(): Promise<void>;
}

/** Opens the room over a store and its tokens. */
export function openIdentity(deps: IdentityDeps): Identity {
  const { store, tokens, clock, log } = deps;
  const limiter = new FailureLimiter(clock);
  const refusals = new Refusals({ store, clock, log });
  const devices = new Devices({ store, clock, log });
  const whois = new Whois({
    config: deps.tailscale,
    store,
    clock,
    log,
    limiter,
    refusals,
  });
  const password = new CurrentPassword({
    secret: deps.password,
    store,
    clock,
    log,
  });
  const credentials = new Credentials({
    tokens,
    devices,
    whois,
    password,
    isAdmitted: (credential) => deps.isAdmitted(credential),
    plugins: () => deps.plugins(),
  });
  const pairing = new Pairing({
    store,
    devices,
    clock,
    standing: (credential) => credentials.standing(credential),
    onEvent: (event) => deps.onPairing(event),
  });
  const authenticator = new Authenticator({
    tokens,
    clock,
    limiter,
    refusals,
    whois,
  });
  const front = new Front({
    authenticator,
    whois,
    devices,
    pairing,
    limiter,
    refusals,
    password,
    hasEnded: (principal) => credentials.hasEnded(principal),
  });
  return {
    authenticator,
    front,
    devices,
    pairing,
    credentials,
    whois,
    limiter,
    password,
    keep: async () => {
      await credentials.endExpired();
      refusals.flush();
    },
  };
}
