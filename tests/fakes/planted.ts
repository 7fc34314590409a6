/**
 * Secrets that are planted to be looked for: in every spelling a careless
 * encoder gives them, independently of the program's own list of spellings.
 */

/** A secret and where it was put. */
export interface Planted {
  name: string;
  value: string;
}

/** What a secret may be written as; none is short enough to be found by chance. */
export function spellingsOf(value: string): string[] {
  const bytes = new TextEncoder().encode(value);
  const json = JSON.stringify(value).slice(1, -1);
  return [
    value,
    json,
    JSON.stringify(json).slice(1, -1),
    encodeURIComponent(value),
    encodeURI(value),
    new URLSearchParams({ v: value }).toString().slice(2),
    bytes.toBase64({ omitPadding: true }),
    bytes.toBase64({ alphabet: "base64url", omitPadding: true }),
    new TextEncoder().encode(`Bearer ${value}`).toBase64({ omitPadding: true }),
    bytes.toHex(),
    value.replaceAll("&", "&amp;").replaceAll('"', "&quot;"),
  ];
}

/** Looks for planted secrets, and remembers where it found one. */
export class Lookout {
  readonly #planted: Planted[];
  readonly found: string[] = [];
  looked = 0;

  constructor(planted: readonly Planted[]) {
    this.#planted = [...planted];
  }

  plant(name: string, value: string): void {
    this.#planted.push({ name, value });
  }

  /** Notes every planted secret that a text holds, except those it may. */
  look(place: string, text: string, may: readonly string[] = []): void {
    this.looked++;
    for (const { name, value } of this.#planted) {
      if (may.includes(name)) continue;
      const at = spellingsOf(value).map((spelling) => text.indexOf(spelling))
        .find((index) => index >= 0);
      if (at === undefined) continue;
      this.found.push(
        `${name} in ${place}: …${text.slice(Math.max(0, at - 60), at + 12)}…`,
      );
    }
  }
}
