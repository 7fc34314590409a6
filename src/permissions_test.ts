import assert from "node:assert/strict";
import fc from "fast-check";
import { recordEnv } from "./config/env.ts";
import type { Loaded } from "./config/load.ts";
import { AppError } from "./core/errors.ts";
import {
  type Facts,
  grantsOf,
  isBare,
  permissionsFor,
  planFor,
  safePermissions,
  toFlags,
} from "./permissions.ts";
import { Settings } from "./settings.ts";

const facts: Facts = {
  stateDir: "/home/me/.carapace",
  sourceDir: "/opt/carapace",
  configFiles: ["/home/me/.carapace/carapace.jsonc"],
  env: recordEnv({}),
  os: "linux",
};

function flagsFor(config: unknown, over: Partial<Facts> = {}, verb = "start") {
  const settings = Settings.parse(config);
  return toFlags(permissionsFor(verb, settings, { ...facts, ...over }));
}

function listOf(flags: readonly string[], flag: string): string[] | undefined {
  return flags.find((f) => f.startsWith(`${flag}=`))?.slice(flag.length + 1)
    .split(",");
}

function loadedFrom(config: unknown, variables: string[] = []) {
  const loaded: Loaded<Settings> = {
    ok: true,
    value: Settings.parse(config),
    source: "/home/me/.carapace/carapace.jsonc",
    hash: "",
    files: [],
    variables,
    where: (path) => `carapace.jsonc:${path.length}`,
  };
  return loaded;
}

const TAILNET = {
  gateway: {
    tls: { cert: "/c.pem", key: "/k.pem" },
    tailscale: { socket: "/run/tailscale/tailscaled.sock", users: {} },
  },
};

/** What plugins' workers load. */
const WORKERS = [
  "/opt/carapace/src/plugins",
  "/opt/carapace/src/core/bounded.ts",
  "/opt/carapace/src/core/errors.ts",
];

Deno.test("permissionsFor() grants the default configuration its own and no more", () => {
  const flags = flagsFor({});
  assert.deepEqual(flags.slice(0, 5), [
    "--no-prompt",
    "--frozen",
    "--cached-only",
    "--no-remote",
    "--ignore-env",
  ]);
  assert.ok(listOf(flags, "--allow-net")?.includes("127.0.0.1:18789"));
  assert.deepEqual(listOf(flags, "--allow-read"), [
    ...WORKERS,
    facts.stateDir,
  ]);
  assert.deepEqual(listOf(flags, "--allow-write"), [facts.stateDir]);
  assert.ok(listOf(flags, "--allow-env")?.includes("CARAPACE_TOKEN"));
  for (const never of ["-A", "--allow-all", "--allow-run", "--allow-ffi"]) {
    assert.ok(!flags.some((flag) => flag.startsWith(never)), never);
  }
  const bare = flags.filter((flag) => /^--allow-\w+$/.test(flag));
  assert.deepEqual(bare, []);
});

