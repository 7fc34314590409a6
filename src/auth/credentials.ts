/**
 * Every kind of credential in one place: whether one still stands as it did,
 * and who hears when it ends.
 *
 * @module
 */
import type { AuthorityRecord, Principal } from "../core/authority.ts";
import type { Devices } from "./devices.ts";
import type { EndListener } from "./endings.ts";
import type { Standing } from "./pairing.ts";
import type { CurrentPassword } from "./password.ts";
import { PASSWORD_CREDENTIAL } from "./principal.ts";
import type { Tokens } from "./tokens.ts";
import type { Whois } from "./whois.ts";

export interface CredentialsDeps {
  tokens: Tokens;
  devices: Devices;
  whois: Pick<Whois, "standing" | "onEnded">;
  password: Pick<CurrentPassword, "isLive" | "onEnded">;
  /** Whether the sender of a chat network behind a credential is let in now. */
  isAdmitted(credential: string): Promise<boolean>;
  /** Plugins that are granted anything now. */
  plugins(): Iterable<string>;
}

/** What every credential of this house comes to. */
export class Credentials {
  readonly #on: CredentialsDeps;

  constructor(deps: CredentialsDeps) {
    this.#on = deps;
  }

  /** Of a credential that can make others; `undefined` for any that is over. */
  async standing(credential: string): Promise<Standing> {
    const { tokens, devices, whois } = this.#on;
    if (credential.startsWith("tailscale:")) return whois.standing(credential);
    return credential.startsWith("tok_")
      ? await tokens.standing(credential)
      : await devices.standing(credential);
  }

  /** Whether a run's credential stands as it did when the run was made. */
  async isLive(record: AuthorityRecord): Promise<boolean> {
    const { credential, revision } = record;
    const [kind = "", ...rest] = credential.split(":");
    if (kind === "peer" || kind === "peer-owner") {
      return await this.#on.isAdmitted(credential);
    }
    if (credential === PASSWORD_CREDENTIAL) {
      return this.#on.password.isLive(revision);
    }
    if (kind === "plugin") {
      return [...this.#on.plugins()].includes(rest.join(":"));
    }
    return (await this.standing(credential))?.revision === revision;
  }

  /** Calls with a credential when it, or texts of it, end; until disposed. */
  onEnded(listener: EndListener): Disposable {
    const stack = new DisposableStack();
    stack.use(this.#on.tokens.onRevoked(listener));
    stack.use(this.#on.devices.onEnded(listener));
    stack.use(this.#on.whois.onEnded(listener));
    stack.use(this.#on.password.onEnded(listener));
    return stack;
  }

  /** Whether one that is no device's, or the text shown, ended in this process. */
  hasEnded({ authority, generation }: Principal): boolean {
    const { tokens, whois, password } = this.#on;
    const { credential, revision } = authority;
    if (credential.startsWith("tailscale:")) {
      return whois.standing(credential)?.revision !== revision;
    }
    if (credential === PASSWORD_CREDENTIAL) return !password.isLive(generation);
    return tokens.hasEnded(credential, generation);
  }

  /** Ends those whose time has come. */
  async endExpired(): Promise<void> {
    await this.#on.tokens.endExpired();
    await this.#on.devices.endExpired();
  }
}
