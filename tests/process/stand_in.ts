/**
 * Stands in for the program under the launcher: says what it was given, then does
 * what the file `orders` in its state directory says, one word a start.
 */
import { SETTLED_MS } from "../../src/core/exit.ts";
import { watchLifeline } from "../../src/ops/lifeline.ts";

const state = Deno.env.get("CARAPACE_STATE_DIR") ?? "";

function say(line: unknown): void {
  console.log(JSON.stringify(line));
}

async function nextOrder(): Promise<string> {
  const path = `${state}/orders`;
  const [order = "", ...rest] = (await Deno.readTextFile(path)).split(" ");
  await Deno.writeTextFile(path, rest.join(" "));
  return order;
}

async function main(): Promise<void> {
  const order = await nextOrder();
  say({
    args: Deno.args,
    env: Deno.env.toObject(),
    run: (await Deno.permissions.query({ name: "run" })).state,
    net: (await Deno.permissions.query({ name: "net" })).state,
    extra: (await Deno.permissions.query({
      name: "net",
      host: "added.example.com:443",
    })).state,
    pid: Deno.pid,
  });
  if (order === "fetch") {
    const port = await Deno.readTextFile(`${state}/target`);
    const answer = await fetch(`http://127.0.0.1:${port}/`).catch(String);
    say({ fetched: typeof answer === "string" ? answer : await answer.text() });
  }
  if (order === "widen") {
    await Deno.writeTextFile(
      `${state}/carapace.jsonc`,
      `{ "egress": { "hosts": ["added.example.com"] } }`,
      { mode: 0o600 },
    );
    Deno.exit(75);
  }
  if (order === "settled") {
    await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
    Deno.exit(75);
  }
  const code = Number(order);
  if (order !== "" && Number.isInteger(code)) Deno.exit(code);
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(name, () => {
      say({ signal: name });
      if (name !== "SIGHUP") Deno.exit(7);
    });
  }
  watchLifeline(Deno.stdin.readable, () => {
    Deno.writeTextFileSync(`${state}/gone`, "");
    Deno.exit(0);
  });
  say({ ready: true });
}

void main();
