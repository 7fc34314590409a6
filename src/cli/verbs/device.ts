/**
 * `carapace device`: who is paired, who asks to be, and codes that enrol one.
 *
 * Never: what a device says of itself is printed as it came.
 *
 * @module
 */
import type { DeviceRole, PairedDevice } from "../../core/methods/device.ts";
import { AppError } from "../../core/errors.ts";
import type { MethodOutput } from "../../core/methods.ts";
import type { GatewayClient } from "../../remote/client.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { openGateway } from "../gateway.ts";
import { jsonLine, printableLine } from "../printable.ts";
import { agoText, makePaint, table, timeText } from "../term.ts";
import { parseScopes } from "./token.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

export const device: Verb = {
  name: "device",
  about: "Pair devices, invite them, and end them",
  usage: [
    "carapace device list [--json]",
    "carapace device approve REQUEST [--scopes LIST] [--as owner|program] [--json]",
    "carapace device reject REQUEST [--json]",
    "carapace device invite [--role operator|node] [--scopes LIST] [--as owner|program] [--name NAME] [--json]",
    "carapace device rotate DEVICE [--role operator|node] [--json]",
    "carapace device revoke DEVICE [--role operator|node] [--json]",
  ],
  examples: [
    "carapace device list",
    "carapace device approve pair_01jabc",
    "carapace device approve pair_01jabc --scopes read --as program",
    "carapace device reject pair_01jabc",
    "carapace device invite --scopes read,write,approvals --name phone",
    "carapace device invite --role node --name camera",
    "carapace device rotate 3f1c9a",
    "carapace device revoke 3f1c9a",
  ],
  needs: "gateway",
  run: runDevice,
};

/** What the command line said. */
interface Said {
  action: string;
  subject: string | undefined;
  json: boolean;
  role: DeviceRole | undefined;
  as: "owner" | "program" | undefined;
  scopes: string[] | undefined;
  name: string | undefined;
}

type Act = (io: Io, client: GatewayClient, said: Said) => Promise<void>;

const ACTS: Readonly<Record<string, Act>> = {
  list,
  approve,
  reject,
  invite,
  rotate,
  revoke,
};
const WITHOUT_SUBJECT: ReadonlySet<string> = new Set(["list", "invite"]);

async function runDevice(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    scopes: { type: "string" },
    role: { type: "string" },
    as: { type: "string" },
    name: { type: "string" },
  });
  const [action, subject] = positionals;
  if (action === undefined) {
    throw usageError(
      `Say what to do with devices: ${Object.keys(ACTS).join(", ")}`,
    );
  }
  const act = Object.hasOwn(ACTS, action) ? ACTS[action] : undefined;
  if (act === undefined) {
    throw usageError(`Unknown action "${action}" of "carapace device"`);
  }
  positionalsMax(positionals, WITHOUT_SUBJECT.has(action) ? 1 : 2);
  if (!WITHOUT_SUBJECT.has(action) && (subject ?? "") === "") {
    throw usageError("Say which one", "`carapace device list` shows them");
  }
  const { role, as, scopes, name } = values;
  if (role !== undefined && role !== "operator" && role !== "node") {
    throw usageError(`Unknown role "${role}"`, "It is operator or node");
  }
  if (as !== undefined && as !== "owner" && as !== "program") {
    throw usageError(`Unknown kind "${as}"`, "It is owner or program");
  }
  const said: Said = {
    action,
    subject,
    json: values.json === true,
    role,
    as,
    scopes: scopes === undefined ? undefined : parseScopes(scopes),
    name,
  };
  using client = await openGateway(io, { roof });
  await act(io, client, said);
  return EXIT.ok;
}

async function list(io: Io, client: GatewayClient, said: Said): Promise<void> {
  const payload = await client.call("device.pair.list", {});
  if (said.json) return io.out(jsonLine(payload));
  io.out(devicesText(payload, { io, now: io.clock.now() }));
}

