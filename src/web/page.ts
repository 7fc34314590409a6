/**
 * The files of the page, as the gateway serves them. `app.js` is made of
 * `app/` by `deno task ui`.
 *
 * Never: a file that is not in this list is served.
 *
 * @module
 */
import script from "./app.js" with { type: "text" };
import html from "./index.html" with { type: "text" };
import style from "./style.css" with { type: "text" };

/** One file. */
export interface PageFile {
  readonly mime: string;
  readonly text: string;
}

/** By path. */
export const PAGE: Readonly<Record<string, PageFile>> = {
  "/ui/": { mime: "text/html; charset=utf-8", text: html },
  "/ui/app.js": { mime: "text/javascript; charset=utf-8", text: script },
  "/ui/style.css": { mime: "text/css; charset=utf-8", text: style },
};
