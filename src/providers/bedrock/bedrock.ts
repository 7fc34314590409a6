/**
 * AWS Bedrock's Converse API. The SDK writes and signs the request; our door
 * sends it, our reader reads the answer.
 *
 * Never: the SDK's own retries, sockets, configuration files or search for
 * credentials.
 *
 * @module
 */
import type {
  BedrockRuntimeClient,
  BedrockRuntimeClientConfig,
  ConverseStreamCommandInput,
} from "@aws-sdk/client-bedrock-runtime";
import { readBytes } from "../../core/bounded.ts";
import type { ModelInfo, Provider } from "../../core/model.ts";
import { VERSION } from "../../core/version.ts";
import { toBody } from "./body.ts";
import { type AwsKeys, findKeys, KEY_NAMES } from "./keys.ts";
import { readEvents } from "./stream.ts";
import type { ProviderConfig } from "../config.ts";
import { type Place, toNonsense, toTruncated } from "../errors.ts";
import { call, fromSdk, placeOf, streamFetch } from "../http.ts";
import type { ProviderDeps, VendorRow } from "../vendor.ts";
import { list, record, text } from "../wire.ts";

const KIND = "bedrock";
const REGION = "us-east-1";
const HOST = /^bedrock-runtime(?=[.-].*\.amazonaws\.com(\.cn)?$)/;
const LIST_BYTES_MAX = 4 * 1024 * 1024;

/** The vendor's row. */
export const bedrockRow: VendorRow = {
  kind: KIND,
  title: "AWS Bedrock",
  keyEnv: "AWS_BEARER_TOKEN_BEDROCK",
  baseUrlEnv: "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
  baseUrl: regionalUrl(REGION).href,
  secretEnv: Object.values(KEY_NAMES),
  regionEnv: ["AWS_REGION", "AWS_DEFAULT_REGION"],
  regional: (region) => regionalUrl(region ?? REGION),
  alsoAt: (baseUrl) => HOST.test(baseUrl.hostname) ? [listUrl(baseUrl)] : [],
  onDemand: true,
  needsKey: true,
  supports: {
    thinking:
      "Claude: adaptive or a budget, signed blocks go back; Nova 2 and gpt-oss: effort",
    cache:
      "Claude: tools, system, last user turn and end; Nova: all but tools; hits and writes counted",
    schema: "where the model has it",
    forward: false,
  },
  make: makeBedrockProvider,
};

function regionalUrl(region: string): URL {
  const domain = region.startsWith("cn-")
    ? "amazonaws.com.cn"
    : "amazonaws.com";
  return new URL(`https://bedrock-runtime.${region}.${domain}/`);
}

/** Lists of models are at another host of the same region. */
function listUrl(baseUrl: URL): URL {
  const url = new URL(baseUrl);
  url.hostname = url.hostname.replace(HOST, "bedrock");
  return url;
}

/** The SDK's request, as far as we use it. */
interface Signed {
  protocol: string;
  hostname: string;
  port?: number;
  path: string;
  method: string;
  query: Record<string, string>;
  headers: Record<string, string>;
  body?: Uint8Array<ArrayBuffer>;
}

/** Makes the provider; the SDK loads with its first call. */
export function makeBedrockProvider(
  deps: ProviderDeps,
  config?: Pick<ProviderConfig, "aws">,
): Provider {
  const aws = config?.aws;
  const region = deps.region ?? aws?.region ?? regionOf(deps.baseUrl);
  const clients = new Clients(deps.baseUrl, region);
  const signedBy = async () => {
    const keys = await findKeys(deps, aws);
    const source = keys.kind === "bearer" ? keys.token : keys.secret;
    const place: Place = {
      ...placeOf(deps, bedrockRow),
      keySource: source.source,
    };
    return { keys, place };
  };
  return {
    id: deps.id,
    kind: KIND,
    async *stream(request, signal) {
      signal.throwIfAborted();
      const { keys, place } = await signedBy();
      const post = streamFetch(deps, place);
      let response: Response;
      try {
        response = await clients.send(keys, {
          body: toBody(request),
          door: ({ headers, body, method, ...at }) =>
            post(urlOf(at), {
              method,
              headers,
              ...(body === undefined ? {} : { body: body.slice() }),
              signal,
            }),
        });
      } catch (error) {
        throw fromSdk(place, error, signal);
      }
      yield* readEvents(response, place, signal);
    },
    models: async (signal) => {
      const { keys, place } = await signedBy();
      const get = (path: string, query: Record<string, string>) =>
        getSigned({ deps, place, clients, keys }, { path, query, signal });
      // What is called by its profile is not called by its own name.
      const [profiles, models] = await Promise.all([
        get("/inference-profiles", { maxResults: "1000" }),
        get("/foundation-models", {
          byOutputModality: "TEXT",
          byInferenceType: "ON_DEMAND",
        }),
      ]);
      return [...toProfiles(profiles), ...toModels(models)];
    },
  };
}

function urlOf(
  { protocol, hostname, port, path, query }: Pick<
    Signed,
    "protocol" | "hostname" | "port" | "path" | "query"
  >,
): URL {
  const url = new URL(
    `${protocol}//${hostname}${port === undefined ? "" : `:${port}`}${path}`,
  );
  for (const [name, value] of Object.entries(query)) {
    url.searchParams.set(name, value);
  }
  return url;
}