/** Everything as people read it: what waits for an answer first. */
function devicesText(
  payload: MethodOutput<"device.pair.list">,
  { io, now }: { io: Io; now: number },
): string {
  const paint = makePaint(io);
  const { pending, paired, invites } = payload;
  const parts: string[] = [];
  if (pending.length > 0) {
    const rows = pending.map((one) => [
      one.requestId,
      one.displayName ?? one.clientId,
      one.platform,
      one.role,
      one.scopes.join(",") || "-",
      one.remoteIp,
      agoText(one.ts, now),
    ]);
    const heads = ["ASKS", "NAME", "PLATFORM", "ROLE", "FOR", "FROM", "SINCE"];
    parts.push(table(heads, rows, paint));
    for (const one of pending.filter(({ role }) => role === "node")) {
      parts.push(`${one.requestId} would be asked for: ${abilities(one)}\n`);
    }
  }
  if (invites.length > 0) {
    const rows = invites.map((one) => [
      one.inviteId,
      one.name ?? "",
      one.role,
      one.scopes.join(",") || "-",
      agoText(one.expiresAt, now),
    ]);
    parts.push(
      table(["INVITED", "NAME", "ROLE", "FOR", "EXPIRES"], rows, paint),
    );
  }
  const rows = paired.map((one) => [
    one.deviceId.slice(0, 12),
    one.displayName ?? "",
    one.platform,
    one.kind,
    one.scopes.includes("admin") ? "admin" : one.scopes.join(",") || "-",
    one.lastUsedAtMs === undefined ? "never" : agoText(one.lastUsedAtMs, now),
  ]);
  parts.push(
    table(["DEVICE", "NAME", "PLATFORM", "AS", "SCOPES", "USED"], rows, paint),
  );
  return parts.join("\n");
}

function abilities(
  { caps, commands, permissions }: {
    caps: readonly string[];
    commands: readonly string[];
    permissions: Readonly<Record<string, boolean>>;
  },
): string {
  const granted = Object.keys(permissions).filter((name) => permissions[name]);
  const all = [...caps, ...commands, ...granted].map((word) =>
    printableLine(word)
  );
  return all.join(", ") || "nothing";
}

async function approve(
  io: Io,
  client: GatewayClient,
  { subject = "", scopes, as, json }: Said,
): Promise<void> {
  const done = await client.call("device.pair.approve", {
    requestId: subject,
    ...(scopes === undefined ? {} : { scopes }),
    ...(as === undefined ? {} : { as }),
  });
  if (json) return io.out(jsonLine(done));
  const { deviceId, kind } = done.device;
  const may = done.device.scopes.join(", ");
  io.out(
    `paired ${deviceId.slice(0, 12)} as ${printableLine(kind)}; it may ${
      may || "do what a node may"
    }\n`,
  );
}

async function reject(
  io: Io,
  client: GatewayClient,
  { subject = "", json }: Said,
): Promise<void> {
  const done = await client.call("device.pair.reject", { requestId: subject });
  if (json) return io.out(jsonLine(done));
  io.out(`turned down ${printableLine(done.requestId)}\n`);
}

async function invite(
  io: Io,
  client: GatewayClient,
  { role, scopes, as, name, json }: Said,
): Promise<void> {
  const made = await client.call("device.bootstrap.create", {
    ...(role === undefined ? {} : { role }),
    ...(scopes === undefined ? {} : { scopes }),
    ...(as === undefined ? {} : { as }),
    ...(name === undefined ? {} : { name }),
  });
  if (json) return io.out(jsonLine(made));
  // The code alone on standard output, so that it can be piped.
  io.out(`${printableLine(made.code)}\n`);
  io.err(
    `It pairs the first device that uses it, once, until ${
      timeText(made.expiresAt)
    }; ${made.role}, ${
      made.scopes.join(", ") || "no scopes"
    }. Withdraw it: carapace device reject ${printableLine(made.inviteId)}\n`,
  );
}

/** A device by the beginning of its id. */
async function findOne(
  client: GatewayClient,
  { subject = "", role }: Said,
): Promise<PairedDevice> {
  const { paired } = await client.call("device.pair.list", {});
  const found = paired.filter((one) =>
    one.deviceId.startsWith(subject) &&
    (role === undefined || one.role === role)
  );
  const [one, ...others] = found;
  if (one !== undefined && others.length === 0) return one;
  throw new AppError(
    "not_found",
    one === undefined
      ? `Cannot find a device that begins with "${subject}"`
      : `Several devices begin with "${subject}"`,
    {
      hint: one === undefined
        ? "`carapace device list` shows them"
        : "Write more of its id, or say --role",
    },
  );
}

async function rotate(
  io: Io,
  client: GatewayClient,
  said: Said,
): Promise<void> {
  const { deviceId, role } = await findOne(client, said);
  const made = await client.call("device.token.rotate", { deviceId, role });
  if (said.json) return io.out(jsonLine(made));
  io.out(`${printableLine(made.token)}\n`);
  io.err(
    `The token of ${
      deviceId.slice(0, 12)
    } works with its key; the one before holds until this one is used.\n`,
  );
}

async function revoke(
  io: Io,
  client: GatewayClient,
  said: Said,
): Promise<void> {
  const { deviceId, role } = await findOne(client, said);
  const done = await client.call("device.token.revoke", { deviceId, role });
  if (said.json) return io.out(jsonLine(done));
  io.out(
    `revoked ${deviceId.slice(0, 12)}; its connections and runs have ended\n`,
  );
}
