/**
 * A house that kills itself the moment a chat command is acknowledged: run by
 * the test beside it. Arguments: the state directory, the command.
 */
import { z } from "zod";
import { tool } from "../../src/core/tool.ts";
import { fakeHouse, request } from "../fakes/house.ts";
import { calls, says } from "../fakes/models.ts";

async function main(dir: string, command: string): Promise<void> {
  const begun = Promise.withResolvers<void>();
  const house = await fakeHouse({
    dir,
    tools: [tool({
      name: "stuck",
      about: "",
      input: z.strictObject({}),
      scope: "chat",
      effect: "none",
      result: { integrity: "inherit", secrecy: "inherit" },
      destinations: [],
      run: () => {
        begun.resolve();
        return new Promise<string>(() => {});
      },
    })],
    steps: [says("first"), calls(["stuck", {}])],
  });
  await house.say("hello");
  await house.desk.start(request("and now wait"));
  await begun.promise;
  const { runId } = await house.desk.start(request(command));
  console.log(runId);
  Deno.kill(Deno.pid, "SIGKILL");
}

if (import.meta.main) main(Deno.args[0] ?? "", Deno.args[1] ?? "");
