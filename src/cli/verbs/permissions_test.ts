import assert from "node:assert/strict";
import { recordEnv } from "../../config/env.ts";
import { systemClock } from "../../core/time.ts";
import { runCli } from "../run.ts";
import { EXIT, type Grant, type Io, type Roof } from "../verb.ts";

const GRANTS: Grant[] = [
  { flag: "--no-prompt", value: "", because: "no questions" },
  {
    flag: "--allow-net",
    value: "127.0.0.1:18789",
    because: "gateway.host, gateway.port (carapace.jsonc:3)",
  },
  { flag: "--deny-net", value: "10.0.0.0/8", because: "not a public address" },
];

async function run(args: string[], grants = GRANTS) {
  let out = "";
  let err = "";
  const io: Io = {
    args: ["permissions", ...args],
    env: recordEnv({}),
    clock: systemClock,
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    isTerminal: false,
    color: false,
    stdin: new ReadableStream(),
    stdinIsTerminal: false,
    onInterrupt: () => ({ [Symbol.dispose]: () => {} }),
  };
  const flags = grants.map(({ flag, value }) =>
    value === "" ? flag : `${flag}=${value}`
  );
  const unused = () => Promise.reject(new TypeError("not used here"));
  const roof: Roof = {
    schema: unused,
    load: unused,
    start: unused,
    permissions: () => Promise.resolve({ flags, grants }),
  };
  return { code: await runCli(io, roof), out, err };
}

Deno.test("permissions prints the argv, one flag a line", async () => {
  const { code, out } = await run(["--flags"]);
  assert.equal(code, EXIT.ok);
  assert.equal(
    out,
    "--no-prompt\n--allow-net=127.0.0.1:18789\n--deny-net=10.0.0.0/8\n",
  );
});

Deno.test("permissions --json holds flags and reasons", async () => {
  const { out } = await run(["--json"]);
  assert.deepEqual(JSON.parse(out).grants, GRANTS);
});

Deno.test("permissions --explain names the line behind every entry", async () => {
  const { out } = await run(["--explain"]);
  assert.match(out, /--allow-net +127\.0\.0\.1:18789 +gateway\.host.*jsonc:3/);
  assert.match(out, /--deny-net +10\.0\.0\.0\/8 +not a public address/);
  assert.doesNotMatch(out, /open:/);
});

Deno.test("permissions calls a bare flag an open door", async () => {
  const open = [...GRANTS, {
    flag: "--allow-net",
    value: "",
    because: "egress.open (carapace.jsonc:9)",
  }];
  for (const args of [[], ["--explain"]]) {
    const { out } = await run(args, open);
    assert.match(out, /open: --allow-net without a list, because of egress/);
  }
});

Deno.test("permissions refuses two forms at once and unknown arguments", async () => {
  for (const args of [["--flags", "--json"], ["extra"], ["--run"]]) {
    const { code, err } = await run(args);
    assert.equal(code, EXIT.usage, args.join(" "));
    assert.match(err, /carapace permissions/);
  }
});
