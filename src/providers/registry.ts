/**
 * Which providers there are: from the configuration, from the vendors' usual
 * environment names, a local server that answers, and at last the demo.
 *
 * Never: a vendor is named here; the rows of their files are.
 *
 * @module
 */
import type { Env } from "../config/env.ts";
import { AppError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Provider } from "../core/model.ts";
import { type Need, need } from "../core/needs.ts";
import { CLEAR_TEXT, isClearText } from "../core/clear_text.ts";
import { Secret } from "../core/secret.ts";
import { type Clock, limitSignal } from "../core/time.ts";
import { anthropicRow } from "./anthropic.ts";
import { bedrockRow } from "./bedrock/bedrock.ts";
import { ProviderConfig, type ProvidersConfig } from "./config.ts";
import { demoRow } from "./demo.ts";
import { geminiRow } from "./gemini.ts";
import { ollamaRow } from "./ollama.ts";
import { openaiRow } from "./openai/openai.ts";
import { PRESET_ROWS } from "./presets.ts";
import { AUTO_MODEL, usualId, type VendorRow } from "./vendor.ts";

/** Every vendor, in the order the first to answer is chosen. */
export const VENDOR_ROWS: readonly VendorRow[] = [
  anthropicRow,
  openaiRow,
  geminiRow,
  bedrockRow,
  ollamaRow,
  ...PRESET_ROWS,
  demoRow,
];

/** The environment name of the model to use when nothing else is said. */
export const MODEL_ENV = "CARAPACE_MODEL";
const PROBE_MS = 300;

/** One provider to be made, and where each of its facts came from. */
export interface ProviderPlan {
  id: string;
  row: VendorRow;
  config: ProviderConfig;
  baseUrl: URL;
  apiKey: Secret | undefined;
  /** Further secrets out of the environment, by their names. */
  secrets: Readonly<Record<string, Secret>>;
  region: string | undefined;
  /** The configuration line or environment name that asks for it. */
  because: string;
}

/** A provider and how it is to be called. */
export interface ProviderEntry {
  provider: Provider;
  because: string;
  /** Models the configuration offers; the vendor may know more. */
  models: readonly string[];
  /** The model to begin with; {@linkcode AUTO_MODEL} asks the server. */
  model: string;
  firstTokenMs: number;
  idleMs: number;
  retriesMax: number;
}

/** What {@linkcode makeProviders} is made of. */
export interface ProvidersDeps {
  config: ProvidersConfig;
  env: Env;
  /** The door out for one caller, to its base URL and what else is its own. */
  door: (
    caller: string,
    baseUrl: URL,
    alsoAt: readonly URL[],
  ) => typeof fetch;
  clock: Clock;
  log: Log;
}

/** What the configuration and the environment ask for. Pure. */
export function planProviders(
  config: ProvidersConfig,
  env: Env,
): ProviderPlan[] {
  const plans: ProviderPlan[] = [];
  for (const [id, slice] of Object.entries(config)) {
    plans.push(planOne({ id, row: rowOf(id, slice), config: slice, env }));
  }
  for (const row of VENDOR_ROWS) {
    const id = usualId(row);
    if (id in config) continue;
    const name = [...row.needsKey ? keyNames(row) : [], row.baseUrlEnv]
      .find((one) => one !== undefined && env.get(one) !== undefined);
    if (name === undefined) continue;
    const plan = planOne({ id, row, config: ProviderConfig.parse({}), env });
    plans.push({ ...plan, because: `env ${name}` });
  }
  return plans;
}

/** The row of a line: by its own name, else by its wire. */
function rowOf(id: string, { kind }: ProviderConfig): VendorRow {
  const named = VENDOR_ROWS.find((row) => usualId(row) === id);
  if (named !== undefined && (kind ?? named.kind) === named.kind) return named;
  return VENDOR_ROWS.find((row) => usualId(row) === kind) ?? openaiRow;
}

