/**
 * `carapace tls`: certificates for a local network, made here.
 *
 * Never: a private key is printed.
 *
 * @module
 */
import {
  CERTIFICATE_DAYS,
  type CertificateFacts,
  issueCertificate,
  makeAuthority,
  makeTlsDir,
  readCertificate,
  readCertificateFile,
  readKeyFile,
  readServerPair,
  type TlsFiles,
  tlsFiles,
  WARN_DAYS,
  writeKeyPair,
} from "../../config/certificates.ts";
import { type Edit, editConfig } from "../../config/edit.ts";
import { formatProblem } from "../../config/problem.ts";
import { openSecrets } from "../../config/secrets.ts";
import { AppError } from "../../core/errors.ts";
import type { Check } from "../../ops/local_checks.ts";
import { positionalsMax, readArgs, usageError } from "../args.ts";
import { findStateDir } from "../gateway.ts";
import { jsonLine, printable } from "../printable.ts";
import { EXIT, type Io, type Roof, type Verb } from "../verb.ts";

const DAY_MS = 86_400_000;
/** This machine's own names are in every certificate: the command line uses them. */
const OWN_NAMES = ["localhost", "127.0.0.1", "::1"];

export const tls: Verb = {
  name: "tls",
  about: "Make certificates for a local network, and show their fingerprints",
  usage: [
    "carapace tls init [--name NAME] [--replace] [--json]",
    "carapace tls issue [NAME|ADDRESS…] [--days N] [--new-key] [--json]",
    "carapace tls use [--host ADDRESS] [--json]",
    "carapace tls show [--json]",
  ],
  examples: [
    "carapace tls init",
    "carapace tls issue office.lan 192.168.1.5",
    "carapace tls use --host 192.168.1.5",
    "carapace tls show",
    "carapace tls issue     (renews: the same names and key)",
  ],
  needs: "files",
  run: runTls,
};

interface Asked {
  io: Io;
  roof: Roof;
  stateDir: string;
  json: boolean;
}

async function runTls(io: Io, roof: Roof): Promise<number> {
  const { values, positionals } = readArgs(io.args, {
    name: { type: "string" },
    replace: { type: "boolean" },
    days: { type: "string" },
    "new-key": { type: "boolean" },
    host: { type: "string" },
  });
  const [form, ...names] = positionals;
  const stateDir = await findStateDir(io);
  const asked = { io, roof, stateDir, json: values.json === true };
  if (form !== "issue") positionalsMax(positionals, 1);
  switch (form) {
    case "init":
      return await init(asked, {
        name: values.name ?? "Carapace local authority",
        replace: values.replace === true,
      });
    case "issue":
      return await issue(asked, {
        names,
        days: readDays(values.days),
        isNewKey: values["new-key"] === true,
      });
    case "use":
      return await use(asked, values.host);
    case "show":
      return await show(asked);
    default:
      throw usageError(
        form === undefined
          ? "Say what to do: init, issue, use or show"
          : `Unknown form "${form.slice(0, 40)}"`,
      );
  }
}

function readDays(text: string | undefined): number {
  if (text === undefined) return CERTIFICATE_DAYS;
  const days = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (days >= 1 && days <= 825) return days;
  throw usageError(
    `Cannot use --days "${text}"`,
    "Write a number from 1 to 825; browsers take no certificate that is good for longer",
  );
}

async function init(
  { io, stateDir, json }: Asked,
  { name, replace }: { name: string; replace: boolean },
): Promise<number> {
  const files = await makeTlsDir(stateDir);
  const before = await readCertificateFile(files.authority.cert);
  if (before !== undefined && !replace) {
    throw new AppError("conflict", "There is an authority already", {
      hint:
        'Use it: "carapace tls issue NAME…"; or make another with --replace: every machine has to trust it anew',
    });
  }
  const pair = await makeAuthority({ name, now: io.clock.now() });
  await writeKeyPair(files.authority, pair);
  const facts = readCertificate(pair.cert);
  if (json) io.out(jsonLine({ file: files.authority.cert, ...shown(facts) }));
  else {
    io.out(
      `Made the authority "${name}": ${printable(files.authority.cert)}\n` +
        "Next: carapace tls issue NAME ADDRESS …\n",
    );
  }
  return EXIT.ok;
}

async function readAuthority(files: TlsFiles) {
  const cert = await readCertificateFile(files.authority.cert);
  const key = await readKeyFile(files.authority.key);
  if (cert !== undefined && key !== undefined) return { cert, key };
  throw new AppError("not_found", "There is no authority to sign with", {
    hint: 'Make one: "carapace tls init"',
  });
}

async function issue(
  { io, stateDir, json }: Asked,
  { names, days, isNewKey }: {
    names: readonly string[];
    days: number;
    isNewKey: boolean;
  },
): Promise<number> {
  const files = await makeTlsDir(stateDir);
  const authority = await readAuthority(files);
  const before = await readCertificateFile(files.server.cert);
  const wanted = names.length > 0
    ? names
    : before === undefined
    ? []
    : readCertificate(before).names;
  if (wanted.length === 0) {
    throw usageError(
      "Say which names and addresses this gateway is reached by",
      'For example: "carapace tls issue office.lan 192.168.1.5"',
    );
  }
  const pair = await issueCertificate({
    authority,
    names: [...new Set([...wanted, ...OWN_NAMES])],
    now: io.clock.now(),
    days,
    key: isNewKey ? undefined : await readKeyFile(files.server.key),
  });
  await writeKeyPair(files.server, pair);
  const facts = readCertificate(pair.cert);
  if (json) io.out(jsonLine({ ...files.server, ...shown(facts) }));
  else {
    io.out(
      `${before === undefined ? "Issued" : "Renewed"} until ${
        day(facts.notAfter)
      } for ${facts.names.join(", ")}\n` +
        `Key: ${facts.key}\n` +
        "Next: carapace tls use [--host ADDRESS]; a gateway that uses it already takes it by itself\n",
    );
  }
  return EXIT.ok;
}