Deno.test("permissionsFor() gives each line its entry", async (t) => {
  const rows: [
    why: string,
    config: unknown,
    flag: string,
    want: string,
    denied?: [cidr: string, isDenied: boolean],
  ][] = [
    [
      "a private address to listen on is cut out of the denied ranges",
      { gateway: { container: true, host: "10.1.2.3", port: 80 } },
      "--allow-net",
      "10.1.2.3:80",
      ["10.1.2.3", false],
    ],
    [
      "an IPv6 address stands in brackets and is not denied",
      { gateway: { container: true, host: "::1" } },
      "--allow-net",
      "[::1]:18789",
      ["[::1]", false],
    ],
    [
      "tailscaled's socket, to connect to",
      TAILNET,
      "--allow-net",
      "unix:/run/tailscale/tailscaled.sock",
    ],
    [
      "tailscaled's socket, to read from",
      TAILNET,
      "--allow-read",
      "/run/tailscale/tailscaled.sock",
    ],
    [
      "tailscaled's socket, to write to",
      TAILNET,
      "--allow-write",
      "/run/tailscale/tailscaled.sock",
    ],
    [
      "a named tool host by https",
      { egress: { hosts: ["api.example.com"] } },
      "--allow-net",
      "api.example.com:443",
    ],
    [
      "a proxy",
      { egress: { proxy: "http://proxy.example.com:3128" } },
      "--allow-net",
      "proxy.example.com:3128",
    ],
    [
      "a root to read",
      { tools: { roots: ["/srv/notes"] } },
      "--allow-read",
      "/srv/notes",
    ],
    [
      "a root to write",
      { tools: { roots: ["/srv/notes"] } },
      "--allow-write",
      "/srv/notes",
    ],
    ["by default [::1] is denied", {}, "--deny-net", "[::1]"],
    ["by default all of 10/8 is denied", {}, "--deny-net", "10.0.0.0/8"],
  ];
  for (const [why, config, flag, want, denied] of rows) {
    await t.step(why, () => {
      const flags = flagsFor(config);
      assert.ok(listOf(flags, flag)?.includes(want), flags.join(" "));
      if (denied === undefined) return;
      const [address, isDenied] = denied;
      const deny = listOf(flags, "--deny-net") ?? [];
      assert.equal(deny.includes(address), isDenied);
      assert.ok(!deny.includes("10.0.0.0/8") || address.startsWith("["));
    });
  }
});

Deno.test("permissionsFor() gives the bare flag only when egress.open asks, with the deny list", () => {
  const open = Settings.parse({ egress: { open: true } });
  const permissions = permissionsFor("start", open, facts);
  assert.ok(isBare(permissions.net));
  const flags = toFlags(permissions);
  assert.ok(flags.includes("--allow-net"));
  assert.equal(listOf(flags, "--allow-net"), undefined);
  assert.ok(listOf(flags, "--deny-net")?.includes("10.0.0.0/8"));
  const bare = grantsOf(permissions).find((grant) =>
    grant.flag === "--allow-net" && grant.value === ""
  );
  assert.equal(bare?.because, "egress.open");
});

Deno.test("permissionsFor() refuses what would mean something else in a flag", async (t) => {
  const rows: [why: string, config: unknown][] = [
    ["white space", { tools: { roots: ["/x --allow-run"] } }],
    ["a comma", { tools: { roots: ["/x,/etc"] } }],
    ["a quote", { tools: { roots: ['/x"'] } }],
    ["a leading -", { tools: { roots: ["-A"] } }],
    ["a relative path", { tools: { roots: ["notes"] } }],
    ["a path that climbs", { tools: { roots: ["/srv/../etc"] } }],
    ["the whole disk", { tools: { roots: ["/"] } }],
    ["above the state directory", { tools: { roots: ["/home/me"] } }],
    ["the state directory", { tools: { roots: ["/home/me/.carapace/"] } }],
    ["inside it", { tools: { roots: ["/home/me/.carapace/x"] } }],
    ["the program", { tools: { roots: ["/opt/carapace"] } }],
    ["its code", { tools: { roots: ["/opt/carapace/src/core"] } }],
    ["a host with a comma", { gateway: { container: true, host: "a,b" } }],
    ["a host that is a range", {
      gateway: { container: true, host: "10.0.0.0/8" },
    }],
    ["a host that is a star", { gateway: { container: true, host: "*" } }],
  ];
  for (const [why, config] of rows) {
    await t.step(why, () => {
      const plan = planFor("start", loadedFrom(config), facts);
      assert.equal(plan.problems.length, 1);
      const [problem] = plan.problems;
      assert.match(problem?.message ?? "", /^Cannot grant/);
      assert.match(problem?.path ?? "", /^(tools\.roots|gateway\.host)$/);
      assert.equal(typeof problem?.line, "number");
      assert.deepEqual(plan.flags, toFlags(safePermissions("start", facts)));
    });
  }
  await t.step("a neighbour of the state directory is fine", () => {
    flagsFor({ tools: { roots: ["/home/me/.carapace-notes"] } });
  });
});

