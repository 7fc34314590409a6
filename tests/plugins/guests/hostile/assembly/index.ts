/** A guest that means harm: each export is one way. */
import { Memory } from "@extism/as-pdk";
import { log, output } from "./carapace";

@external("extism:host/user", "carapace_kv_get")
declare function carapace_kv_get(request: u64): u64;
@external("extism:host/env", "output_set")
declare function output_set(at: u64, length: u64): void;

/** Burns for ever. */
export function spin(): i32 {
  let n: u64 = 1;
  while (n != 0) n = n * 6364136223846793005 + 1442695040888963407;
  return 0;
}

/** Takes all the memory there is, and then asks on. */
export function grow(): i32 {
  while (true) memory.grow(16);
  return 0;
}

export function fill(): i32 {
  memory.grow(512);
  while (true) memory.fill(0, 1, 512 * 65536);
  return 0;
}

function deeper(n: i32): i32 {
  return n == -1 ? 0 : deeper(n + 1) + n;
}

export function recurse(): i32 {
  return deeper(1);
}

/** Blocks of the host's own memory. */
export function hoard(): i32 {
  while (true) Memory.allocate(1 << 20);
  return 0;
}

export function output_flood(): i32 {
  const block = Memory.allocate(8 << 20);
  output_set(block.offset, block.length);
  return 0;
}

export function log_flood(): i32 {
  const line = "x".repeat(1000);
  for (let n = 0; n < 100000; n++) log(line);
  return output("done");
}

export function host_flood(): i32 {
  const block = Memory.allocateString("{\"key\":\"a\"}");
  while (true) carapace_kv_get(block.offset);
  return 0;
}

/** JSON that is nested deep, and JSON of many values. */
export function bomb_deep(): i32 {
  return ask("[".repeat(100000));
}

export function bomb_wide(): i32 {
  return ask("[" + "0,".repeat(50000) + "0]");
}

export function bomb_large(): i32 {
  return ask("{\"key\":\"" + "a".repeat(400000) + "\"}");
}

export function not_utf8(): i32 {
  const block = Memory.allocate(4);
  const bytes = new Uint8Array(4);
  bytes.fill(0xff);
  block.store(bytes);
  output_set(block.offset, block.length);
  return 0;
}

function ask(text: string): i32 {
  const bytes = Uint8Array.wrap(String.UTF8.encode(text));
  const block = Memory.allocate(bytes.length);
  block.store(bytes);
  const at = carapace_kv_get(block.offset);
  return output(new Memory(at, block_length(at)).toString());
}

@external("extism:host/env", "length")
declare function block_length(at: u64): u64;
