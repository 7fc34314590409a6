/**
 * The program's version; a test compares it with `deno.json`.
 *
 * @module
 */

export const VERSION = "0.1.0";