Deno.test("permissionsFor() never lets a root become more than its own entries", () => {
  const clean = flagsFor({}).length;
  fc.assert(fc.property(fc.string({ minLength: 1, maxLength: 40 }), (root) => {
    const settings = Settings.parse({ tools: { roots: [`/srv/${root}`] } });
    let flags: string[];
    try {
      flags = toFlags(permissionsFor("start", settings, facts));
    } catch (error) {
      assert.ok(error instanceof AppError);
      return;
    }
    assert.equal(flags.length, clean);
    assert.deepEqual(listOf(flags, "--allow-read"), [
      ...WORKERS,
      facts.stateDir,
      `/srv/${root}`,
    ]);
  }));
});

Deno.test("planFor() passes the configuration's variables, but none that steers the runtime", () => {
  const plan = planFor("start", loadedFrom({}, ["MY_KEY"]), facts);
  assert.ok(listOf(plan.flags, "--allow-env")?.includes("MY_KEY"));
  for (
    const name of [
      "HTTP_PROXY",
      "https_proxy",
      "LD_PRELOAD",
      "DENO_DIR",
      "PATH",
      "NODE_OPTIONS",
    ]
  ) {
    const bad = planFor("start", loadedFrom({}, [name]), facts);
    assert.match(bad.problems[0]?.message ?? "", /steers the runtime/, name);
    assert.ok(!listOf(bad.flags, "--allow-env")?.includes(name));
  }
  const star = planFor("start", loadedFrom({}, ["MY_*"]), facts);
  assert.equal(star.problems.length, 1);
});

Deno.test("planFor() gives a bad configuration its state directory and default address", () => {
  const problem = { file: "x", path: "gateway.port", message: "no" };
  const env = recordEnv({ CARAPACE_PORT: "20001" });
  const plan = planFor(
    "start",
    {
      ok: false,
      problems: [problem],
      source: "x",
      variables: ["MY_KEY", "HTTP_PROXY"],
    },
    { ...facts, env, configFiles: ["/etc/carapace.jsonc"] },
  );
  assert.deepEqual(plan.problems, [problem]);
  assert.deepEqual(listOf(plan.flags, "--allow-net"), ["127.0.0.1:20001"]);
  const names = listOf(plan.flags, "--allow-env") ?? [];
  assert.ok(names.includes("MY_KEY"), "its repair can be seen");
  assert.ok(!names.includes("HTTP_PROXY") && !names.includes("OPENAI_API_KEY"));
  assert.deepEqual(listOf(plan.flags, "--allow-write"), [facts.stateDir]);
  assert.deepEqual(listOf(plan.flags, "--allow-read"), [
    ...WORKERS,
    facts.stateDir,
    "/etc/carapace.jsonc",
  ]);
});

Deno.test("planFor() names the configuration line behind an entry", () => {
  const { grants } = planFor(
    "start",
    loadedFrom({ tools: { roots: ["/srv/notes"] } }),
    facts,
  );
  const of = (flag: string, value: string) =>
    grants.find((g) => g.flag === flag && g.value === value)?.because;
  assert.equal(
    of("--allow-write", "/srv/notes"),
    "tools.roots (carapace.jsonc:11)",
  );
  assert.equal(of("--allow-write", facts.stateDir), "state directory");
  assert.equal(of("--deny-net", "10.0.0.0/8"), "not a public address");
  assert.ok(grants.every(({ because }) => because !== ""));
});

