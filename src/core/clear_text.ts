/**
 * Whether what is sent to an address could be read on the way.
 *
 * @module
 */

/** Whether a URL's host name, as the parser writes it, is this very machine. */
export function isLoopbackName(hostname: string): boolean {
  return /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]|localhost)$/.test(hostname);
}

/** Whether a request there goes in clear text over a network. */
export function isClearText(url: URL | string): boolean {
  const { protocol, hostname } = new URL(url);
  return /^(http|ws):$/.test(protocol) && !isLoopbackName(hostname);
}

/** Why a credential does not go there. */
export const CLEAR_TEXT =
  "a credential would travel in clear text: use https, or http on this machine only";
