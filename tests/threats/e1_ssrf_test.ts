/**
 * E1: server-side request forgery and redirect leakage. A socket listens where
 * each attack would like to arrive; the DNS belongs to the attacker; nothing
 * may come in.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../../src/core/errors.ts";
import { silentLog } from "../../src/core/log.ts";
import { systemClock } from "../../src/core/time.ts";
import { findAddressFault } from "../../src/egress/address.ts";
import { EgressConfig } from "../../src/egress/config.ts";
import { type Egress, makeEgress } from "../../src/egress/egress.ts";
import { makePinned, type Resolve } from "../../src/egress/pinned.ts";

/** A port that counts who comes. */
function watch(
  hostname = "127.0.0.1",
  port = 0,
): { port: number; arrived: number } & Disposable {
  const listener = Deno.listen({ hostname, port });
  const watched = {
    port: listener.addr.port,
    arrived: 0,
    [Symbol.dispose]: () => listener.close(),
  };
  (async () => {
    for await (const conn of listener) {
      watched.arrived++;
      conn.close();
    }
  })().catch(() => {}); // the listener was closed
  return watched;
}

/** An open door whose every connection would end at the watched port. */
function openDoor(
  port: number,
  resolve: Resolve = () => Promise.resolve(["127.0.0.1"]),
): Egress {
  return makeEgress({
    config: EgressConfig.parse({ open: true }),
    clock: systemClock,
    log: silentLog,
    pinned: makePinned({ port, resolve }),
  });
}

/** One address in each range that is not public, by its four bytes. */
const INSIDE: readonly (readonly [number, number, number, number])[] = [
  [0, 0, 0, 0],
  [0, 1, 2, 3],
  [10, 0, 0, 1],
  [10, 255, 255, 255],
  [100, 64, 0, 1],
  [100, 100, 100, 200],
  [127, 0, 0, 1],
  [127, 255, 255, 254],
  [168, 63, 129, 16],
  [169, 254, 0, 1],
  [169, 254, 169, 254],
  [172, 16, 0, 1],
  [172, 31, 255, 255],
  [192, 0, 0, 192],
  [192, 0, 2, 1],
  [192, 88, 99, 1],
  [192, 168, 0, 1],
  [198, 18, 0, 1],
  [198, 19, 255, 255],
  [198, 51, 100, 1],
  [203, 0, 113, 1],
  [224, 0, 0, 1],
  [239, 255, 255, 255],
  [240, 0, 0, 1],
  [255, 255, 255, 255],
];

/** The ways people have written an IPv4 address to get it past a filter. */
function spellings(bytes: readonly number[]): string[] {
  const [a = 0, b = 0, c = 0, d = 0] = bytes;
  const value = ((a * 256 + b) * 256 + c) * 256 + d;
  const hex = value.toString(16).padStart(8, "0");
  const [high, low] = [hex.slice(0, 4), hex.slice(4)];
  const plain = bytes.join(".");
  return [
    plain,
    `${plain}.`,
    String(value),
    `0x${hex}`,
    `0X${hex.toUpperCase()}`,
    `0${value.toString(8)}`,
    bytes.map((byte) => `0${byte.toString(8)}`).join("."),
    bytes.map((byte) => `000${byte.toString(8)}`).join("."),
    bytes.map((byte) => `0x${byte.toString(16)}`).join("."),
    `${a}.${b}.${c * 256 + d}`,
    `${a}.${(b * 256 + c) * 256 + d}`,
    `0x${a.toString(16)}.${b}.0${(c * 256 + d).toString(8)}`,
    plain.replaceAll(".", "\u3002"),
    plain.replaceAll(/\d/g, (n) => String.fromCharCode(0xff10 + Number(n))),
    plain.replaceAll(/\d/g, (n) => `%3${n}`),
    plain.replaceAll(".", "%2e"),
    `[::ffff:${plain}]`,
    `[::ffff:${high}:${low}]`,
    `[0:0:0:0:0:FFFF:${high}:${low}]`,
    `[::${plain}]`,
    `[::ffff:0:${plain}]`,
    `[64:ff9b::${plain}]`,
    `[64:ff9b:1::${high}:${low}]`,
    `[2002:${high}:${low}::1]`,
    `[2001:0:${high}:${low}::1]`,
    `[fe80::5efe:${plain}]`,
    `user:pass@${plain}`,
    `example.com@${plain}`,
    `${plain}\\@example.com`,
    `${plain}#@example.com`,
    `\t${plain}\n`,
  ];
}

