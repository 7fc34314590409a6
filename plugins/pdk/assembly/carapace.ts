/**
 * What a Carapace plugin in AssemblyScript needs: its input and output, and the
 * functions of the host. Each request and answer is JSON.
 *
 * `@extism/as-pdk` moves the bytes; only what is used is imported, so a module
 * asks for nothing it does not call.
 */
import { Config, Host, Memory } from "@extism/as-pdk";
import { Json, quote } from "./json";

@external("extism:host/user", "carapace_http")
declare function carapace_http(request: u64): u64;
@external("extism:host/user", "carapace_kv_get")
declare function carapace_kv_get(request: u64): u64;
@external("extism:host/user", "carapace_kv_set")
declare function carapace_kv_set(request: u64): u64;
@external("extism:host/user", "carapace_kv_delete")
declare function carapace_kv_delete(request: u64): u64;
@external("extism:host/user", "carapace_kv_list")
declare function carapace_kv_list(request: u64): u64;
@external("extism:host/user", "carapace_message")
declare function carapace_message(request: u64): u64;
@external("extism:host/user", "carapace_schedule")
declare function carapace_schedule(request: u64): u64;
@external("extism:host/user", "carapace_emit")
declare function carapace_emit(request: u64): u64;
@external("extism:host/env", "length")
declare function block_length(at: u64): u64;
@external("extism:host/env", "error_set")
declare function error_set(at: u64): void;
@external("extism:host/env", "log_info")
declare function log_info(at: u64): void;

function put(text: string): Memory {
  const bytes = Uint8Array.wrap(String.UTF8.encode(text));
  const block = Memory.allocate(bytes.length);
  block.store(bytes);
  return block;
}

function take(at: u64): Json {
  return Json.parse(new Memory(at, block_length(at)).toString());
}

/** What the plugin was called with. */
export function input(): Json {
  return Json.parse(Host.inputString());
}

/** What the call answers. */
export function output(text: string): i32 {
  Host.outputMemory(put(text));
  return 0;
}

/** The call fails, and says why. */
export function fail(why: string): i32 {
  error_set(put(why).offset);
  return 1;
}

/** A setting of the owner's, or nothing. Needs `wants.config`. */
export function setting(name: string): string {
  const value = Config.get(name);
  return value === null ? "" : value;
}

/** A line in the plugin's log. Needs `wants.log`. */
export function log(text: string): void {
  log_info(put(text).offset);
}

/** Sends a request. Needs `wants.http`; answers `{ok, status, headers, body}`. */
export function http(request: string): Json {
  return take(carapace_http(put(request).offset));
}

/** What was kept under a key, or nothing. Needs `wants.kv`. */
export function kept(key: string): string {
  const request = "{\"key\":" + quote(key) + "}";
  return take(carapace_kv_get(put(request).offset)).get("value").text();
}

/** Keeps a value; whether it could. Needs `wants.kv`. */
export function keep(key: string, value: string): bool {
  const request = "{\"key\":" + quote(key) + ",\"value\":" + quote(value) + "}";
  return take(carapace_kv_set(put(request).offset)).get("ok").truth();
}

/** Forgets a key. Needs `wants.kv`. */
export function forget(key: string): void {
  take(carapace_kv_delete(put("{\"key\":" + quote(key) + "}").offset));
}

/** The keys that begin so. Needs `wants.kv`. */
export function keys(prefix: string): Json {
  const request = "{\"prefix\":" + quote(prefix) + "}";
  return take(carapace_kv_list(put(request).offset)).get("keys");
}

/** Writes to "owner", "reply" or a channel. Needs `wants.message`. */
export function message(to: string, text: string): Json {
  const request = "{\"to\":" + quote(to) + ",\"text\":" + quote(text) + "}";
  return take(carapace_message(put(request).offset));
}

/** Asks to be called later. Needs `wants.schedule`. */
export function schedule(name: string, inMs: i64, payload: string): Json {
  const request = "{\"name\":" + quote(name) + ",\"inMs\":" + inMs.toString() +
    ",\"payload\":" + quote(payload) + "}";
  return take(carapace_schedule(put(request).offset));
}

/** Hands a message from the plugin's network to the host. For channels. */
export function emit(event: string): Json {
  return take(carapace_emit(put(event).offset));
}
