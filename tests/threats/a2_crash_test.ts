/** A2: a gateway that is killed has paired, redeemed and rotated whole or not at all. */
import assert from "node:assert/strict";
import { makeDevice } from "../fakes/device.ts";
import { CLIENT } from "../fakes/gateway_house.ts";
import { openKept } from "./a2_killed_pairing.ts";

interface Line {
  did: string;
  id: string;
  publicKey: string;
  code: string;
  text: string;
  requestId: string;
}

const PARAMS = { minProtocol: 3, maxProtocol: 4, client: CLIENT };

/** Runs until so many lines were said, then kills; what was said. */
async function killedAfter(dir: string, count: number): Promise<Line[]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      "--no-check",
      `--allow-read`,
      `--allow-write=${dir}`,
      "--allow-env",
      "tests/threats/a2_killed_pairing.ts",
      dir,
    ],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines: Line[] = [];
  let rest = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    lines.push(...parts.map((line) => JSON.parse(line) as Line));
    if (lines.length >= count) break;
  }
  child.kill("SIGKILL");
  const errors = await new Response(child.stderr).text();
  await child.status;
  assert.ok(lines.length >= count, errors);
  return lines;
}

async function check(dir: string, lines: Line[]): Promise<void> {
  const { store, tokens, identity } = await openKept(dir);
  await using _store = store;
  const { devices, pairing, authenticator } = identity;
  const of = (did: string) => lines.filter((line) => line.did === did);
  for (const { id } of [...of("redeem"), ...of("approve")]) {
    assert.ok(await devices.find(id, "operator"), "acknowledged, so stored");
  }
  const { pending } = await pairing.list();
  for (const { requestId, id } of of("ask")) {
    const isPending = pending.some((one) => one.requestId === requestId);
    const isPaired = await devices.find(id, "operator") !== undefined;
    assert.notEqual(isPending, isPaired, "asked or paired, never both");
  }
  for (const { code, id } of of("invite")) {
    const isPaired = await devices.find(id, "operator") !== undefined;
    const stranger = await pairing.redeem(code, makeDevice(), PARAMS);
    assert.equal(stranger === undefined, isPaired, "used once, or not yet");
  }
  for (const { id, text } of of("rotate")) {
    const row = await devices.find(id, "operator");
    assert.ok(row && await devices.acceptToken(row, text));
  }
  // One of the texts always opens: the last that was said, or the next one,
  // which nobody has heard yet, beside it.
  const texts = lines.flatMap(({ text, did }) => did === "rotate" ? [] : text);
  const last = texts.filter((text) => text !== undefined).at(-1) ?? "";
  assert.ok(await authenticator.find(last));
  assert.equal((await tokens.list()).length, 1);
  assert.equal((await store.audit.verify()).ok, true);
}

for (const count of [2, 3, 5, 8, 11, 14, 23]) {
  Deno.test(`A2: killed after ${count} acknowledgements`, async () => {
    await Deno.mkdir("tests/.tmp", { recursive: true });
    const dir = await Deno.makeTempDir({ dir: "tests/.tmp" });
    try {
      const lines = await killedAfter(`${dir}/state`, count);
      await check(`${dir}/state`, lines);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}
