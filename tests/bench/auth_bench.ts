/** What a check of a known token costs: `deno bench -A tests/bench/auth_bench.ts`. */
import { quietDoor } from "../fakes/auth.ts";
import { Authenticator } from "../../src/auth/authenticate.ts";
import { Tokens } from "../../src/auth/tokens.ts";
import { silentLog } from "../../src/core/log.ts";
import { systemClock } from "../../src/core/time.ts";
import { openStore } from "../../src/store/store.ts";

async function makeDoor() {
  const clock = systemClock;
  const store = await openStore({ dir: ":memory:", clock, log: silentLog });
  const tokens = new Tokens({ store, clock, log: silentLog });
  const { token } = await tokens.create({ name: "bench", scopes: ["read"] });
  return {
    door: new Authenticator({ tokens, clock, ...quietDoor(clock) }),
    token,
  };
}

let made: ReturnType<typeof makeDoor> | undefined;
const HERE = { address: "127.0.0.1" };

Deno.bench("a known token", async () => {
  const { door, token } = await (made ??= makeDoor());
  await door.authenticate({ token }, HERE);
});
