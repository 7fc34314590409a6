/**
 * The same clients against the service as it is started, in its computed
 * sandbox: what they make it load and do needs no permission beside.
 */
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import OpenAI from "openai";
import {
  freePort,
  LAUNCHER_FLAGS,
  Proc,
  root,
  scratch,
  until,
} from "../process/processes.ts";

Deno.test("clients of the field against the sandboxed service", async (t) => {
  await using dir = await scratch();
  const port = freePort();
  await using proc = new Proc(
    ["run", ...LAUNCHER_FLAGS, `${root}/src/launch.ts`, "start"],
    { env: { CARAPACE_STATE_DIR: dir.path, CARAPACE_PORT: String(port) } },
  );
  await until("the banner", () => proc.out.some((l) => l.includes("next ")));
  const url = `http://127.0.0.1:${port}`;
  const token = (await Deno.readTextFile(`${dir.path}/cli-token`)).trim();
  await t.step("openai: responses", async () => {
    const api = new OpenAI({
      baseURL: `${url}/v1`,
      apiKey: token,
      maxRetries: 0,
    });
    const first = await api.responses.create({
      model: "carapace",
      input: "what is 2+2?",
    });
    assert.match(first.output_text, /4/);
    const second = await api.responses.stream({
      model: "carapace",
      previous_response_id: first.id,
      input: "what is 3+3?",
    }).finalResponse();
    assert.match(second.output_text, /6/);
  });
  await t.step("@anthropic-ai/sdk: messages", async () => {
    const api = new Anthropic({ baseURL: url, apiKey: token, maxRetries: 0 });
    const text = await api.messages.stream({
      model: "carapace",
      max_tokens: 100,
      messages: [{ role: "user", content: "what is 4+4?" }],
    }).finalText();
    assert.match(text, /8/);
  });
  await t.step("@modelcontextprotocol/sdk: tools and sessions", async () => {
    const client = new Client({ name: "test", version: "1.0.0" });
    await client.connect(
      new StreamableHTTPClientTransport(new URL(`${url}/mcp`), {
        requestInit: { headers: { authorization: `Bearer ${token}` } },
      }),
    );
    const { content } = await client.callTool({
      name: "math_eval",
      arguments: { expression: "6*7" },
      // deno-lint-ignore no-explicit-any
    }) as any;
    assert.equal(content[0].text, "42");
    assert.deepEqual((await client.listResources()).resources, []);
    await client.close();
  });
  await t.step("the document", async () => {
    const answer = await fetch(`${url}/openapi.json`, {
      headers: { authorization: `Bearer ${token}` },
    });
    assert.equal((await answer.json()).openapi, "3.1.0");
  });
});
