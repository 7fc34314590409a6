/**
 * Asks every vendor's provider for one answer under whatever flags the test gave
 * this process, and says what came.
 */
import { PUBLIC_OWNER } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import type { ModelRequest } from "../../src/core/model.ts";
import { Secret } from "../../src/core/secret.ts";
import { ProviderConfig } from "../../src/providers/config.ts";
import { VENDOR_ROWS } from "../../src/providers/registry.ts";
import { usualId } from "../../src/providers/vendor.ts";

const REQUEST: ModelRequest = {
  model: "m-1",
  messages: [{
    role: "user",
    parts: [{ kind: "text", text: "hi", label: PUBLIC_OWNER }],
  }],
};

async function ask(id: string, url: string): Promise<string> {
  const row = VENDOR_ROWS.find((one) => usualId(one) === id);
  if (row === undefined) return "there is no such vendor";
  const secret = (name: string) => new Secret("key", name);
  const hasParts = row.secretEnv !== undefined;
  const provider = row.make({
    id,
    baseUrl: new URL(url),
    // An account's keys in parts make the SDK sign.
    apiKey: hasParts ? undefined : secret("key"),
    secrets: Object.fromEntries(
      (row.secretEnv ?? []).map((name) => [name, secret(name)]),
    ),
    fetch,
    log: silentLog,
  }, ProviderConfig.parse({}));
  const signal = new AbortController().signal;
  let words = "";
  try {
    for await (const event of provider.stream(REQUEST, signal)) {
      if (event.kind === "text") words += event.text;
    }
    const models = await provider.models(signal);
    return models.length > 0 ? words : "it lists no models";
  } catch (error) {
    return Deno.inspect(error);
  }
}

async function main(): Promise<void> {
  const urls: Record<string, string> = JSON.parse(Deno.args[0] ?? "{}");
  const said: Record<string, string> = {};
  for (const [id, url] of Object.entries(urls)) said[id] = await ask(id, url);
  console.log(JSON.stringify(said));
}

void main();
