/**
 * Says who stands behind a socket's `connect`, whatever it shows: a token, a
 * device's signature, a device's token, an invitation.
 *
 * Every check is charged before anything is awaited. What is shown must be
 * right: a good token does not make up for a bad signature beside it.
 *
 * Never: a client's word is an input to what it may do; a device is paired
 * because of where it is or what else it shows.
 *
 * @module
 */
import type { Principal } from "../core/authority.ts";
import type { NodeAbilities } from "../core/methods/device.ts";
import { AppError } from "../core/errors.ts";
import type { ConnectParams } from "../core/protocol.ts";
import type { DeviceRow } from "../store/devices.ts";
import type { Authenticator } from "./authenticate.ts";
import {
  type Challenge,
  proveDevice,
  type ProvenDevice,
} from "./device_proof.ts";
import type { Devices } from "./devices.ts";
import type { FailureLimiter } from "./limiter.ts";
import { abilitiesOf, type Pairing, withinApproved } from "./pairing.ts";
import type { CurrentPassword } from "./password.ts";
import {
  deviceCredential,
  devicePrincipal,
  passwordPrincipal,
} from "./principal.ts";
import { refusal, type Refusals, type RefusedKind } from "./refusals.ts";
import type { TailnetPeer } from "./tailnet.ts";
import type { Whois } from "./whois.ts";

/** How a `connect` came. */
export interface Arrival {
  address: string;
  challenge: Challenge;
  /** On this machine, or in TLS: nobody reads along. */
  isPrivate?: boolean;
  /** Whose token the upgrade itself carried. */
  principal?: Principal | undefined;
  /** Where it came from, if that alone may say who it is. */
  tailnet?: TailnetPeer | undefined;
}

/** Who was let in. */
export interface Admitted {
  principal: Principal;
  /** Every credential whose end closes the socket. */
  credentials: readonly string[];
  /** Whether one of them ended since: whoever keeps a socket asks again. */
  isOver(): boolean;
  /** A device's first token. */
  deviceToken?: string;
  /** A node's abilities: what it declared, as far as it was approved. */
  node?: NodeAbilities & { id: string };
}

export interface FrontDeps {
  authenticator: Authenticator;
  whois: Pick<Whois, "find">;
  devices: Devices;
  pairing: Pairing;
  limiter: FailureLimiter;
  refusals: Pick<Refusals, "note">;
  password: Pick<CurrentPassword, "verify">;
  /** Whether what a principal showed, no device's, was ended in this process. */
  hasEnded(principal: Principal): boolean;
}

/** The check at the beginning of every socket. */
export class Front {
  readonly #on: FrontDeps;

  constructor(deps: FrontDeps) {
    this.#on = deps;
  }