/** Puts the files, the names and, if wanted, the address into the configuration. */
async function use(
  { io, roof, stateDir, json }: Asked,
  host: string | undefined,
): Promise<number> {
  const { server } = tlsFiles(stateDir);
  const cert = await readCertificateFile(server.cert);
  if (cert === undefined) {
    throw new AppError("not_found", "There is no certificate to use", {
      hint: 'Make one: "carapace tls issue NAME ADDRESS …"',
    });
  }
  const { names } = readCertificate(cert);
  const hosts = names
    .filter((name) => !OWN_NAMES.includes(name) && !name.startsWith("*"))
    .map((name) => name.includes(":") ? `[${name}]` : name);
  const edits: Edit[] = [
    { path: ["gateway", "tls"], value: server },
    { path: ["gateway", "hosts"], value: hosts },
    ...host === undefined ? [] : [{ path: ["gateway", "host"], value: host }],
  ];
  const secrets = openSecrets({ dir: stateDir, env: io.env });
  const edited = await editConfig(await roof.schema(), {
    env: io.env,
    stateDir,
    findSecret: (name) => secrets.find(name),
    edits,
  });
  if (!edited.ok) {
    throw new AppError(
      "bad_input",
      `The configuration was not changed: ${
        edited.problems.map(formatProblem).join("; ")
      }`,
      { details: { exit: EXIT.badConfig } },
    );
  }
  if (json) io.out(jsonLine({ file: edited.file, changes: edited.changes }));
  else {
    io.out(
      `The gateway will speak TLS, as ${names.join(", ")} (${
        printable(edited.file)
      })\n` +
        (host === undefined
          ? "It listens where it did; for other machines: carapace tls use --host 0.0.0.0\n"
          : ""),
    );
  }
  return EXIT.ok;
}

function day(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}

/** As JSON shows it. */
function shown(facts: CertificateFacts) {
  const { notBefore, notAfter, ...rest } = facts;
  return {
    ...rest,
    notBefore: new Date(notBefore).toISOString(),
    notAfter: new Date(notAfter).toISOString(),
  };
}

/** The certificate that is served: the configured one, else the one made here. */
async function findServed(
  roof: Roof,
  files: TlsFiles,
): Promise<{ path: string; facts: CertificateFacts } | undefined> {
  const loaded = await roof.load();
  const { gateway } = (loaded.ok ? loaded.value : {}) as {
    gateway?: { tls?: { cert: string } };
  };
  const path = gateway?.tls?.cert ?? files.server.cert;
  const cert = await readCertificateFile(path);
  return cert === undefined
    ? undefined
    : { path, facts: readCertificate(cert) };
}

async function show({ io, roof, stateDir, json }: Asked): Promise<number> {
  const files = tlsFiles(stateDir);
  const served = await findServed(roof, files);
  const ca = await readCertificateFile(files.authority.cert);
  const authority = ca === undefined ? undefined : readCertificate(ca);
  if (json) {
    io.out(jsonLine({
      server: served === undefined
        ? null
        : { file: served.path, ...shown(served.facts) },
      authority: authority === undefined
        ? null
        : { file: files.authority.cert, ...shown(authority) },
    }));
    return EXIT.ok;
  }
  if (served === undefined) {
    throw new AppError("not_found", "There is no certificate", {
      hint: 'Make one: "carapace tls init", then "carapace tls issue NAME…"',
    });
  }
  const { facts } = served;
  io.out(
    `Certificate  ${printable(served.path)}\n` +
      `  for        ${facts.names.join(", ")}\n` +
      `  until      ${day(facts.notAfter)}\n` +
      `  key        ${facts.key}\n` +
      `  whole      ${facts.certificate}\n\n` +
      "The command line of another machine asks whether this is the key, or is told:\n" +
      `  carapace status --url wss://${
        facts.names.find((name) => !OWN_NAMES.includes(name)) ?? "HOST"
      }:PORT --pin ${facts.key}\n`,
  );
  if (authority !== undefined) {
    io.out(
      `\nAuthority    ${printable(files.authority.cert)}\n` +
        `  until      ${day(authority.notAfter)}\n` +
        `  whole      ${authority.certificate}\n\n` +
        "A browser trusts it after this file was imported as an authority (compare the fingerprint there).\n",
    );
  }
  return EXIT.ok;
}

/** For the doctor: how long the served certificate is still good. */
export async function checkCertificate(
  { roof, stateDir, now }: { roof: Roof; stateDir: string; now: number },
): Promise<Check[]> {
  const name = "certificate";
  const loaded = await roof.load();
  const { gateway } = (loaded.ok ? loaded.value : {}) as {
    gateway?: { tls?: { cert: string; key: string } };
  };
  if (gateway?.tls === undefined) return [];
  const { facts } = await readServerPair(gateway.tls);
  const days = Math.floor((facts.notAfter - now) / DAY_MS);
  const isOwn = gateway.tls.cert.startsWith(`${stateDir}/`);
  const fix = isOwn
    ? 'Renew it: "carapace tls issue"'
    : "Renew it as you got it; the gateway takes the new files by itself";
  if (days < 0) {
    const detail = `ended on ${day(facts.notAfter)}: clients refuse it`;
    return [{ name, state: "fail", detail, fix }];
  }
  const detail = `good until ${day(facts.notAfter)} (${days} days)`;
  return [{ name, state: days < WARN_DAYS ? "warn" : "ok", detail, fix }];
}
