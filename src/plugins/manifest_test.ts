import assert from "node:assert/strict";
import fc from "fast-check";
import { canonicalJson } from "../core/canonical.ts";
import { AppError, type ErrorCode } from "../core/errors.ts";
import { sha256Hex } from "../core/ids.ts";
import {
  checkWasm,
  makePublisherKeys,
  signManifest,
  verifyManifest,
} from "./manifest.ts";
import { TrustedPublisher } from "./config.ts";

const WASM = new TextEncoder().encode("not really a module");

async function written(): Promise<Record<string, unknown>> {
  return {
    id: "weather",
    name: "Weather",
    version: "1.2.3",
    publisher: "Example Works",
    wasm: { file: "weather.wasm", sha256: await sha256Hex(WASM) },
    tools: [{
      name: "forecast",
      description: "The weather of a place",
      input: { type: "object", properties: { place: { type: "string" } } },
      effect: "fetch",
      export: "forecast",
    }],
    wants: { http: [{ host: "api.example.com" }], log: true },
  };
}

type Signature = { publicKey: string; value: string };

function signatureOf(manifest: Record<string, unknown>): Signature {
  return manifest.signature as Signature;
}

function trust(manifest: Record<string, unknown>, more = {}) {
  const { publicKey } = signatureOf(manifest);
  return [
    TrustedPublisher.parse({ name: "Example Works", publicKey, ...more }),
  ];
}

async function refuses(
  run: Promise<unknown>,
  code: ErrorCode,
  why: RegExp,
): Promise<void> {
  await assert.rejects(run, (error) => {
    assert.ok(error instanceof AppError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, why);
    return true;
  });
}

Deno.test("verifyManifest() says who signed", async (t) => {
  const keys = await makePublisherKeys();
  const signed = await signManifest(await written(), keys);

  await t.step(
    "a trusted publisher, whatever the order of the fields",
    async () => {
      const turned = Object.fromEntries(Object.entries(signed).reverse());
      for (
        const manifest of [signed, turned, JSON.parse(JSON.stringify(signed))]
      ) {
        const { signed: by } = await verifyManifest(manifest, {
          trusted: trust(signed),
        });
        assert.equal(by.kind, "trusted");
      }
    },
  );
  await t.step("an unknown key: an empty list trusts nobody", async () => {
    const { signed: by } = await verifyManifest(signed, { trusted: [] });
    assert.equal(by.kind, "unknown");
  });
  await t.step("nobody", async () => {
    const { signed: by, manifest } = await verifyManifest(await written(), {
      trusted: trust(signed),
    });
    assert.equal(by.kind, "unsigned");
    assert.equal(manifest.wants.http[0]?.port, 443);
  });
});

