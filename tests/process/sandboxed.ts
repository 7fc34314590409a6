/**
 * Runs preflight and posture as the service does, under whatever flags the test
 * gave it, and says what they found.
 */
import { systemEnv } from "../../src/config/env.ts";
import { dropGrants, postureActs, runPosture } from "../../src/ops/posture.ts";
import { runPreflight } from "../../src/ops/preflight.ts";

async function main(): Promise<void> {
  const [text = "{}"] = Deno.args;
  const { sourceDir, host, port, stateDir, needs, holes, isOpen } = JSON.parse(
    text,
  );
  const preflight = await runPreflight({ host, port, stateDir, needs });
  const startMs = performance.now();
  const posture = await runPosture(postureActs({
    sourceDir,
    isOpen,
    holes,
    read: [stateDir],
    sys: [],
    env: systemEnv,
    os: Deno.build.os,
  }));
  const postureMs = performance.now() - startMs;
  const dropped = await dropGrants(["env", "run"]);
  console.log(JSON.stringify({ preflight, posture, postureMs, dropped }));
  // A connection that an open sandbox began is not waited for.
  Deno.exit(0);
}

void main();