  /**
   * Who connects.
   *
   * @throws {AppError} `unauthorized`, `rate_limited`; `not_paired` for a key
   * that nobody approved
   */
  async admit(params: ConnectParams, arrival: Arrival): Promise<Admitted> {
    const { auth = {}, device } = params;
    const { token, deviceToken, bootstrapToken } = auth;
    const isTokenOnly = device === undefined && deviceToken === undefined &&
      bootstrapToken === undefined && !isPasswordOnly(params);
    if (isTokenOnly) {
      const { principal } = arrival;
      if (token === undefined && principal !== undefined) {
        return this.#alone(principal);
      }
      return this.#alone(
        await this.#on.authenticator.authenticate(
          token === undefined ? { tailnet: arrival.tailnet } : { token },
          { address: arrival.address },
        ),
      );
    }
    return await this.#charged(params, arrival);
  }

  async #charged(params: ConnectParams, arrival: Arrival): Promise<Admitted> {
    const { limiter, refusals } = this.#on;
    const { address } = arrival;
    // Before the first await: tries that run together must all be counted.
    const isGuess = isPasswordOnly(params);
    const claimed = isGuess ? "password" : params.device?.id;
    // A password can be guessed: who failed waits before it is looked at.
    const waitMs = isGuess ? limiter.waitMs(address, "password") : 0;
    if (waitMs > 0) {
      refusals.note("password", address);
      throw refusal(waitMs);
    }
    const charge = limiter.charge(address, claimed);
    let admitted: Admitted | undefined;
    try {
      admitted = await this.#judge(params, arrival);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "not_paired") {
        charge.refund(); // our failure, not the caller's
        throw error;
      }
      refusals.note("device", address);
      throw error;
    }
    if (admitted === undefined) {
      refusals.note(kindOf(params), address);
      throw refusal(charge.delayMs);
    }
    charge.refund();
    return admitted;
  }

  async #judge(
    params: ConnectParams,
    arrival: Arrival,
  ): Promise<Admitted | undefined> {
    const device = await proveDevice(params, arrival.challenge);
    const { token, deviceToken, bootstrapToken } = params.auth ?? {};
    const isGuess = isPasswordOnly(params);
    if (device === undefined && (!isGuess || params.device !== undefined)) {
      return undefined;
    }
    const principal = isGuess
      ? await this.#byPassword(params, arrival)
      : token === undefined
      ? arrival.principal
      : await this.#on.authenticator.find(token);
    if (device === undefined || isGuess && principal === undefined) {
      return principal === undefined ? undefined : this.#alone(principal);
    }
    if (principal !== undefined) {
      return await this.#beside(principal, { device, params, arrival });
    }
    const { devices, pairing } = this.#on;
    if (bootstrapToken !== undefined) {
      const row = await pairing.redeem(bootstrapToken, device, params);
      return row === undefined ? undefined : await this.#asDevice(row, params);
    }
    const row = await devices.find(device.id, params.role ?? "operator");
    // Clients of the field send a device's token in either place.
    const text = deviceToken ?? token;
    if (text !== undefined) {
      if (row === undefined) return undefined;
      const number = await devices.acceptToken(row, text);
      return number === undefined
        ? undefined
        : await this.#asDevice(row, params, number);
    }
    if (row !== undefined) return await this.#asDevice(row, params);
    const neighbour = await this.#byTailnet(device, { params, arrival });
    if (neighbour !== undefined) {
      return await this.#beside(neighbour, { device, params, arrival });
    }
    throw await this.#notPaired(device, { params, arrival });
  }

  async #byPassword(
    { auth }: ConnectParams,
    { isPrivate }: Arrival,
  ): Promise<Principal | undefined> {
    if (isPrivate !== true) return undefined;
    const number = await this.#on.password.verify(auth?.password ?? "");
    return number === undefined ? undefined : passwordPrincipal(number);
  }

  /**
   * A key that nobody has seen yet shows nothing, so that the tailnet may still
   * say who it is. One that was ended is refused like any credential that is.
   */
  async #byTailnet(
    { id }: ProvenDevice,
    { params, arrival }: { params: ConnectParams; arrival: Arrival },
  ): Promise<Principal | undefined> {
    const { role = "operator" } = params;
    if (arrival.tailnet === undefined || role !== "operator") return undefined;
    if (await this.#on.devices.isKnown(id, role)) return undefined;
    return await this.#on.whois.find(arrival.tailnet);
  }

  /** A token suffices; the device beside it may ask to be paired, no more. */
  async #beside(
    principal: Principal,
    { device, params, arrival }: {
      device: ProvenDevice;
      params: ConnectParams;
      arrival: Arrival;
    },
  ): Promise<Admitted> {
    const { devices, pairing } = this.#on;
    const row = await devices.find(device.id, params.role ?? "operator");
    const { credential } = principal.authority;
    if (row !== undefined) {
      devices.touch(row);
      return {
        ...this.#alone(principal),
        credentials: [credential, deviceCredential(row)],
        isOver: () => this.#on.hasEnded(principal) || devices.isOver(row),
      };
    }
    const { address } = arrival;
    await pairing.request(device, { params, address, via: credential });
    return this.#alone(principal);
  }

  #alone(principal: Principal): Admitted {
    return {
      principal,
      credentials: [principal.authority.credential],
      isOver: () => this.#on.hasEnded(principal),
    };
  }

  async #asDevice(
    row: DeviceRow,
    params: ConnectParams,
    tokenNumber?: number,
  ): Promise<Admitted> {
    const { devices } = this.#on;
    devices.touch(row);
    const made = devicePrincipal(row);
    const text = await devices.issue(row);
    return {
      principal: tokenNumber === undefined
        ? made
        : Object.freeze({ ...made, generation: tokenNumber }),
      credentials: [made.authority.credential],
      isOver: () => devices.isOver(row),
      ...(text === undefined ? {} : { deviceToken: text }),
      ...(row.role === "node"
        ? {
          node: {
            id: row.id,
            ...withinApproved(abilitiesOf(params), row.abilities),
          },
        }
        : {}),
    };
  }

  async #notPaired(
    device: ProvenDevice,
    { params, arrival }: { params: ConnectParams; arrival: Arrival },
  ): Promise<AppError> {
    const { address } = arrival;
    const asked = await this.#on.pairing.request(device, { params, address });
    return new AppError("not_paired", "This device is not paired", {
      hint: "The owner pairs it: `carapace device list`, then " +
        "`carapace device approve ID`",
      ...(asked === undefined
        ? {}
        : { details: { requestId: asked.requestId } }),
    });
  }
}

/** A token beside a password is what counts. */
function isPasswordOnly({ auth = {} }: ConnectParams): boolean {
  const { password, token, deviceToken, bootstrapToken } = auth;
  return password !== undefined && token === undefined &&
    deviceToken === undefined && bootstrapToken === undefined;
}

function kindOf({ auth = {} }: ConnectParams): RefusedKind {
  if (auth.bootstrapToken !== undefined) return "bootstrap";
  if (auth.deviceToken !== undefined) return "device_token";
  if (isPasswordOnly({ auth } as ConnectParams)) return "password";
  return auth.token === undefined ? "device" : "token";
}
