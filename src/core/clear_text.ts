/**
 * Whether what is sent to an address could be read on the way.
 *
 * @module
 */

/** Whether a URL's host name, as the parser writes it, is this very machine. */
export function isLoopbackName(hostname: string): boolean {
  return /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\]|localhost)$/.test(hostname);
}

/**
 * Whether a request there goes in clear text over a network. What is no URL goes
 * nowhere: schemas ask this also of a text that they refuse for that.
 */
export function isClearText(url: URL | string): boolean {
  const parsed = URL.parse(url);
  return parsed !== null && /^(http|ws):$/.test(parsed.protocol) &&
    !isLoopbackName(parsed.hostname);
}

/** Why a credential does not go there. */
export const CLEAR_TEXT =
  "a credential would travel in clear text: use https, or http on this machine only";