/** Where a key may come from, the vendor's first name first. */
function keyNames(row: VendorRow): string[] {
  return [row.keyEnv, ...row.keyEnvAlso ?? []].filter((name) =>
    name !== undefined
  );
}

function planOne(
  options: { id: string; row: VendorRow; config: ProviderConfig; env: Env },
): ProviderPlan {
  const { id, row, config, env } = options;
  // The vendor's own names speak only for the provider of that name: a key
  // must not travel to another address because its wire is the same.
  const isOwn = id === usualId(row);
  const findSecret = (name: string): Secret | undefined => {
    const value = isOwn ? env.get(name) : undefined;
    return value === undefined ? undefined : new Secret(value, `env ${name}`);
  };
  const secrets: Record<string, Secret> = {};
  for (const name of row.secretEnv ?? []) {
    const secret = findSecret(name);
    if (secret !== undefined) secrets[name] = secret;
  }
  const region = config.aws?.region ??
    row.regionEnv?.map((name) => env.get(name)).find((one) =>
      one !== undefined
    );
  const baseUrl = planBaseUrl(row, {
    configured: config.baseUrl,
    said: isOwn && row.baseUrlEnv !== undefined
      ? env.get(row.baseUrlEnv)
      : undefined,
    region,
  });
  const apiKey = config.apiKey ??
    keyNames(row).map(findSecret).find((key) => key !== undefined);
  const held = [apiKey, ...Object.values(secrets)]
    .find((secret) => secret !== undefined);
  if (held !== undefined && isClearText(baseUrl)) {
    throw new AppError(
      "bad_input",
      `Cannot send ${held.source} to ${baseUrl.origin}: ${CLEAR_TEXT}`,
      {
        hint: `Change ${
          config.baseUrl === undefined
            ? row.baseUrlEnv
            : `providers.${id}.baseUrl`
        }, or take the key away`,
      },
    );
  }
  return {
    id,
    row,
    config,
    region,
    baseUrl,
    apiKey,
    secrets,
    because: `providers.${id}`,
  };
}

function planBaseUrl(
  row: VendorRow,
  options: {
    configured: string | undefined;
    said: string | undefined;
    region: string | undefined;
  },
): URL {
  const { configured, said, region } = options;
  if (configured !== undefined) return new URL(configured);
  if (said !== undefined) return parseBaseUrl(row, said);
  return row.regional?.(region) ?? new URL(row.baseUrl ?? "demo:");
}

/** An address out of the environment, where no schema has looked at it. */
function parseBaseUrl(row: VendorRow, value: string): URL {
  try {
    const url = row.parseBaseUrl?.(value) ?? new URL(value);
    if (/^https?:$/.test(url.protocol)) return url;
  } catch {
    // Said below, with the name that holds it.
  }
  throw new AppError(
    "bad_input",
    `Cannot use ${row.baseUrlEnv}: ${
      JSON.stringify(value)
    } is not an http(s) address`,
    { hint: `Write it like ${row.baseUrl}, or unset it` },
  );
}

/** For what reaches nothing. */
const noDoor: typeof fetch = () =>
  Promise.reject(new AppError("forbidden", "Cannot leave: it has no address"));

function toEntry(plan: ProviderPlan, deps: ProvidersDeps): ProviderEntry {
  const { id, row, config, baseUrl, apiKey, secrets, region } = plan;
  const provider = row.make({
    id,
    baseUrl,
    apiKey,
    secrets,
    region,
    fetch: row.baseUrl === undefined
      ? noDoor
      : deps.door(`provider:${id}`, baseUrl, row.alsoAt?.(baseUrl) ?? []),
    log: deps.log,
  }, config);
  const isHome = row.baseUrl === undefined ||
    baseUrl.href === new URL(row.baseUrl).href;
  // A copy of a vendor's API has models of its own; another address of a
  // vendor with one wire of its own has that vendor's.
  const isCopy = row.kind === openaiRow.kind && !isHome;
  return {
    provider,
    because: plan.because,
    models: config.models,
    model: config.models[0] ??
      (isCopy ? AUTO_MODEL : row.model ?? AUTO_MODEL),
    firstTokenMs: config.firstTokenMs,
    idleMs: config.idleMs,
    retriesMax: config.retriesMax,
  };
}

