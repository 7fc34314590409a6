/**
 * Which gateway's certificate is believed: one an authority of this machine
 * vouches for, or one whose key is pinned. A pin is stricter than an authority:
 * where there is one, nothing else counts.
 *
 * Never: a changed key is taken silently, or because the caller takes new ones.
 *
 * @module
 */
import { AppError } from "../core/errors.ts";
import type { PeerCertificate, Trust } from "../egress/tls.ts";

const PIN = /^sha256:[0-9a-f]{64}$/;

/**
 * A fingerprint as people write it (with colons, in capitals, without its
 * prefix) in its one form; `undefined` when it is none.
 */
export function toPin(text: string): string | undefined {
  const hex = text.trim().toLowerCase().replace(/^sha-?256[:=]/, "")
    .replaceAll(":", "");
  const pin = `sha256:${hex}`;
  return PIN.test(pin) ? pin : undefined;
}

/** Thrown for a certificate nobody vouches for and nobody pinned. */
export class UnknownCertificate extends AppError {
  override readonly name = "UnknownCertificate";

  constructor(readonly host: string, readonly peer: PeerCertificate) {
    super(
      "forbidden",
      `Cannot trust ${host}: no authority this machine knows vouches for it (${peer.why}); its key is ${peer.key}`,
      {
        hint:
          `Run "carapace tls show" where that gateway runs; if it prints the same key, add: --pin ${peer.key}`,
      },
    );
  }
}

/** What a certificate is measured by. */
export interface TrustOptions {
  /** `host:port`, for messages. */
  host: string;
  /** The key's fingerprint, as {@linkcode toPin} makes it. */
  pin: string | undefined;
  /** Told of every certificate that is believed. */
  onTrusted?(peer: PeerCertificate): void;
}

/** The judge of one host's certificates. */
export function makeTrust({ host, pin, onTrusted }: TrustOptions): Trust {
  return (peer) => {
    if (pin === undefined && !peer.isTrusted) {
      throw new UnknownCertificate(host, peer);
    }
    if (pin !== undefined && pin !== peer.key) {
      throw new AppError(
        "forbidden",
        `THE KEY OF ${host} HAS CHANGED: it was ${pin}, now it is ${peer.key}. ` +
          "Another machine may be answering in its place; nothing was sent",
        {
          hint:
            `Run "carapace tls show" where that gateway runs; only if it prints the new key, say: --pin ${peer.key}`,
          details: { was: pin, is: peer.key },
        },
      );
    }
    onTrusted?.(peer);
  };
}
