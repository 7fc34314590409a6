/**
 * The page's files: public, and held to a policy of their own. A page runs
 * this gateway's scripts and no other, makes no markup of a text, and talks to
 * nobody else.
 *
 * Never: a path from a request names a file; an inline script or style.
 *
 * @module
 */
import type { Call } from "./call.ts";
import type { Route } from "./routes.ts";

const UI_PATHS = ["/ui/", "/ui/app.js", "/ui/style.css"] as const;

function policy(host: string, isTls: boolean): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    // Older browsers do not count a WebSocket of this host as 'self'.
    `connect-src 'self' ${isTls ? "wss" : "ws"}://${host}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
}

async function serve({ request, path, host }: Call): Promise<Response> {
  // Loaded when the first page is opened.
  const { PAGE } = await import("../web/page.ts");
  const file = PAGE[path];
  if (file === undefined) throw new TypeError(`no file for ${path}`);
  return new Response(file.text, {
    headers: {
      "content-type": file.mime,
      "content-security-policy": policy(host, request.url.startsWith("https:")),
      "cross-origin-opener-policy": "same-origin",
      "permissions-policy":
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
      "x-frame-options": "DENY",
    },
  });
}

export const UI_ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/ui",
    scope: "public",
    about: "To the page",
    handle: () =>
      new Response(null, { status: 308, headers: { location: "/ui/" } }),
  },
  ...UI_PATHS.map((path): Route => ({
    method: "GET",
    path,
    scope: "public",
    about: "A file of the page",
    mime: "text/html",
    handle: serve,
  })),
];