/** What no generator thinks of. */
const BY_HAND: readonly string[] = [
  "localhost",
  "LOCALHOST",
  "LocalHost.",
  "localhost.localdomain",
  "foo.localhost",
  "loc\u00adalhost",
  "%6cocalhost",
  "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
  "ip6-localhost",
  "broadcasthost",
  "metadata",
  "metadata.google.internal",
  "METADATA.GOOGLE.INTERNAL",
  "metadata.google.internal.",
  "metadata.goog.internal",
  "instance-data",
  "instance-data.ec2.internal",
  "kubernetes.default.svc",
  "kubernetes.default.svc.cluster.local",
  "host.docker.internal",
  "gateway.docker.internal",
  "router.lan",
  "printer.local",
  "nas.home.arpa",
  "intranet",
  "wiki.corp",
  "127.0.0.1.nip.io",
  "127-0-0-1.sslip.io",
  "localtest.me",
  "spoofed.burpcollaborator.net",
  "127.1",
  "127.0.1",
  "0",
  "0x0",
  "00000",
  "0177.1",
  "0x7f.1",
  "0x7f.0.0.0x1",
  "017700000001",
  "127.0.0.1:443",
  "127.0.0.1:0443",
  "127.0.0.1:80",
  "1.1.1.1:22",
  "[::]",
  "[::1]",
  "[0:0:0:0:0:0:0:1]",
  "[0000::1]",
  "[::1%25lo]",
  "[::1%lo]",
  "[fe80::1%25eth0]",
  "[fe80::1]",
  "[febf::1]",
  "[fec0::1]",
  "[fc00::1]",
  "[fd00:ec2::254]",
  "[ff02::1]",
  "[100::1]",
  "[2001::1]",
  "[2001:10::1]",
  "[2001:20::1]",
  "[2001:db8::1]",
  "[3fff::1]",
  "[5f00::1]",
  "[64:ff9b::808:808]",
  "[::ffff:8.8.8.8]",
  "[4000::1]",
  "[::ffff:7f00:1]:443",
  "example.com:25",
  "example.com.",
  "example.com\\@127.0.0.1",
  "127.0.0.1?@example.com",
  "example.com%00.127.0.0.1",
  "example.com%2f@127.0.0.1",
  "1.1.1.1 &@127.0.0.1# @3.3.3.3/",
  "xn--local-xyz",
  "a..b",
  "",
];

/** Everything around a host that may change how it is read. */
const AROUND: readonly ((host: string) => string)[] = [
  (host) => `https://${host}/`,
  (host) => `HTTPS:\\\\${host}\\latest\\meta-data`,
  (host) => `https:/${host}/`,
];

async function refusal(asked: Promise<Response>, url: string): Promise<string> {
  const error = await asked.then(
    () => assert.fail(`${JSON.stringify(url)} went out`),
    (error: unknown) => error,
  );
  assert.ok(error instanceof AppError, `${url}: ${error}`);
  assert.equal(error.code, "forbidden", `${url}: ${error.message}`);
  return String(error.details?.["refused"]);
}

Deno.test("no spelling of a place that is not public leads there", async () => {
  using inside = watch();
  using egress = openDoor(inside.port);
  const fetch = egress.door({ caller: "tool:web_fetch", hosts: ["public"] });
  const hosts = [...INSIDE.flatMap(spellings), ...BY_HAND];
  const urls = new Set(hosts.flatMap((host) => AROUND.map((of) => of(host))));
  assert.ok(urls.size >= 2000, `only ${urls.size} spellings`);
  const why = new Map<string, number>();
  for (const url of urls) {
    const word = await refusal(fetch(url), url);
    why.set(word, (why.get(word) ?? 0) + 1);
  }
  assert.equal(inside.arrived, 0);
  assert.ok((why.get("address") ?? 0) > 1000, Deno.inspect(why));
});

Deno.test("other schemes and plain http do not leave either", async () => {
  using inside = watch();
  using egress = openDoor(inside.port);
  const fetch = egress.door({ caller: "tool:web_fetch", hosts: ["public"] });
  for (
    const scheme of [
      "http:",
      "ftp:",
      "file:",
      "gopher:",
      "dict:",
      "ws:",
      "wss:",
      "data:",
      "blob:https:",
      "javascript:",
      "view-source:https:",
      "jar:https:",
    ]
  ) await refusal(fetch(`${scheme}//good.example.com/`), scheme);
  await refusal(fetch(`//127.0.0.1:${inside.port}/`), "no scheme");
  assert.equal(inside.arrived, 0);
});

