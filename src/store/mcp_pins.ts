/**
 * The definitions of MCP servers' tools as the owner accepted them: what a
 * server says now is compared with this before a model is shown it.
 *
 * @module
 */
import { z } from "zod";
import type { Row } from "./journal.ts";
import { makeKey } from "./keys.ts";
import type { Values } from "./values.ts";

/** One accepted definition, and one that waits to be accepted. */
export const McpPin = z.strictObject({
  server: z.string().min(1).max(64),
  tool: z.string().min(1).max(128),
  /** SHA-256 of the canonical definition that may be used, if one may. */
  hash: z.string().regex(/^[0-9a-f]{64}$/).optional(),
  pinnedAt: z.int(),
  /** What the server says since, until the owner accepts it. */
  changed: z.strictObject({
    hash: z.string().regex(/^[0-9a-f]{64}$/),
    at: z.int(),
  }).optional(),
});
export type McpPin = z.infer<typeof McpPin>;

/** The `mcp_pin` collection. */
export class McpPins {
  readonly #values: Values;

  constructor(values: Values) {
    this.#values = values;
  }

  async find(server: string, tool: string): Promise<McpPin | undefined> {
    return await this.#values.find(makeKey("mcp_pin", server, tool), McpPin);
  }

  /** Every pin of a server, or of all. */
  async list(server?: string): Promise<McpPin[]> {
    const prefix = server === undefined
      ? makeKey("mcp_pin")
      : makeKey("mcp_pin", server);
    const pins: McpPin[] = [];
    for await (const { value } of this.#values.list({ prefix }, McpPin)) {
      pins.push(value);
    }
    return pins;
  }

  /** The row that stores a pin. */
  rows(pin: McpPin): Row[] {
    const value = McpPin.parse(pin);
    return [{ key: makeKey("mcp_pin", value.server, value.tool), value }];
  }

  /** The row that forgets one. */
  deletion(server: string, tool: string): Row[] {
    return [{ key: makeKey("mcp_pin", server, tool), value: undefined }];
  }
}
