/**
 * A house that kills itself the moment a chat command is acknowledged: run by
 * the test beside it. Arguments: the state directory, and what is said after a
 * turn began. Prints the run of each.
 */
import { z } from "zod";
import type { Journal } from "../../src/store/journal.ts";
import { tool } from "../../src/core/tool.ts";
import { fakeHouse, ownerAuthority, request } from "../fakes/house.ts";
import { calls, says } from "../fakes/models.ts";

/** From here on nothing is stored but what is acknowledged by it. */
function storeOnlyAcceptance(journal: Journal): void {
  const commit = journal.commit.bind(journal);
  journal.commit = async (rows) => {
    const isAcceptance = rows.some(({ key }) => key[0] === "inbound");
    return await (isAcceptance ? commit(rows) : new Promise<void>(() => {}));
  };
}

async function main(dir: string, texts: readonly string[]): Promise<void> {
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
  const say = async (said: string): Promise<string> => {
    const [, credential = "tok_owner", text = ""] =
      /^(?:as:(\S+) )?(.*)$/.exec(said) ?? [];
    const authority = ownerAuthority({ credential });
    return (await house.desk.start(request(text, { authority }))).runId;
  };
  for (const text of texts) {
    if (/(^| )\//.test(text)) storeOnlyAcceptance(house.store.journal);
    console.log(await say(text));
  }
  Deno.kill(Deno.pid, "SIGKILL");
}

if (import.meta.main) main(Deno.args[0] ?? "", Deno.args.slice(1));
