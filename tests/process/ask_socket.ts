/** Asks each socket that is named, under whatever flags a test gave. */
import { askLocal } from "../../src/egress/local_socket.ts";

async function main(): Promise<void> {
  for (const socket of Deno.args) {
    try {
      const { status } = await askLocal({
        socket,
        host: "local-tailscaled.sock",
        target: "/localapi/v0/status?peers=false",
        bytesMax: 65_536,
      }, AbortSignal.timeout(5_000));
      console.log(`${status}`);
    } catch (error) {
      console.log(error instanceof Error ? error.name : "?");
    }
  }
}

void main();
