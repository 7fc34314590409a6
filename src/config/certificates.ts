/**
 * Certificates for a local network: an authority of one's own and what it signs,
 * in ECDSA P-256, which every browser and the runtime take. Files are 0600 in
 * `<state>/tls`.
 *
 * Never: a private key leaves its file, or is born readable by others.
 *
 * @module
 */
import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import ipaddr from "ipaddr.js";
import { AppError, errorText } from "../core/errors.ts";
import { writeWhole } from "./files.ts";
import { readPrivateText } from "./private_file.ts";

const DAY_MS = 86_400_000;
/** A clock that is a little behind must not refuse a new certificate. */
const SKEW_MS = 3_600_000;
const AUTHORITY_DAYS = 3650;
const BYTES_MAX = 262_144;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** How long a server's certificate is good for; browsers take at most 398. */
export const CERTIFICATE_DAYS = 397;
/** Before its end by so many days the owner is told. */
export const WARN_DAYS = 21;

/** A certificate and its private key, as PEM. */
export interface KeyPair {
  cert: string;
  key: string;
}

/** What is to be seen of a certificate. */
export interface CertificateFacts {
  subject: string;
  issuer: string;
  /** Names and addresses it is for. */
  names: string[];
  notBefore: number;
  notAfter: number;
  /** SHA-256 of the public key, as it is pinned: `sha256:` and 64 digits. */
  key: string;
  /** SHA-256 of the whole certificate. */
  certificate: string;
}

/** Where the files are. */
export interface TlsFiles {
  dir: string;
  authority: KeyPair;
  server: KeyPair;
}

/** The paths in a state directory; nothing is looked at. */
export function tlsFiles(stateDir: string): TlsFiles {
  const dir = `${stateDir}/tls`;
  return {
    dir,
    authority: { cert: `${dir}/ca.pem`, key: `${dir}/ca-key.pem` },
    server: { cert: `${dir}/cert.pem`, key: `${dir}/key.pem` },
  };
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Reads the first certificate of a PEM text. @throws `bad_input` */
export function readCertificate(pem: string): CertificateFacts {
  let shown: X509Certificate;
  try {
    shown = new X509Certificate(pem);
  } catch (cause) {
    throw new AppError(
      "bad_input",
      "Cannot read the certificate: it is not one in PEM form",
      { cause },
    );
  }
  const names = (shown.subjectAltName ?? "").split(", ")
    .map((name) => name.replace(/^(DNS|IP Address):/, ""))
    .filter((name) => name !== "");
  return {
    subject: shown.subject.replaceAll("\n", ", "),
    issuer: shown.issuer.replaceAll("\n", ", "),
    names,
    notBefore: Date.parse(shown.validFrom),
    notAfter: Date.parse(shown.validTo),
    key: sha256(shown.publicKey.export({ type: "spki", format: "der" })),
    certificate: sha256(shown.raw),
  };
}

/** The writer of certificates; only `carapace tls` loads it. */
async function loadX509(): Promise<typeof import("@peculiar/x509")> {
  await import("reflect-metadata"); // it asks for this by itself
  return await import("@peculiar/x509");
}

async function newKeys(): Promise<CryptoKeyPair> {
  return await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

/** Positive, and never the same twice. */
function serialNumber(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = (bytes[0] ?? 0) & 0x7f | 0x40;
  return bytes.toHex();
}

async function toPem(key: CryptoKey): Promise<string> {
  const { PemConverter } = await loadX509();
  const bytes = await crypto.subtle.exportKey("pkcs8", key);
  return `${PemConverter.encode(bytes, "PRIVATE KEY")}\n`;
}

async function importKey(pem: string): Promise<CryptoKey> {
  const { PemConverter } = await loadX509();
  const [bytes = new ArrayBuffer(0)] = PemConverter.decode(pem);
  return await crypto.subtle.importKey("pkcs8", bytes, ALGORITHM, true, [
    "sign",
  ]);
}

/** Makes an authority that can sign certificates of servers, nothing else. */
export async function makeAuthority(
  { name, now }: { name: string; now: number },
): Promise<KeyPair> {
  if (!/^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$/.test(name)) {
    throw new AppError(
      "bad_input",
      `Cannot name an authority ${JSON.stringify(name)}`,
      { hint: "Use up to 64 letters, digits, blanks, dots and dashes" },
    );
  }
  const x509 = await loadX509();
  const keys = await newKeys();
  const { keyCertSign, cRLSign } = x509.KeyUsageFlags;
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [name] }],
    notBefore: new Date(now - SKEW_MS),
    notAfter: new Date(now + AUTHORITY_DAYS * DAY_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(keyCertSign | cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    cert: `${made.toString("pem")}\n`,
    key: await toPem(keys.privateKey),
  };
}

function isIp(text: string): boolean {
  return text.includes(":")
    ? ipaddr.IPv6.isValid(text)
    : ipaddr.IPv4.isValidFourPartDecimal(text);
}

/** Whether a text can stand in a certificate as a server's name or address. */
function isServerName(text: string): boolean {
  return isIp(text) ||
    text.length <= 253 &&
      /^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i
        .test(text);
}

/** What a certificate is issued from. */
export interface IssueOptions {
  authority: KeyPair;
  names: readonly string[];
  now: number;
  /** @default CERTIFICATE_DAYS */
  days?: number;
  /** The key to go on with, as PEM, so that pins hold; a new one without it. */
  key?: string | undefined;
}

/**
 * Signs a server's certificate; its authority's follows in the same text.
 *
 * @throws {AppError} `bad_input` for a name that is none
 */
export async function issueCertificate(
  { authority, names, now, days = CERTIFICATE_DAYS, key }: IssueOptions,
): Promise<KeyPair> {
  const wrong = names.find((name) => !isServerName(name));
  if (wrong !== undefined || names.length === 0) {
    throw new AppError(
      "bad_input",
      `Cannot issue a certificate for ${
        JSON.stringify(wrong ?? "")
      }: it is neither a host name nor an address`,
      {
        hint: 'Write names and addresses alone, like "office.lan 192.168.1.5"',
      },
    );
  }
  const x509 = await loadX509();
  const signer = new x509.X509Certificate(authority.cert);
  const keys = key === undefined ? await newKeys() : await bothOf(key);
  const made = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [(names[0] ?? "").slice(0, 64)] }],
    issuer: signer.subjectName,
    notBefore: new Date(now - SKEW_MS),
    notAfter: new Date(
      Math.min(now + days * DAY_MS, signer.notAfter.getTime()),
    ),
    publicKey: keys.publicKey,
    signingKey: await importKey(authority.key),
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({
          type: isIp(value) ? "ip" as const : "dns" as const,
          value,
        })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(signer),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    cert: `${made.toString("pem")}\n${authority.cert}`,
    key: key ?? await toPem(keys.privateKey),
  };
}