Deno.test("a name that is public when checked and private a moment later leads nowhere", async () => {
  using outside = watch();
  using inside = watch("::1", outside.port);
  let asked = 0;
  using egress = makeEgress({
    config: EgressConfig.parse({ open: true }),
    clock: systemClock,
    log: silentLog,
    pinned: makePinned({
      port: outside.port,
      // The watched port on 127.0.0.1 plays the public internet here.
      findFault: (address) =>
        address === "127.0.0.1" ? undefined : findAddressFault(address),
      resolve: () =>
        Promise.resolve(asked++ % 2 === 0 ? ["127.0.0.1"] : ["::1"]),
    }),
  });
  const fetch = egress.door({ caller: "t", hosts: ["public"] });
  for (let n = 0; n < 6; n++) {
    const asking = fetch("https://rebind.example.com/");
    if (n % 2 === 1) await refusal(asking, "rebind");
    else await assert.rejects(asking, { code: "upstream" });
  }
  assert.equal(asked, 6, "each request asks once, and connects to the answer");
  assert.equal(outside.arrived, 3);
  assert.equal(inside.arrived, 0);
});

Deno.test("whatever the URL and whatever the DNS, nothing that is not public is reached", async () => {
  using inside = watch();
  const bad = fc.constantFrom(
    ...INSIDE.map((bytes) => bytes.join(".")),
    "::1",
    "::ffff:127.0.0.1",
    "fe80::1%eth0",
    "fd00::1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "not an address",
  );
  const good = fc.constantFrom("93.184.216.34", "2606:4700::1111");
  const addresses = fc.tuple(fc.array(good, { maxLength: 2 }), bad).map((
    [some, one],
  ) => [...some, one]);
  const text = fc.oneof(
    fc.webUrl({ withFragments: true, withQueryParameters: true }),
    fc.string({ unit: "binary" }).map((host) => `https://${host}`),
    fc.string().map((host) => `https://${host}.com/`),
    fc.domain().map((host) => `https://${host}/`),
    fc.ipV4Extended().map((host) => `https://${host}/`).filter((url) =>
      URL.parse(url)?.hostname.startsWith("127.") === true
    ),
    fc.constantFrom(...BY_HAND).map((host) => `https://${host}`),
  );
  await fc.assert(
    fc.asyncProperty(text, addresses, async (url, found) => {
      // A literal public address needs no DNS; it is not what this is about.
      const hostname = URL.parse(url)?.hostname ?? "";
      fc.pre(!/^[\d.]+$|^\[/.test(hostname) || hostname.startsWith("127."));
      using egress = openDoor(inside.port, () => Promise.resolve(found));
      const fetch = egress.door({ caller: "t", hosts: ["public"] });
      await refusal(fetch(url), url);
    }),
    { numRuns: 400 },
  );
  assert.equal(inside.arrived, 0);
});

/** Runs the guest program with exactly these flags, as the launcher would. */
async function runGuest(
  flags: readonly string[],
  args: readonly string[],
): Promise<string[]> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--cached-only",
      "--no-remote",
      "--allow-env=NOTHING",
      "--ignore-env",
      ...flags,
      new URL("./e1_guest.ts", import.meta.url).href,
      ...args,
    ],
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  const lines = text.decode(stdout).trim().split("\n");
  assert.ok(lines[0] !== "", text.decode(stderr));
  return lines;
}

Deno.test("behind the door Deno's own wall stands, and its refusal is explained", async () => {
  using inside = watch();
  const at = `localhost:${inside.port}`;
  const named = [`--allow-net=${at}`, "--deny-net=127.0.0.0/8"];
  const [denied = ""] = await runGuest(named, ["named", String(inside.port)]);
  assert.match(
    denied,
    /^forbidden Cannot reach "localhost:\d+" for "guest": it resolves to "127\.0\.0\.1:\d+", which this process may not reach/,
  );

  const other = ["--allow-net=api.example.com:443"];
  const [missing = ""] = await runGuest(other, ["named", String(inside.port)]);
  assert.match(missing, /started without net access to "localhost:\d+"/);

  const bare = ["--allow-net", "--deny-net=127.0.0.0/8"];
  const [open = ""] = await runGuest(bare, ["open", String(inside.port)]);
  assert.match(open, /^forbidden .*it resolves to "127\.0\.0\.1:\d+"/);
  assert.equal(inside.arrived, 0);

  const [works = ""] = await runGuest(["--allow-net"], [
    "open",
    String(inside.port),
  ]);
  assert.match(
    works,
    /^upstream /,
    "the open route needs net and nothing else",
  );
  assert.equal(inside.arrived, 1);
});