function regionOf(baseUrl: URL): string {
  return /\.([a-z]{2,3}(?:-[a-z]+)+-\d{1,2})\./.exec(baseUrl.hostname)?.[1] ??
    REGION;
}

/** What a request is changed to, and who sends it. */
interface Sending {
  body: ConverseStreamCommandInput;
  /** Changes the request before it is signed. */
  change?: (request: Signed) => void;
  door(request: Signed): Promise<Response>;
}

/** The SDK's client for the keys of the last call. */
class Clients {
  readonly #baseUrl: URL;
  readonly #region: string;
  #known: { of: string; client: BedrockRuntimeClient } | undefined;

  constructor(baseUrl: URL, region: string) {
    this.#baseUrl = baseUrl;
    this.#region = region;
  }

  /** Has the SDK write and sign a request, and sends it by the door. */
  async send(keys: AwsKeys, sending: Sending): Promise<Response> {
    const { BedrockRuntimeClient, ConverseStreamCommand } = await import(
      "@aws-sdk/client-bedrock-runtime"
    );
    const of = JSON.stringify(credentialsOf(keys));
    if (this.#known?.of !== of) {
      const client = new BedrockRuntimeClient(this.#configOf(keys));
      this.#known = { of, client };
    }
    const command = new ConverseStreamCommand(sending.body);
    const { change } = sending;
    let response: Response | undefined;
    if (change !== undefined) {
      command.middlewareStack.add(
        (next) => (args) => {
          change(args.request as Signed);
          return next(args);
        },
        { step: "build", priority: "low", name: "carapace_change" },
      );
    }
    // Before the SDK's own reader: what comes back is not looked at there.
    command.middlewareStack.add(
      () => async ({ request }) => {
        response = await sending.door(request as Signed);
        return { response, output: { $metadata: {}, stream: undefined } };
      },
      { step: "deserialize", priority: "high", name: "carapace_door" },
    );
    await this.#known.client.send(command);
    if (response === undefined) throw new TypeError("the SDK sent nothing");
    return response;
  }

  /** Everything the SDK would look for by itself is said here. */
  #configOf(keys: AwsKeys): BedrockRuntimeClientConfig {
    const auth = keys.kind === "bearer"
      ? { token: { token: keys.token.reveal() }, scheme: "httpBearerAuth" }
      : { credentials: credentialsOf(keys), scheme: "sigv4" };
    const { scheme, ...identity } = auth;
    return {
      ...identity as Pick<BedrockRuntimeClientConfig, "credentials" | "token">,
      authSchemePreference: [scheme],
      region: this.#region,
      endpoint: this.#baseUrl.href.replace(/\/$/, ""),
      maxAttempts: 1,
      retryMode: "standard",
      defaultsMode: "standard",
      useDualstackEndpoint: false,
      useFipsEndpoint: false,
      disableClockSkewCorrection: true,
      userAgentAppId: "",
      defaultUserAgentProvider: () => Promise.resolve([["carapace", VERSION]]),
      requestHandler: {
        handle: () => Promise.reject(new TypeError("the door was passed by")),
      },
    } as BedrockRuntimeClientConfig;
  }
}

function credentialsOf(keys: AwsKeys): Record<string, string> {
  if (keys.kind === "bearer") return { token: keys.token.reveal() };
  return {
    accessKeyId: keys.id.reveal(),
    secretAccessKey: keys.secret.reveal(),
    ...(keys.session === undefined
      ? {}
      : { sessionToken: keys.session.reveal() }),
  };
}

/** A list, signed as any other request is. */
async function getSigned(
  on: { deps: ProviderDeps; place: Place; clients: Clients; keys: AwsKeys },
  request: { path: string; query: Record<string, string>; signal: AbortSignal },
): Promise<unknown> {
  const { deps, place, clients, keys } = on;
  const { signal } = request;
  const url = HOST.test(deps.baseUrl.hostname)
    ? listUrl(deps.baseUrl)
    : deps.baseUrl;
  let bytes: Uint8Array;
  try {
    const response = await clients.send(keys, {
      body: { modelId: "none", messages: [] },
      change: (signed) => {
        signed.method = "GET";
        signed.hostname = url.hostname;
        signed.path = url.pathname.replace(/\/$/, "") + request.path;
        signed.query = request.query;
        signed.headers = { host: url.host, accept: "application/json" };
        delete signed.body;
      },
      door: ({ headers, method, ...at }) =>
        call(deps, place, urlOf(at), { method, headers, signal }),
    });
    if (response.body === null) throw toTruncated(place);
    bytes = await readBytes(response.body, LIST_BYTES_MAX);
  } catch (error) {
    throw fromSdk(place, error, signal);
  }
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw toNonsense(place, "something that is not JSON");
  }
}

function toProfiles(body: unknown): ModelInfo[] {
  return list(record(body)["inferenceProfileSummaries"]).map(record).flatMap(
    (profile) =>
      toInfo(
        profile["inferenceProfileId"],
        profile[
          "inferenceProfileName"
        ],
      ),
  );
}

function toModels(body: unknown): ModelInfo[] {
  return list(record(body)["modelSummaries"]).map(record).flatMap((model) =>
    model["responseStreamingSupported"] === true
      ? toInfo(model["modelId"], model["modelName"])
      : []
  );
}

function toInfo(rawId: unknown, rawLabel: unknown): ModelInfo[] {
  const id = text(rawId);
  const label = text(rawLabel);
  return id === "" ? [] : [{ id, ...(label === "" ? {} : { label }) }];
}
