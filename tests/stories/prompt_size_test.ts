/**
 * What goes to the vendor for "hi": the whole body, measured on the wire. The
 * fixed prompt and the tools' schemas of the default agent stay under 8 KB,
 * however much is configured.
 */
import assert from "node:assert/strict";
import { label } from "../../src/core/label.ts";
import { silentLog } from "../../src/core/log.ts";
import { Secret } from "../../src/core/secret.ts";
import { systemClock } from "../../src/core/time.ts";
import { openHouse } from "../../src/house.ts";
import { Settings } from "../../src/settings.ts";
import { fakeAnthropic } from "../fakes/anthropic.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { authority } from "../fakes/tools.ts";
import type { FakeRequest } from "../fakes/vendor.ts";

const BYTES_MAX = 8_192;

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Says "hi" through a whole house and gives the bodies the vendor saw. */
async function hi(
  settings: Record<string, unknown>,
  vendor: "openai" | "anthropic",
): Promise<readonly FakeRequest[]> {
  const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
  const root = `${await Deno.realPath(dir)}/notes`;
  await Deno.mkdir(root);
  await using fake = vendor === "openai"
    ? await fakeOpenai()
    : await fakeAnthropic();
  try {
    await using house = await openHouse({
      settings: Settings.parse({
        gateway: { port: freePort() },
        providers: {
          [vendor]: {
            baseUrl: fake.url,
            apiKey: new Secret("sk-fake", "test"),
            ...vendor === "openai" ? { api: "chat" } : {},
          },
        },
        agents: { main: { model: `${vendor}:test-1` } },
        ...settings,
        ...settings["tools"] === undefined ? {} : {
          tools: { roots: [root], ...settings["tools"] as object },
        },
      }),
      stateDir: `${dir}/state`,
      env: { get: () => undefined },
      clock: systemClock,
      log: silentLog,
      posture: { tried: 0, refused: 0, sandboxOff: true, grants: {} },
    });
    const at = Date.now();
    const { events } = await house.desk.start({
      inbound: {
        id: "1",
        channel: "test",
        account: "local",
        sender: { id: "owner" },
        chat: { kind: "direct", id: "owner" },
        kind: "message",
        text: "hi",
        images: [],
        label: label("owner", ["owner"], { kind: "owner", ref: "test", at }),
        receivedAt: at,
      },
      authority: authority(),
      sessionKey: "agent:main:main",
      attended: true,
    });
    const last = (await Array.fromAsync(events)).at(-1);
    assert.ok(
      last?.kind === "end" && last.reason === "done",
      JSON.stringify(last),
    );
    return fake.requests;
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const everything = {
  egress: { open: true },
  tools: {
    search: { kind: "searxng", url: "http://127.0.0.1:9" },
  },
};

Deno.test('"hi" costs under 8 KB on the wire', async (t) => {
  const rows: [name: string, settings: Record<string, unknown>][] = [
    ["as installed", {}],
    ["with every built-in tool", everything],
  ];
  for (const vendor of ["openai", "anthropic"] as const) {
    for (const [name, settings] of rows) {
      await t.step(`${vendor}, ${name}`, async () => {
        const [request] = await hi(settings, vendor);
        assert.ok(request !== undefined);
        const text = JSON.stringify(request.body);
        const bytes = new TextEncoder().encode(text).byteLength;
        const { tools } = request.body as {
          tools: { name?: string; function?: { name: string } }[];
        };
        const sizes = tools.map((tool) => [
          tool.name ?? tool.function?.name,
          JSON.stringify(tool).length,
        ]);
        assert.ok(bytes < BYTES_MAX, `${bytes} bytes: ${sizes.join(" ")}`);
      });
    }
  }
});