/**
 * Makes the providers, in the order of preference. A local server is looked
 * for, and the demo offered, only when nothing else is configured.
 */
export async function makeProviders(
  deps: ProvidersDeps,
): Promise<ProviderEntry[]> {
  const plans = planProviders(deps.config, deps.env);
  if (plans.length === 0) {
    const local = planOne({
      id: ollamaRow.kind,
      row: ollamaRow,
      config: ProviderConfig.parse({}),
      env: deps.env,
    });
    const entry = toEntry(local, deps);
    const because = `it answers at ${local.baseUrl.host}`;
    if (await hasModels(entry.provider)) return [{ ...entry, because }];
    plans.push({
      ...planOne({
        id: demoRow.kind,
        row: demoRow,
        config: ProviderConfig.parse({}),
        env: deps.env,
      }),
      because: "nothing else is configured",
    });
  }
  return plans.map((plan) => toEntry(plan, deps));
}

async function hasModels(provider: Provider): Promise<boolean> {
  using limit = limitSignal(new AbortController().signal, PROBE_MS);
  try {
    return (await provider.models(limit.signal)).length > 0;
  } catch {
    // Nothing there is the usual answer of a probe.
    return false;
  }
}

/** The model to use when nobody names one, and why. */
export function chooseDefault(
  entries: readonly ProviderEntry[],
  env: Env,
): { model: string; because: string } {
  const named = env.get(MODEL_ENV);
  const first = entries[0];
  if (named !== undefined) {
    const isFull = entries.some(({ provider }) =>
      named.startsWith(`${provider.id}:`) || named.startsWith(`${provider.id}/`)
    );
    return {
      model: isFull || first === undefined
        ? named
        : `${first.provider.id}:${named}`,
      because: `env ${MODEL_ENV}`,
    };
  }
  return first === undefined
    ? {
      model: `${demoRow.kind}:${demoRow.model}`,
      because: "nothing is configured",
    }
    : {
      model: `${first.provider.id}:${first.model}`,
      because: first.because,
    };
}

/** A base URL's host and port, as `--allow-net` wants them. */
function hostPort(url: URL): string {
  return `${url.hostname}:${url.port || (url.protocol === "http:" ? 80 : 443)}`;
}

/**
 * What the providers need of the outer sandbox: every configured host, the
 * vendors' own that a first run may choose, and the environment names. Pure.
 */
export function providerNeeds(config: ProvidersConfig, env: Env): Need[] {
  const needs = new Map<string, Need>();
  const add = (one: Need) => {
    const id = `${one.kind} ${one.value}`;
    if (!needs.has(id)) needs.set(id, one);
  };
  for (const plan of planProviders(config, env)) {
    const { row, baseUrl, because, config: { aws } } = plan;
    if (row.baseUrl === undefined) continue;
    for (const url of [baseUrl, ...row.alsoAt?.(baseUrl) ?? []]) {
      add(need("net", hostPort(url), because));
    }
    for (const name of [...row.secretEnv ?? [], ...row.regionEnv ?? []]) {
      add(need("env", name, because));
    }
    if (aws?.profileFile !== undefined && row.secretEnv !== undefined) {
      add(need("read", aws.profileFile, `${because}.aws.profileFile`));
    }
  }
  for (const row of VENDOR_ROWS) {
    if (row.baseUrl === undefined) continue;
    const because = `${row.title}, a provider the first run can choose`;
    if (row.onDemand === undefined) {
      add(need("net", hostPort(new URL(row.baseUrl)), because));
    }
    for (const name of [...keyNames(row), row.baseUrlEnv]) {
      if (name !== undefined) {
        add(need("env", name, `${row.title}'s usual name`));
      }
    }
  }
  add(need("env", MODEL_ENV, "the default model"));
  return [...needs.values()];
}
