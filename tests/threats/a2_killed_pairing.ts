/**
 * Pairs, redeems and rotates until it is killed, saying each thing once it was
 * told that it is done. Run by the test beside it, with the state directory.
 */
import { type Identity, openIdentity } from "../../src/auth/open.ts";
import { principalOf } from "../../src/auth/principal.ts";
import { Tokens } from "../../src/auth/tokens.ts";
import { silentLog } from "../../src/core/log.ts";
import { systemClock as clock } from "../../src/core/time.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { makeDevice } from "../fakes/device.ts";
import { CLIENT } from "../fakes/gateway_house.ts";

const PARAMS = { minProtocol: 3, maxProtocol: 4, client: CLIENT };

/** Opens the room over a state directory. */
export async function openKept(
  dir: string,
): Promise<{ store: Store; tokens: Tokens; identity: Identity }> {
  const log = silentLog;
  const store = await openStore({ dir, clock, log });
  const tokens = new Tokens({ store, clock, log });
  const identity = openIdentity({
    store,
    tokens,
    clock,
    log,
    isAdmitted: () => Promise.resolve(false),
    plugins: () => [],
    onPairing: () => {},
  });
  return { store, tokens, identity };
}

async function main(dir: string): Promise<void> {
  const { tokens, identity } = await openKept(dir);
  const { pairing, devices } = identity;
  const say = (line: Record<string, unknown>) =>
    console.log(JSON.stringify(line));
  const made = await tokens.create({
    name: "o",
    scopes: ["admin"],
    kind: "owner",
  });
  const { authority } = principalOf(made.row);
  say({ did: "owner", text: made.token });
  for (let n = 0; n < 20; n++) {
    const { id, publicKey } = makeDevice();
    const one = { id, publicKey };
    const { code } = await pairing.invite(authority, {});
    say({ did: "invite", code, ...one });
    await pairing.redeem(code, one, PARAMS);
    say({ did: "redeem", code, ...one });
    const other = makeDevice();
    const asked = await pairing.request(
      { id: other.id, publicKey: other.publicKey },
      { params: PARAMS, address: `10.0.0.${n}` },
    );
    say({ did: "ask", requestId: asked?.requestId, id: other.id });
    await pairing.approve(authority, { requestId: asked?.requestId ?? "" });
    say({ did: "approve", id: other.id });
    const text = await devices.rotate({ id, role: "operator" }, authority);
    say({ did: "rotate", id, text: text.token });
    const next = await tokens.rotate("o", authority);
    say({ did: "rotate_token", text: next.token });
    await identity.authenticator.find(next.token);
    say({ did: "use_token", text: next.token });
  }
}

if (import.meta.main) main(Deno.args[0] ?? "");
