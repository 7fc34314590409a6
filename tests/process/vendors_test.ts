/**
 * The vendors' SDKs under the service's kind of flags: they look for settings,
 * credentials and machine facts by themselves, and must not need any.
 */
import assert from "node:assert/strict";
import { fakeAnthropic } from "../fakes/anthropic.ts";
import { fakeBedrock } from "../fakes/bedrock.ts";
import { fakeGemini } from "../fakes/gemini.ts";
import { fakeOllama } from "../fakes/ollama.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { say } from "../fakes/vendor.ts";
import { root } from "./processes.ts";

Deno.test("every vendor answers with nothing granted but its own port", async () => {
  const options = { script: [say("Hello ", "you")] };
  await using anthropic = await fakeAnthropic(options);
  await using openai = await fakeOpenai(options);
  await using gemini = await fakeGemini(options);
  await using bedrock = await fakeBedrock({ ...options, key: "key" });
  await using ollama = await fakeOllama(options);
  const fakes = { anthropic, openai, gemini, bedrock, ollama };
  const urls = Object.fromEntries(
    Object.entries(fakes).map(([id, fake]) => [id, fake.url]),
  );
  const hosts = Object.values(urls).map((url) => new URL(url).host);
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      "--frozen",
      "--cached-only",
      "--no-remote",
      "--no-check",
      "--ignore-env",
      "--allow-env=NO_COLOR",
      `--allow-net=${hosts.join(",")}`,
      "tests/process/ask_vendors.ts",
      JSON.stringify(urls),
    ],
    cwd: root,
  }).output();
  const decoder = new TextDecoder();
  assert.ok(success, decoder.decode(stderr));
  assert.deepEqual(
    JSON.parse(decoder.decode(stdout)),
    Object.fromEntries(Object.keys(fakes).map((id) => [id, "Hello you"])),
  );
  // Nothing is said to the terminal of a service either.
  assert.equal(decoder.decode(stderr), "");
});