Deno.test("permissionsFor() lets a policy be read from the file its caller names", () => {
  const reads = (args: string[], verb = "policy") =>
    listOf(flagsFor({}, { args }, verb), "--allow-read") ?? [];
  const base = reads([]);
  const more = (args: string[], verb?: string) =>
    reads(args, verb).filter((path) => !base.includes(path));
  const replay = ["replay", "main", "--policy"];
  assert.deepEqual(more([...replay, "/tmp/p.jsonc"]), ["/tmp/p.jsonc"]);
  assert.deepEqual(more(["replay", "main", "--policy=/tmp/p"]), ["/tmp/p"]);
  for (const named of ["-", "", '{"policy":[]}', ' {"a":"/etc"}']) {
    assert.deepEqual(more([...replay, named]), [], named);
  }
  assert.deepEqual(more(["--", "--policy", "/tmp/p"]), []);
  assert.deepEqual(more([...replay, "/tmp/p"], "chat"), []);
});

Deno.test("permissionsFor() gives other verbs the gateway and the state directory", () => {
  const config = { tools: { roots: ["/srv/notes"] }, egress: { open: true } };
  const env = recordEnv({ CARAPACE_URL: "wss://gateway.example.com/ws" });
  const flags = flagsFor(config, { env }, "status");
  assert.deepEqual(listOf(flags, "--allow-net"), [
    "127.0.0.1:18789",
    "gateway.example.com:443",
  ]);
  assert.deepEqual(listOf(flags, "--allow-write"), [facts.stateDir]);
  const names = listOf(flags, "--allow-env") ?? [];
  // They compute the same configuration as the service, so they see its names.
  for (const name of ["CARAPACE_URL", "OPENAI_API_KEY"]) {
    assert.ok(names.includes(name), name);
  }
});

Deno.test("permissionsFor() grants the providers their hosts and names", () => {
  const env = recordEnv({ OPENAI_BASE_URL: "http://10.9.8.7:8080/v1" });
  const flags = flagsFor({}, { env });
  const net = listOf(flags, "--allow-net") ?? [];
  for (const host of ["api.openai.com:443", "10.9.8.7:8080"]) {
    assert.ok(net.includes(host), host);
  }
  assert.ok(listOf(flags, "--allow-env")?.includes("OPENAI_API_KEY"));
  assert.ok(!listOf(flags, "--deny-net")?.includes("10.0.0.0/8"));
  const bad = recordEnv({ OPENAI_BASE_URL: "not an address" });
  const plan = planFor("start", loadedFrom({}), { ...facts, env: bad });
  assert.equal(plan.problems.length, 1);
});

Deno.test("permissionsFor() takes CARAPACE_PORT over the configuration, or refuses it", () => {
  const over = (port: string) => ({ env: recordEnv({ CARAPACE_PORT: port }) });
  const flags = flagsFor({ gateway: { port: 80 } }, over("20002"));
  assert.equal(listOf(flags, "--allow-net")?.[0], "127.0.0.1:20002");
  for (const port of ["0", "65536", "80,0.0.0.0:1", "x", "-1", "1e3"]) {
    assert.throws(() => flagsFor({}, over(port)), AppError, port);
  }
});

Deno.test("permissionsFor() takes white space in its own paths, but no comma", () => {
  const stateDir = "/Users/me/Library/Application Support/carapace";
  assert.deepEqual(
    listOf(flagsFor({}, { stateDir }), "--allow-write"),
    [stateDir],
  );
  assert.throws(() => flagsFor({}, { stateDir: "/a,/b" }), AppError);
});

