/**
 * A symbolic link without the whole disk: `Deno.symlink` asks for unscoped read
 * and write, which the tests do not have.
 */
import assert from "node:assert/strict";

export async function symlink(target: string, path: string): Promise<void> {
  const command = new Deno.Command("ln", { args: ["-s", target, path] });
  assert.ok((await command.output()).success, `no link at ${path}`);
}
