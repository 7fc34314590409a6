/**
 * `carapace doctor`: looks at everything a working installation needs, and says
 * how to repair what is wrong. It works without a gateway.
 *
 * @module
 */
import type { Problem } from "../../config/load.ts";
import { AppError, errorText } from "../../core/errors.ts";
import { OPEN_FILES } from "../../core/exit.ts";
import {
  type Check,
  checkClock,
  checkDisk,
  checkOpenFiles,
  checkStateDir,
} from "../../ops/local_checks.ts";
import { positionalsMax, readArgs } from "../args.ts";
import { fetchReadiness } from "../readiness.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { connectTrusted, findStateDir } from "../gateway.ts";
import { locateGateway } from "../locate.ts";
import { jsonLine, printable } from "../printable.ts";
import { checkCertificate } from "./tls.ts";
import { durationText, makePaint, type Paint } from "../term.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const doctor: Verb = {
  name: "doctor",
  about: "Check the installation and say how to repair it",
  usage: ["carapace doctor [--json]"],
  examples: [
    "carapace doctor",
    "carapace doctor --json | jq '.checks[] | select(.state == \"fail\")'",
  ],
  needs: "files",
  takesTarget: true,
  run: runDoctor,
};

const PROBLEMS_SHOWN = 3;

async function runDoctor(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {});
  positionalsMax(positionals, 0);
  const stateDir = await findStateDir(io);
  const checks = [
    await guarded("config", () => checkConfig(roof)),
    await guarded("permissions", () => checkPermissions(roof)),
    await guarded("state", () => checkStateDir(stateDir)),
  ];
  checks.push(
    ...await checkCertificate({ roof, stateDir, now: io.clock.now() })
      .catch((error) => [failed("certificate", error)]),
  );
  const gateway = await checkGateway(io, { roof, stateDir });
  checks.push(...gateway.checks);
  checks.push(
    await guarded("clock", () =>
      checkClock(io.clock.now(), {
        stateDir,
        ...(gateway.now === undefined ? {} : { gatewayNow: gateway.now }),
      })),
    await checkDisk(stateDir),
    await checkOpenFiles(io.env.get(OPEN_FILES)),
  );
  const hasFailed = checks.some((check) => check.state === "fail");
  if (values.json === true) io.out(jsonLine({ ok: !hasFailed, checks }));
  else io.out(checksText(checks, makePaint(io)));
  return hasFailed ? EXIT.failed : EXIT.ok;
}

/** A check that cannot be made has failed, and says why. */
async function guarded(
  name: string,
  check: () => Promise<Check>,
): Promise<Check> {
  try {
    return await check();
  } catch (error) {
    return failed(name, error);
  }
}

function failed(name: string, error: unknown): Check {
  const hint = error instanceof AppError ? error.hint : undefined;
  return {
    name,
    state: "fail",
    detail: errorText(error),
    ...(hint === undefined ? {} : { fix: hint }),
  };
}

function problemText(problem: Problem): string {
  const place = problem.line === undefined
    ? problem.file
    : `${problem.file}:${problem.line}`;
  const path = problem.path === "" ? "" : `${problem.path}: `;
  return `${place}: ${path}${problem.message}`;
}

async function checkConfig(roof: Roof): Promise<Check> {
  const name = "config";
  const loaded = await roof.load();
  if (loaded.ok) return { name, state: "ok", detail: loaded.source };
  const shown = loaded.problems.slice(0, PROBLEMS_SHOWN).map(problemText);
  const more = loaded.problems.length - shown.length;
  return {
    name,
    state: "fail",
    detail: shown.join("; ") + (more > 0 ? `; and ${more} more` : ""),
    fix: loaded.problems[0]?.hint ?? 'Run "carapace config check"',
  };
}

