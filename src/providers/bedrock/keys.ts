/**
 * Which of an AWS account's keys a request is signed with: a Bedrock API key,
 * keys in parts, or a section of a credentials file the configuration names.
 *
 * Never: another file, an environment name that was not handed in, a program,
 * or the address where a machine asks who it is.
 *
 * @module
 */
import { readText } from "../../config/files.ts";
import { errorText } from "../../core/errors.ts";
import { ModelError } from "../../core/model.ts";
import { Secret } from "../../core/secret.ts";
import type { AwsConfig } from "../config.ts";
import type { ProviderDeps } from "../vendor.ts";

const FILE_BYTES_MAX = 256 * 1024;

/** The environment names of keys in parts. */
export const KEY_NAMES = {
  id: "AWS_ACCESS_KEY_ID",
  secret: "AWS_SECRET_ACCESS_KEY",
  session: "AWS_SESSION_TOKEN",
} as const;

/** What a request is signed with. */
export type AwsKeys =
  | { kind: "bearer"; token: Secret }
  | {
    kind: "parts";
    id: Secret;
    secret: Secret;
    session: Secret | undefined;
  };

/** What one place has; absent parts are absent there. */
interface Found {
  where: string;
  id: Secret | undefined;
  secret: Secret | undefined;
  session: Secret | undefined;
}

/**
 * Finds the keys; the first source that has any is used, whole.
 *
 * @throws {ModelError} `auth` when there are none, or half of them
 */
export async function findKeys(
  deps: Pick<ProviderDeps, "id" | "apiKey" | "secrets">,
  aws: AwsConfig | undefined,
): Promise<AwsKeys> {
  if (deps.apiKey !== undefined) return { kind: "bearer", token: deps.apiKey };
  const { secrets = {}, id: provider } = deps;
  const sources: Found[] = [
    {
      where: `providers.${provider}.aws`,
      id: aws?.accessKeyId,
      secret: aws?.secretAccessKey,
      session: aws?.sessionToken,
    },
    ...aws?.profileFile === undefined
      ? []
      : [await readProfile(provider, aws.profileFile, aws.profile)],
    {
      where: "the environment",
      id: secrets[KEY_NAMES.id],
      secret: secrets[KEY_NAMES.secret],
      session: secrets[KEY_NAMES.session],
    },
  ];
  for (const { where, id, secret, session } of sources) {
    if (id !== undefined && secret !== undefined) {
      return { kind: "parts", id, secret, session };
    }
    if (id !== undefined || secret !== undefined) {
      throw noKey(provider, `${where} has only half of a key`);
    }
  }
  throw noKey(provider, "it has no key");
}

function noKey(provider: string, why: string, cause?: unknown): ModelError {
  return new ModelError("auth", `Cannot use "${provider}": ${why}`, {
    hint:
      `Set AWS_BEARER_TOKEN_BEDROCK, or ${KEY_NAMES.id} and ${KEY_NAMES.secret}, or providers.${provider}.aws`,
    details: { provider },
    cause,
  });
}

async function readProfile(
  provider: string,
  path: string,
  profile: string,
): Promise<Found> {
  let text: string;
  try {
    text = await readText(path, FILE_BYTES_MAX);
  } catch (error) {
    const why = `"${path}" cannot be read: ${errorText(error)}`;
    throw noKey(provider, why, error);
  }
  const section = parseProfiles(text).get(profile);
  if (section === undefined) {
    throw noKey(provider, `"${path}" has no profile "${profile}"`);
  }
  const get = (name: string) => {
    const value = section.get(name);
    return value === undefined
      ? undefined
      : new Secret(value, `profile ${profile}`);
  };
  const id = get("aws_access_key_id");
  if (id === undefined) {
    throw noKey(
      provider,
      `profile "${profile}" holds no key itself, and no program or sign-on is run for it`,
    );
  }
  return {
    where: `profile "${profile}"`,
    id,
    secret: get("aws_secret_access_key"),
    session: get("aws_session_token"),
  };
}

/** Sections of a credentials file; `[profile NAME]` is `[NAME]`. */
export function parseProfiles(text: string): Map<string, Map<string, string>> {
  const sections = new Map<string, Map<string, string>>();
  let section: Map<string, string> | undefined;
  for (const line of text.split(/\r\n?|\n/)) {
    const head = /^\s*\[\s*(?:profile\s+)?([^\]]+?)\s*\]/.exec(line);
    if (head !== null) {
      const name = head[1] ?? "";
      section = sections.get(name) ?? new Map();
      sections.set(name, section);
      continue;
    }
    // What is indented belongs to the line before it and is no key.
    const pair = /^([A-Za-z_]\w*)\s*=\s*(.*?)\s*$/.exec(line);
    if (pair === null || section === undefined) continue;
    section.set((pair[1] ?? "").toLowerCase(), pair[2] ?? "");
  }
  return sections;
}
