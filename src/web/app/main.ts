/// <reference lib="dom" />
/**
 * The page's beginning: takes the invitation out of the address, connects with
 * this browser's key, and shows the conversation or how to be let in.
 *
 * @module
 */
import { Chat } from "./chat.ts";
import { type DeviceKey, loadKey } from "./key.ts";
import { GatewayError, GatewaySocket } from "./socket.ts";
import { el, showState } from "./view.ts";

/** The code in the fragment, which no server is sent; gone from the address. */
function takeCode(): string | undefined {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (location.hash !== "") {
    history.replaceState(null, "", location.pathname);
  }
  return code ?? undefined;
}

/** What the gateway says of a key that is only unknown. */
const NOT_PAIRED = "This device is not paired";

function welcome(main: HTMLElement, key: DeviceKey, why: string): void {
  main.replaceChildren(
    el(
      "div",
      { class: "welcome" },
      el("h2", {}, "This browser is not paired"),
      ...(why === NOT_PAIRED ? [] : [el("p", {}, why)]),
      el("p", {}, "Make a link on the gateway's machine and open it here:"),
      el("p", {}, el("code", {}, "carapace ui")),
      el(
        "p",
        {},
        "or approve this browser's key with ",
        el("code", {}, "carapace device list"),
        ": it begins with ",
        el("code", {}, key.id.slice(0, 8)),
      ),
    ),
  );
}

async function start(main: HTMLElement): Promise<void> {
  const code = takeCode();
  const key = await loadKey();
  let chat: Chat | undefined;
  const socket = new GatewaySocket(key, code, {
    onOpen: () => {
      showState("connected");
      chat ??= new Chat(main);
      chat.open(socket).catch((error) => showState(error.message, true));
    },
    onEvent: (event, payload) => chat?.onEvent(event, payload),
    onClosed: (error) => {
      const refused = error instanceof GatewayError;
      showState(refused ? "not paired" : "not connected; trying again", true);
      if (refused && chat === undefined) welcome(main, key, error.message);
    },
  });
}

const main = document.querySelector<HTMLElement>("main");
if (main !== null) {
  start(main).catch((error) => showState(String(error.message ?? error), true));
}
