/** A real Chromium for tests. */
import { type Browser, chromium } from "playwright-core";
import { root } from "../process/processes.ts";
import { CHROMIUM } from "./chromium.ts";

/** Starts a browser; dispose it. */
export async function openBrowser(): Promise<Browser & AsyncDisposable> {
  if (CHROMIUM === undefined) throw new TypeError("there is no Chromium");
  await Deno.mkdir(`${root}/tests/.tmp`, { recursive: true });
  // Its profile goes where tests may write.
  Deno.env.set("TMPDIR", `${root}/tests/.tmp`);
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: Deno.uid() === 0 ? ["--no-sandbox"] : [],
  });
  return Object.assign(browser, {
    [Symbol.asyncDispose]: () => browser.close(),
  });
}