Deno.test("permissionsFor() shuts this machine's ports to names that may come to mean it", () => {
  const deny = (config: object) =>
    (listOf(flagsFor(config), "--deny-net") ?? []).filter((value) =>
      /:\d+$/.test(value) && !value.startsWith("[")
    );
  const place = (host: string, port: number) => ({
    plugins: {
      granted: { home: { http: [{ host, port, scheme: "http" as const }] } },
    },
  });
  // The vendors' names are by https.
  assert.deepEqual(deny({}), ["127.0.0.1:443"]);
  assert.deepEqual(deny(place("home.example.com", 8123)), [
    "127.0.0.1:443",
    "127.0.0.1:8123",
  ]);
  for (const host of ["127.0.0.1", "localhost"]) {
    assert.deepEqual(deny(place(host, 8123)), ["127.0.0.1:443"], host);
  }
  // A line that names the address keeps it, for the name as well.
  assert.deepEqual(deny({ gateway: { port: 443 } }), []);
  assert.deepEqual(deny(place("10.1.2.3", 443)), ["127.0.0.1:443"]);
  assert.deepEqual(deny(place("10.1.2.3", 80)), [
    "127.0.0.1:443",
    "10.1.2.3:443",
  ]);
});

Deno.test("permissionsFor() gives carapace plugin what its arguments name", () => {
  const net = (args: readonly string[], config = {}) =>
    listOf(flagsFor(config, { args }, "plugin"), "--allow-net");
  const address = "https://plugins.example.com:8443/qr/plugin.jsonc";
  const pin = ["--sha256", "0".repeat(64)];
  const gateway = "127.0.0.1:18789";
  const proxy = { egress: { proxy: "http://10.0.0.1:3128", open: true } };
  const rows: [args: string[], config: object, want: string[]][] = [
    [["list"], {}, [gateway]],
    [["install", "plugins/qr"], {}, [gateway]],
    [["install", address, ...pin], {}, [
      gateway,
      "plugins.example.com:8443",
    ]],
    [["install", ...pin, address], {}, [
      gateway,
      "plugins.example.com:8443",
    ]],
    [["install", address.replace("https", "http"), ...pin], {}, [gateway]],
    // Not what an option says, and not of a form that fetches nothing.
    [["call", "qr", "encode", address], {}, [gateway]],
    [["install", "plugins/qr", "--publisher", address], {}, [gateway]],
    [["verify", address, ...pin], proxy, [
      "10.0.0.1:3128",
      gateway,
      "plugins.example.com:8443",
    ]],
  ];
  for (const [args, config, want] of rows) {
    assert.deepEqual(net(args, config)?.toSorted(), want, args.join(" "));
  }
});

Deno.test("tailscaled's socket is the service's alone, whole, and opens no hole", () => {
  const flags = flagsFor(TAILNET);
  const plain = flagsFor({ gateway: { tls: TAILNET.gateway.tls } });
  const added = (flag: string) => {
    const before = listOf(plain, flag) ?? [];
    return (listOf(flags, flag) ?? []).filter((one) => !before.includes(one));
  };
  const { socket } = TAILNET.gateway.tailscale;
  assert.deepEqual(added("--allow-net"), [`unix:${socket}`]);
  assert.deepEqual(added("--allow-read"), [socket]);
  assert.deepEqual(added("--allow-write"), [socket]);
  assert.deepEqual(listOf(flags, "--deny-net"), listOf(plain, "--deny-net"));
  for (const verb of ["status", "doctor", "plugin"]) {
    const own = flagsFor(TAILNET, {}, verb).join(" ");
    assert.ok(!own.includes("tailscale"), verb);
  }
  const odd = { ...TAILNET.gateway.tailscale, socket: "/run/x.localhost" };
  assert.deepEqual(
    listOf(
      flagsFor({ gateway: { ...TAILNET.gateway, tailscale: odd } }),
      "--deny-net",
    ),
    listOf(plain, "--deny-net"),
  );
  const permissions = permissionsFor("start", Settings.parse(TAILNET), facts);
  const reasons = grantsOf(
    permissions,
    (path) => `carapace.jsonc:${path.length}`,
  )
    .filter(({ value }) => value.includes(socket))
    .map(({ because }) => because);
  assert.deepEqual(
    new Set(reasons),
    new Set(["gateway.tailscale.socket (carapace.jsonc:24)"]),
  );
});
