/** A guest for tests: it does what its input says, and answers what came of it. */
import { Host, Memory } from "@extism/as-pdk";
import { fail, input, keep, kept, log, output, setting } from "./carapace";
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

function call(name: string, at: u64): u64 {
  if (name == "http") return carapace_http(at);
  if (name == "kv_get") return carapace_kv_get(at);
  if (name == "kv_set") return carapace_kv_set(at);
  if (name == "kv_delete") return carapace_kv_delete(at);
  if (name == "kv_list") return carapace_kv_list(at);
  if (name == "message") return carapace_message(at);
  if (name == "schedule") return carapace_schedule(at);
  return carapace_emit(at);
}

function ask(name: string, request: string): string {
  const bytes = Uint8Array.wrap(String.UTF8.encode(request));
  const block = Memory.allocate(bytes.length);
  block.store(bytes);
  const at = call(name, block.offset);
  return new Memory(at, block_length(at)).toString();
}

export function echo(): i32 {
  return output(Host.inputString());
}

/** Asks the host: `{"fn": "http", "request": "…"}`. */
export function host(): i32 {
  const wish = input();
  return output(ask(wish.get("fn").text(), wish.get("request").text()));
}

export function say(): i32 {
  const wish = input();
  if (wish.get("log").is) log(wish.get("log").text());
  if (wish.get("fail").is) return fail(wish.get("fail").text());
  if (wish.get("trap").is) unreachable();
  return output(setting(wish.get("setting").text()));
}

/** What a webhook was given, and what it answers. */
export function hooked(): i32 {
  const request = Host.inputString();
  keep("webhook", request);
  const body = Json.parse(request).get("body").text();
  const times = kept("times") + "x";
  keep("times", times);
  if (body == "trap") unreachable();
  return output(
    "{\"status\":202,\"headers\":{\"x-probe\":\"yes\",\"set-cookie\":\"a=b\",\"content-type\":\"text/html\"},\"body\":" +
      quote("took " + times) + "}",
  );
}

/** Does what its setting says: note, text, args, cancel, trap; `+` adds to a text. */
export function hook(): i32 {
  const event = Host.inputString();
  keep("hook", event);
  keep("at:" + Json.parse(event).get("point").text(), event);
  const how = setting("hook");
  if (how.startsWith("+")) {
    const text = Json.parse(event).get("text").text();
    return output("{\"text\":" + quote(text + how.slice(1)) + "}");
  }
  if (how == "trap") unreachable();
  if (how == "http") {
    const url = setting("url");
    return output(
      "{\"note\":" +
        quote(ask("http", "{\"url\":" + quote(url) + "}")) + "}",
    );
  }
  return output(how);
}

export function send(): i32 {
  const message = Host.inputString();
  if (Json.parse(message).get("text").text() == "refuse") {
    return fail("the network is down");
  }
  keep("sent", message);
  keep("sent:" + Json.parse(message).get("key").text(), message);
  return output("");
}

export function on_schedule(): i32 {
  keep("timer", Host.inputString());
  return output("");
}