/** A private key with its public half. */
async function bothOf(
  pem: string,
): Promise<{ publicKey: CryptoKey; privateKey: CryptoKey }> {
  const privateKey = await importKey(pem);
  const { d: _, key_ops: __, ...open } = await crypto.subtle.exportKey(
    "jwk",
    privateKey,
  );
  const publicKey = await crypto.subtle.importKey(
    "jwk",
    open,
    ALGORITHM,
    true,
    [
      "verify",
    ],
  );
  return { publicKey, privateKey };
}

/** The text of a key file that only its owner can read. */
export async function readKeyFile(path: string): Promise<string | undefined> {
  return await readPrivateText(path, {
    what: "the private key",
    bytesMax: BYTES_MAX,
    hint: `Run: chmod 600 ${path}; if others may have read it, make a new key`,
    hintNoFile: "Name a file in PEM form",
    mayBeLink: true,
  });
}

/** The text of a certificate file; `undefined` when there is none. */
export async function readCertificateFile(
  path: string,
): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new AppError("forbidden", `Cannot read "${path}"`, { cause: error });
  }
}

/** Writes a pair: the key first, so that no certificate stands without one. */
export async function writeKeyPair(
  paths: KeyPair,
  pair: KeyPair,
): Promise<void> {
  await writeWhole(paths.key, pair.key);
  await writeWhole(paths.cert, pair.cert);
}

/** Makes the folder, for its owner only. */
export async function makeTlsDir(stateDir: string): Promise<TlsFiles> {
  const files = tlsFiles(stateDir);
  await Deno.mkdir(files.dir, { recursive: true, mode: 0o700 });
  return files;
}

/**
 * Reads what a gateway shows: a certificate and the key that belongs to it.
 *
 * A certificate past its end is read too: whoever looks at it refuses it, and a
 * gateway that did not start would be of no more use.
 *
 * @throws {AppError} `bad_input` for files that are not there, unreadable or do
 * not belong together; `forbidden` for a key that others can read
 */
export async function readServerPair(
  paths: KeyPair,
): Promise<KeyPair & { facts: CertificateFacts }> {
  const cert = await readCertificateFile(paths.cert);
  const key = await readKeyFile(paths.key);
  const missing = cert === undefined
    ? `gateway.tls.cert: there is no file "${paths.cert}"`
    : key === undefined
    ? `gateway.tls.key: there is no file "${paths.key}"`
    : undefined;
  if (cert === undefined || key === undefined) {
    throw new AppError("bad_input", `Cannot serve TLS by ${missing}`, {
      hint: 'Make both: "carapace tls init", then "carapace tls issue NAME…"',
    });
  }
  const facts = readCertificate(cert);
  if (!belongsTogether(cert, key)) {
    throw new AppError(
      "bad_input",
      `Cannot serve TLS: the key in "${paths.key}" is not the one of "${paths.cert}"`,
      { hint: "Name the two files of one pair" },
    );
  }
  return { cert, key, facts };
}

function belongsTogether(cert: string, key: string): boolean {
  try {
    return new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw new AppError(
      "bad_input",
      `Cannot read the private key: ${errorText(cause)}`,
      { cause, hint: "It is to be PEM, without a passphrase" },
    );
  }
}
