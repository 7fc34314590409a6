/**
 * Stands in for the service under a launcher that runs programs: asks for the
 * command it is told to, says what came back, waits for its end.
 */
import { ToolsConfig } from "../../src/tools/config.ts";
import { templatesOf } from "../../src/tools/exec_config.ts";
import { openLauncherPipe } from "../../src/ops/launcher_pipe.ts";
import { watchLifeline } from "../../src/ops/lifeline.ts";
import { Runner } from "../../src/tools/runner.ts";

const state = Deno.env.get("CARAPACE_STATE_DIR") ?? "";

function say(line: unknown): void {
  console.log(JSON.stringify(line));
}

async function main(): Promise<void> {
  const { run } = JSON.parse(await Deno.readTextFile(`${state}/orders`));
  const pipe = openLauncherPipe();
  say({
    pipe: pipe !== undefined,
    run: (await Deno.permissions.query({ name: "run" })).state,
    env: Object.keys(Deno.env.toObject()),
    pid: Deno.pid,
  });
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(name, () => Deno.exit(7));
  }
  watchLifeline(Deno.stdin.readable, () => Deno.exit(0));
  if (pipe !== undefined) {
    const runner = new Runner(pipe);
    const config = JSON.parse(
      await Deno.readTextFile(`${state}/carapace.jsonc`),
    );
    const { exec } = ToolsConfig.parse(config.tools);
    const { signal } = new AbortController();
    for (const [command, values] of run) {
      const template = templatesOf(exec)[command] ??
        Object.values(templatesOf(exec))[0];
      if (template === undefined) continue;
      const ran = runner.run(command, template, { values, signal })
        .then(
          (result) => say({ result }),
          (error) => say({ refused: error.message }),
        );
      if (command !== "sleep") await ran;
    }
  }
  say({ ready: true });
}

void main();
