/**
 * A tailscaled in a process of its own: `SOCKET NODES`, where NODES is JSON of
 * what it says of which address. Prints what it is asked.
 */
import { type FakeNode, serveTailscaled } from "../fakes/tailscaled.ts";

function main(): void {
  const [socket = "", nodes = "{}"] = Deno.args;
  const fake = serveTailscaled(socket);
  // A test's other end is this machine too, and is to count as another.
  fake.own = [];
  for (const [address, node] of Object.entries(JSON.parse(nodes))) {
    fake.nodes.set(address, node as FakeNode);
  }
  fake.asked.push = (...asked: string[]) => {
    for (const one of asked) console.log(`asked ${one}`);
    return 0;
  };
  console.log("up");
}

main();