Deno.test("verifyManifest() refuses what was changed or is not theirs", async (t) => {
  const keys = await makePublisherKeys();
  const others = await makePublisherKeys();
  const signed = await signManifest(await written(), keys);
  const options = { trusted: trust(signed) };

  const changes: [what: string, change: Record<string, unknown>][] = [
    ["an altered version", { version: "1.2.4" }],
    ["an altered file", {
      wasm: { file: "weather.wasm", sha256: "0".repeat(64) },
    }],
    ["an altered id", { id: "clock" }],
    ["an extended want", {
      wants: { http: [{ host: "*.example.com" }], log: true },
    }],
    ["a default written out", { description: "" }],
    ["a tool left out", { tools: [] }],
    ["an added hook", { hooks: [{ point: "before_turn", export: "hook" }] }],
  ];
  for (const [what, change] of changes) {
    await t.step(what, async () => {
      const run = verifyManifest({ ...signed, ...change }, options);
      await refuses(run, "forbidden", /signature is not over this manifest/);
    });
  }
  await t.step("another key's name beside the right signature", async () => {
    const other = signatureOf(await signManifest(await written(), others));
    const signature = { ...signatureOf(signed), publicKey: other.publicKey };
    await refuses(
      verifyManifest({ ...signed, signature }, options),
      "forbidden",
      /not over this manifest/,
    );
  });
  await t.step("another key that uses a trusted publisher's name", async () => {
    const forged = await signManifest(await written(), others);
    await refuses(
      verifyManifest(forged, options),
      "forbidden",
      /claims to be of "Example Works"/,
    );
  });
  await t.step(
    "another key that uses a trusted publisher's plugin",
    async () => {
      const forged = await signManifest(
        { ...await written(), publisher: "Me" },
        others,
      );
      const trusted = trust(signed, { plugins: ["weather"] });
      await refuses(
        verifyManifest(forged, { trusted }),
        "forbidden",
        /another key/,
      );
    },
  );
  await t.step("a trusted key that names another publisher", async () => {
    const manifest = await signManifest({
      ...await written(),
      publisher: "Bank",
    }, keys);
    await refuses(
      verifyManifest(manifest, options),
      "forbidden",
      /names "Bank" and is signed by/,
    );
  });
  await t.step("a trusted key that claims another's id", async () => {
    const trusted = trust(signed, { plugins: ["clock"] });
    await refuses(
      verifyManifest(signed, { trusted }),
      "forbidden",
      /may not publish it/,
    );
  });
  await t.step("an update from another key, or unsigned", async () => {
    const installedKey = signatureOf(signed).publicKey;
    await verifyManifest(signed, { ...options, installedKey });
    const forged = await signManifest(await written(), others);
    for (const update of [forged, await written()]) {
      await refuses(
        verifyManifest(update, { trusted: [], installedKey }),
        "forbidden",
        /installed from another key/,
      );
    }
  });
  await t.step("a signature that is none", async () => {
    for (const value of ["", "%%%", "AAAA"]) {
      const signature = { ...signatureOf(signed), value };
      await refuses(
        verifyManifest({ ...signed, signature }, options),
        "bad_input",
        /64 bytes/,
      );
    }
  });
  await t.step("what is no manifest", async () => {
    for (const nothing of [null, [], "text", {}, { ...signed, extra: 1 }]) {
      await refuses(verifyManifest(nothing, options), "bad_input", /manifest/);
    }
  });
});

Deno.test("checkWasm() knows the module by its hash", async () => {
  const { manifest } = await verifyManifest(await written(), { trusted: [] });
  await checkWasm(manifest, WASM);
  const other = WASM.slice();
  other[0] = 0;
  await refuses(checkWasm(manifest, other), "forbidden", /not the file/);
});

Deno.test("canonicalJson() writes as RFC 8785 says", async (t) => {
  await t.step("numbers, texts and literals (section 3.2.2)", () => {
    const value = JSON.parse(
      '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],' +
        '"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
    );
    assert.equal(
      canonicalJson(value),
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });
  await t.step("keys by UTF-16 code units (section 3.2.3)", () => {
    const value = JSON.parse(
      '{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\ufb33":"Hebrew Letter Dalet With Dagesh",' +
        '"1":"One","\\ud83d\\ude00":"Emoji: Grinning Face","\\u0080":"Control","\\u00f6":"Latin Small Letter O With Diaeresis"}',
    );
    const text = canonicalJson(value);
    const order = [
      "Carriage",
      "One",
      "Control",
      "Latin",
      "Euro",
      "Emoji",
      "Hebrew",
    ];
    const at = order.map((word) => text.indexOf(word));
    assert.deepEqual(at, at.toSorted((a, b) => a - b));
  });
  await t.step("any JSON comes back, and its order does not matter", () => {
    const turned = (value: unknown): unknown =>
      Array.isArray(value)
        ? value.map(turned)
        : typeof value === "object" && value !== null
        ? Object.fromEntries(
          Object.entries(value).reverse().map(([k, v]) => [k, turned(v)]),
        )
        : value;
    fc.assert(
      fc.property(fc.json({ stringUnit: "grapheme" }), (json) => {
        const value: unknown = JSON.parse(json);
        const text = canonicalJson(value);
        assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)));
        assert.equal(canonicalJson(turned(value)), text);
        assert.equal(canonicalJson(JSON.parse(text)), text);
      }),
      { numRuns: 500 },
    );
  });
});
