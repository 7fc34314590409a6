import assert from "node:assert/strict";
import fc from "fast-check";
import {
  NamedPlaces,
  normalAddress,
  normalPath,
  normalUrl,
  placesOf,
  trustedPlaces,
} from "./destinations.ts";
import { whyNotPlain, WindowIndex } from "./fetching.ts";

Deno.test("places are equal when they are the same place, and never else", () => {
  const same: [(text: string) => string | undefined, string, string][] = [
    [normalUrl, "HTTPS://Example.COM:443/a/../b", "https://example.com/b"],
    [normalUrl, "https://example.com./b#part", "https://example.com/b"],
    [normalUrl, "https://example.com/%7Eada", "https://example.com/~ada"],
    [normalUrl, "https://bücher.example/", "https://xn--bcher-kva.example/"],
    [normalAddress, "mailto:bob@Work.Test", "bob@work.test"],
    [normalAddress, "+49 (30) 123-456", "+4930123456"],
    [normalPath, "./a//b/../c/", "a/c"],
    [normalPath, "/../etc", "/etc"],
  ];
  for (const [normal, one, other] of same) {
    assert.equal(normal(one), normal(other), one);
  }
  const different: [(text: string) => string | undefined, string, string][] = [
    [normalUrl, "https://example.com/a", "https://example.com/A"],
    [normalUrl, "https://example.com/a%2Fb", "https://example.com/a/b"],
    [normalUrl, "http://example.com/", "https://example.com/"],
    [normalAddress, "Bob@work.test", "bob@work.test"],
    [normalAddress, "bоb@work.test", "bob@work.test"],
    [
      normalAddress,
      "1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
      "1boatslrhtknngkdxeeobr76b53lettpyt",
    ],
    [normalPath, "../a", "a"],
    [normalPath, "/A", "/a"],
  ];
  for (const [normal, one, other] of different) {
    assert.notEqual(normal(one), normal(other), one);
  }
  assert.equal(normalUrl("https://user:pw@example.com/"), undefined);
});

Deno.test("whole tokens name a place", () => {
  const named = new NamedPlaces();
  named.add(
    "Mail (bob@work.test), book 'Riverside View Hotel', see docs.test/a. Call Ann, Smith knows.",
  );
  for (
    const place of [
      "bob@work.test",
      "Riverside View Hotel",
      "https://docs.test/a",
      "Ann",
    ]
  ) assert.ok(named.has(place), place);
  for (
    const place of [
      "ob@work.test",
      "work.test",
      "View Hotel See",
      "Ann Smith",
      "https://docs.test/",
      "",
    ]
  ) assert.ok(!named.has(place), place);
  const trusted = trustedPlaces(["https://a.test", "x@B.test"]);
  assert.ok(trusted.has("https://a.test/") && trusted.has("x@b.test"));
});

Deno.test("every element of a list is a place", () => {
  const args = {
    to: ["a@b.test", "c@d.test"],
    deep: [{ url: "https://e.test" }],
  };
  const places = placesOf(args, [
    { path: "to", kind: "address" },
    { path: "deep.*.url", kind: "url" },
  ]);
  assert.deepEqual(places.map(({ value }) => value), [
    "a@b.test",
    "c@d.test",
    "https://e.test/",
  ]);
});

Deno.test("a passage of a private text in an address is found, however it is spelled", () => {
  const secret =
    "the quarterly numbers are bad and nobody outside may learn of it";
  const index = new WindowIndex(secret);
  const known = {
    secret: [index],
    isPublicText: () => false,
    isOwnersWord: () => false,
  };
  const spellings: ((text: string) => string)[] = [
    (text) => encodeURIComponent(text),
    (text) => encodeURIComponent(encodeURIComponent(text)),
    (text) => text.replaceAll(" ", "-"),
    (text) => text.replaceAll(" ", "").toUpperCase(),
    (text) => [...text.replaceAll(" ", ".")].reverse().join(""),
    (text) => encodeURIComponent(btoa(text)),
    (text) => btoa(text).replaceAll("+", "-").replaceAll("/", "_"),
    (text) => new TextEncoder().encode(text).toHex(),
    (text) => [...text.replaceAll(" ", "")].join("_"),
  ];
  fc.assert(
    fc.property(
      fc.nat(secret.length - 24),
      fc.constantFrom(...spellings),
      fc.constantFrom("/?q=", "/p/", "/x?a=1&b="),
      (from, spell, before) => {
        const passage = secret.slice(from, from + 24);
        const url = new URL(`https://evil.test${before}${spell(passage)}`);
        assert.ok(whyNotPlain(url, known) !== undefined, url.href);
      },
    ),
    { numRuns: 500 },
  );
  for (
    const plain of [
      "https://en.wikipedia.org/wiki/Deno",
      "https://docs.test/guide/getting-started?lang=en",
      "https://shop.test/p/2024/spring",
    ]
  ) assert.equal(whyNotPlain(new URL(plain), known), undefined, plain);
});
