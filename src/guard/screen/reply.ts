/**
 * The last filter of what a model says: secrets taken out, and, where untrusted
 * text was read, addresses that nobody wrote taken the life out of.
 *
 * Never: a part of a secret or of such an address leaves before it is known to
 * be one.
 *
 * @module
 */
import { UrlDefuser } from "./defuse.ts";
import type { LeakFilter, SecretSet } from "./leaks.ts";

/** A stream's filter. */
export interface TextFilter {
  push(text: string): string;
  end(): string;
  /** Characters held back now. */
  readonly held: number;
}

/** Filters one answer of a model. */
export class ReplyFilter implements TextFilter {
  readonly #leaks: LeakFilter;
  readonly #urls: UrlDefuser | undefined;

  /** @param isKnown Given where untrusted text was read: which addresses were */
  constructor(
    secrets: SecretSet,
    isKnown: ((url: string) => boolean) | undefined,
  ) {
    this.#leaks = secrets.filter();
    this.#urls = isKnown === undefined ? undefined : new UrlDefuser(isKnown);
  }

  get held(): number {
    return this.#leaks.held + (this.#urls?.held ?? 0);
  }

  get redacted(): number {
    return this.#leaks.found;
  }

  get defused(): number {
    return this.#urls?.defused ?? 0;
  }

  push(text: string): string {
    const clean = this.#leaks.push(text);
    return this.#urls?.push(clean) ?? clean;
  }

  end(): string {
    const clean = this.#leaks.end();
    return this.#urls === undefined
      ? clean
      : this.#urls.push(clean) + this.#urls.end();
  }
}
