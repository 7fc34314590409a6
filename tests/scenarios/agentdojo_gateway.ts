/**
 * A gateway for replays: the launcher and its service as `deno task start` runs
 * them, the suite's tools as an MCP server, a model that says what the plan
 * says, and the owner, who refuses what the attack asks and allows the rest.
 */
import { systemClock } from "../../src/core/time.ts";
import { runTurn } from "../../src/remote/run_turn.ts";
import { fakeMcp } from "../fakes/mcp.ts";
import { fakeOpenai } from "../fakes/openai.ts";
import { say } from "../fakes/vendor.ts";
import { client, providedBy, start } from "../process/gateways.ts";
import { scratch, until } from "../process/processes.ts";
import type { Play, Ran, Step, Suite } from "./agentdojo.ts";

/** The name of the suite's server in the operator's configuration. */
const SERVER = "suite";

/** A running gateway and how conversations are played on it. */
export interface Replay extends AsyncDisposable {
  play: Play;
}

/** What is being played now. */
interface Stage {
  plan: readonly Step[];
  ran: Ran[];
  /** The step the model said last. */
  at: number;
}

/** Opens one. The operator's configuration is the gateway's, but for addresses. */
export async function openReplay(
  suite: Suite,
  config: { guard?: unknown; mcp?: { servers?: Record<string, unknown> } },
): Promise<Replay> {
  await using opening = new AsyncDisposableStack();
  const stage: Stage = { plan: [], ran: [], at: -1 };
  const server = opening.use(fakeMcp(suite.tools.map((tool) => ({
    name: tool.name,
    description: tool.description,
    inputSchema: { type: "object", ...tool.parameters },
    annotations: { readOnlyHint: tool.reads_only },
    answer: () => {
      const step = stage.plan[stage.at];
      const ran = stage.ran[stage.at];
      if (step?.call.tool !== tool.name || ran === undefined) {
        throw new TypeError(`"${tool.name}" ran out of turn`);
      }
      ran.ran = true;
      return step.call.result;
    },
  }))));
  const model = opening.use(
    await fakeOpenai({
      script: () => {
        const step = stage.plan[++stage.at];
        if (step === undefined) return say("done");
        const { tool, args } = step.call;
        return { calls: [{ name: `mcp_${SERVER}_${tool}`, args }] };
      },
    }),
  );
  const dir = opening.use(await scratch()).path;
  await Deno.writeTextFile(
    `${dir}/carapace.jsonc`,
    JSON.stringify({
      ...config,
      mcp: {
        servers: {
          [SERVER]: { ...config.mcp?.servers?.[SERVER] ?? {}, url: server.url },
        },
      },
      limits: { stepsMax: 100 },
    }),
    { mode: 0o600 },
  );
  const gateway = opening.use(await start({ dir, env: providedBy(model) }));
  const owner = opening.use(await client(gateway));
  await until("every tool of the suite", async () => {
    const { servers } = await owner.call("mcp.list", {});
    return servers.some(({ tools }) =>
      tools.filter(({ state }) => state === "ready").length ===
        suite.tools.length
    );
  });
  let sessions = 0;
  const play: Play = async (prompt, plan) => {
    Object.assign(stage, {
      plan,
      ran: plan.map((): Ran => ({ ran: false, denied: false })),
      at: -1,
    });
    const sessionKey = `agent:main:replay-${++sessions}`;
    const events = runTurn(owner, { sessionKey, message: prompt }, {
      clock: systemClock,
    });
    // Events come after the fact: the model may be a step ahead of them.
    let at = -1;
    for await (const event of events) {
      if (event.kind === "tool_call") at++;
      const ran = stage.ran[at];
      // Three equal refusals end a turn; any other failure is this test's own.
      if (
        event.kind === "end" && event.state === "error" &&
        !event.message?.includes("was called 3 times")
      ) {
        throw new TypeError(`The turn failed: ${event.message}`);
      }
      if (
        event.kind === "end" && event.state !== "error" && at + 1 < plan.length
      ) throw new TypeError("The turn ended before its plan");
      if (ran === undefined) continue;
      if (event.kind === "ask") {
        ran.asked = event.question;
        await owner.call("approval.resolve", {
          id: event.approvalId,
          decision: plan[at]?.isAttack === true ? "deny" : "allow-once",
        });
      } else if (event.kind === "decision" && event.verdict === "deny") {
        ran.denied = ran.asked === undefined;
      }
    }
    return stage.ran;
  };
  const closing = opening.move();
  return { play, [Symbol.asyncDispose]: () => closing.disposeAsync() };
}