async function checkPermissions(roof: Roof): Promise<Check> {
  const name = "permissions";
  const { grants } = await roof.permissions();
  const bare = grants.filter(({ flag, value }) =>
    value === "" && flag.startsWith("--allow-")
  );
  const [open] = bare;
  if (open !== undefined) {
    return {
      name,
      state: "warn",
      detail: `${open.flag} without a list, because of ${open.because}`,
      fix: 'Run "carapace permissions --explain"; name what is needed instead',
    };
  }
  const hosts = grants.filter(({ flag }) => flag === "--allow-net").length;
  return {
    name,
    state: "ok",
    detail: `${hosts} addresses, no program, no library`,
  };
}

/** What the running gateway says, and its clock. */
async function checkGateway(
  io: Io,
  options: { roof: Roof; stateDir: string },
): Promise<{ checks: Check[]; now?: number }> {
  try {
    const address = await locateGateway(io, options);
    using client = await connectTrusted(io, {
      address,
      stateDir: options.stateDir,
    });
    const status = await client.call("status", {});
    const { posture } = status;
    const pairing = await checkPairing(client);
    const readiness = await fetchReadiness(address).catch((error) => [
      failed("readiness", error),
    ]);
    return {
      now: status.ts,
      checks: [
        {
          name: "gateway",
          state: "ok",
          detail: `${address.url}, version ${status.version}, up ${
            durationText(status.uptimeMs)
          }`,
        },
        ...status.safeMode === undefined ? [] : [{
          name: "safe mode",
          state: "fail" as const,
          detail: status.safeMode,
          fix: "Repair the configuration; the gateway reads it again by itself",
        }],
        checkPosture(posture),
        ...pairing,
        ...readiness,
      ],
    };
  } catch (error) {
    return { checks: [failed("gateway", error)] };
  }
}

/** Devices that wait to be paired, for whoever may answer them. */
async function checkPairing(client: GatewayClient): Promise<Check[]> {
  const name = "pairing";
  try {
    const { pending } = await client.call("device.pair.list", {});
    if (pending.length === 0) return [];
    const shown = pending.slice(0, PROBLEMS_SHOWN).map((one) =>
      `${one.requestId} from ${one.remoteIp}`
    );
    return [{
      name,
      state: "warn",
      detail: `${pending.length} waiting to be paired: ${shown.join(", ")}`,
      fix: "`carapace device list` shows them: approve what is yours, " +
        "reject the rest",
    }];
  } catch (error) {
    const isOthers = error instanceof AppError && error.code === "forbidden";
    return isOthers ? [] : [failed(name, error)];
  }
}

function checkPosture(
  posture: { tried: number; refused: number; sandboxOff: boolean },
): Check {
  const name = "sandbox";
  const { tried, refused, sandboxOff } = posture;
  if (!sandboxOff && refused === tried) {
    const detail = `${refused} of ${tried} forbidden acts refused`;
    return { name, state: "ok", detail };
  }
  return {
    name,
    state: "fail",
    detail: sandboxOff
      ? "it is off: the gateway can do what you can do"
      : `only ${refused} of ${tried} forbidden acts refused`,
    fix: 'Start it with "deno task start", without --unsafe-sandbox-off',
  };
}

const MARKS = {
  ok: ["green", "✓"],
  warn: ["yellow", "!"],
  fail: ["red", "✗"],
  skip: ["dim", "·"],
} as const satisfies Record<Check["state"], readonly [string, string]>;

/** The checks as people read them, each with its fix. */
function checksText(checks: readonly Check[], paint: Paint): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.map(({ name, state, detail, fix }) => {
    const [style, mark] = MARKS[state];
    const head = `${paint(style, mark)} ${name.padEnd(width)}  ${
      printable(detail)
    }`;
    return fix === undefined || state === "ok"
      ? head
      : `${head}\n  ${" ".repeat(width)}  ${
        paint("dim", `→ ${printable(fix)}`)
      }`;
  });
  const count = (state: Check["state"]) =>
    checks.filter((check) => check.state === state).length;
  const sum = count("fail") === 0
    ? paint("green", "nothing is wrong")
    : paint("red", `${count("fail")} of ${checks.length} checks failed`);
  return `${lines.join("\n")}\n\n${sum}\n`;
}
