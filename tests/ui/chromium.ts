/**
 * Where Chromium is. Without one the tests of the page are ignored, unless
 * `CARAPACE_CHROMIUM` names one that has to be there.
 */
const PLACES = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** The program, if this machine has one. */
export const CHROMIUM: string | undefined = Deno.env.get("CARAPACE_CHROMIUM") ??
  PLACES.find(isThere);
