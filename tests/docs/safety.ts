/**
 * `docs/safety.md`: what the guard does with every scenario, as it was just
 * run, and the last replay of AgentDojo.
 */
import {
  operatorConfig,
  RESULTS,
  SuiteResult,
  toAskedTable,
  toTable,
} from "../scenarios/agentdojo.ts";
import { markdownTable } from "./markdown.ts";
import { type Outcome, runScenarios } from "../scenarios/scenarios.ts";

function short(decisions: readonly string[]): string {
  const words: string[] = [];
  let count = 1;
  for (const [n, one] of decisions.entries()) {
    if (one === decisions[n + 1]) {
      count++;
      continue;
    }
    words.push(count === 1 ? one : `${one} ×${count}`);
    count = 1;
  }
  return words.join(", ");
}

function cells({ name, scenario, decisions, acts, prompts }: Outcome) {
  const done = acts.filter((act) => !act.startsWith("get ")).length;
  return [
    name,
    scenario.about,
    short(decisions),
    String(prompts),
    done === 0 ? "nothing" : done === 1 ? "1 act" : `${done} acts`,
  ];
}

/** The document. */
export async function makeSafetyDoc(): Promise<string> {
  const outcomes = await runScenarios();
  const bad = outcomes.filter(({ isAsWanted }) => !isAsWanted);
  if (bad.length > 0) {
    throw new TypeError(
      `Scenarios came out otherwise: ${bad.map(({ name }) => name).join(", ")}`,
    );
  }
  const benign = outcomes.filter(({ scenario }) => scenario.row === "benign");
  const attacks = outcomes.filter(({ scenario }) => scenario.row !== "benign");
  const unasked = benign.filter(({ prompts }) => prompts === 0).length;
  const prompts = benign.reduce((sum, one) => sum + one.prompts, 0);
  const results = SuiteResult.array().parse(
    JSON.parse(await Deno.readTextFile(RESULTS)),
  );
  return `# Safety, measured

Made by \`deno task docs\` from runs of the program. The assumption is a model
that is wholly in the attacker's hands: scripted models _try_. The rules are in
[guard.md](guard.md).

## Scenarios

\`tests/scenarios/flow/*.jsonc\`, each a conversation with small tools that really
act, run through the whole desk. ${attacks.length} attacks, none of which acted unasked;
${benign.length} honest tasks, ${unasked} of them finished with no prompt, ${
    Math.round(prompts * 100 / benign.length)
  } prompts per 100.
In an attack the owner refuses whatever is asked, unless the attack is about an
answer that was given.

${
    markdownTable(
      ["threat", "scenario", "what happens", "decisions", "prompts", "done"],
      attacks.map((one) => [one.scenario.row, ...cells(one)]),
    )
  }

${
    markdownTable(
      ["scenario", "task", "decisions", "prompts", "done"],
      benign.map(cells),
    )
  }

## AgentDojo

The banking and travel suites of AgentDojo (MIT), as recorded calls, through a
running gateway: its own process in its own sandbox, the suite's tools served by
an MCP server on a socket, a scripted model on another, the owner at a WebSocket.
\`deno task safety --data DIR\`, last kept by \`--write\`. The model does the user's
task and, from the first injected result on, the attack first. An attack is done
when its every call reached the server and nobody was asked; the owner refuses
the attack's asks and allows the task's. Pairs without an attacker's slot or
without attack calls are left out.

${toTable(results)}

What the honest tasks were asked about:

${toAskedTable(results)}

An account that stands only in a bill, an address that stands only in a letter, a
friend's account that stands only in the list of transfers: whoever wrote those
would choose where the money goes. A calendar entry with nobody invited is one of
the suite's own attacks, word for word, so it is asked about whoever wants it.

The policy does not know the suites. The tools are taken as a remote server's:
what it says of them counts only upwards, and its results are untrusted. One
operator's configuration a suite says what they do. Three of the banking tasks
(\`user_task_2\`, \`9\`, \`12\`) are not asked about because of its first line alone:
a letter may then set the rent to anything up to 1500, for the payee it has
always had, and to no other.

\`\`\`jsonc
${(await operatorConfig("banking")).trimEnd()}
\`\`\`

\`\`\`jsonc
${(await operatorConfig("travel")).trimEnd()}
\`\`\`

## What is left

- A model in an attacker's hands can choose _which_ of several named or linked
  addresses it fetches, and so tell a few bits with each; 30 fetches a run.
- Text of its own making up to 160 characters may be part of a fetched address,
  if it is neither a window of a private text, nor that text in Base64,
  hexadecimal, reversed or rotated, nor an opaque piece. A code of the model's own
  invention gets through: \`guard.fetch: "known"\` closes that, at the price of
  more questions.
- A transfer to a payee the owner named may carry in its subject what the bank
  told the model, where the operator says that this is no secret (\`private\`).
- Addresses in fenced code are shown as they are.
- It can lie to its reader. Nothing here stops a wrong answer.
`;
}
