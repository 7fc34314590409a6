/**
 * OpenAI's row, and the choice between its two APIs: its own service is asked
 * by Responses, any other address by chat completions, unless the
 * configuration says otherwise.
 *
 * @module
 */
import type { Provider } from "../../core/model.ts";
import type { ProviderConfig } from "../config.ts";
import { placeOf } from "../http.ts";
import { makeOpenaiChatProvider } from "./chat.ts";
import { makeOpenaiResponsesProvider } from "./responses.ts";
import { OPENAI } from "./wire.ts";
import type { ProviderDeps, VendorRow } from "../vendor.ts";

/** The vendor's row; every compatible server is one of its kind. */
export const openaiRow: VendorRow = {
  kind: "openai",
  title: "OpenAI",
  ...OPENAI,
  model: "gpt-6.1-sol",
  supports: {
    thinking: "effort; sealed reasoning goes back",
    cache: "by the vendor itself; hits counted",
    schema: "yes",
    forward: true,
  },
  make: (deps, config) => makeOpenaiProvider(deps, config),
};

/** Makes the provider for one of the two APIs. */
export function makeOpenaiProvider(
  deps: ProviderDeps,
  config: Pick<ProviderConfig, "api">,
  row: VendorRow = openaiRow,
): Provider {
  const place = placeOf(deps, row);
  const isOwn = deps.baseUrl.href === new URL(OPENAI.baseUrl).href;
  const api = config.api ?? (isOwn ? "responses" : "chat");
  return api === "chat"
    ? makeOpenaiChatProvider(deps, place)
    : makeOpenaiResponsesProvider(deps, place);
}
