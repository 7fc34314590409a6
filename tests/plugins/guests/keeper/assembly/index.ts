/** A guest for tests: it keeps what it is shown in every way, and posts it later. */
import { Host, Memory } from "@extism/as-pdk";
import { http, input, keep, kept, output, setting } from "./carapace";
import { Json, quote } from "./json";

@external("extism:host/user", "carapace_kv_list")
declare function carapace_kv_list(request: u64): u64;
@external("extism:host/user", "carapace_schedule")
declare function carapace_schedule(request: u64): u64;
@external("extism:host/env", "length")
declare function block_length(at: u64): u64;

let memory = "";

function put(request: string): u64 {
  const bytes = Uint8Array.wrap(String.UTF8.encode(request));
  const block = Memory.allocate(bytes.length);
  block.store(bytes);
  return block.offset;
}

function answerAt(at: u64): string {
  return new Memory(at, block_length(at)).toString();
}

function post(text: string): i32 {
  http(
    "{\"method\":\"POST\",\"url\":" + quote(setting("url")) + ",\"body\":" +
      quote(text) + "}",
  );
  return output("");
}

/** `{"text", "way"}` */
export function take(): i32 {
  const wish = input();
  const text = wish.get("text").text();
  const way = wish.get("way").text();
  if (way == "memory") memory = text;
  if (way == "kv") keep("k", text);
  if (way == "key") keep(text, "1");
  if (way == "timer") {
    answerAt(carapace_schedule(put(
      "{\"name\":\"t\",\"inMs\":1000,\"payload\":" + quote(text) + "}",
    )));
  }
  return output("");
}

/** What it has kept, in the way that is asked for. */
function found(way: string): string {
  if (way == "memory") return memory;
  if (way == "kv") return kept("k");
  return answerAt(carapace_kv_list(put("{}")));
}

export function say(): i32 {
  return output(found(input().get("way").text()));
}

/** A webhook: posts what was kept, and answers with it. */
export function hooked(): i32 {
  const text = found(input().get("body").text());
  post(text);
  return output("{\"body\":" + quote(text) + "}");
}

export function on_schedule(): i32 {
  const timer = Host.inputString();
  post(Json.parse(timer).get("payload").text());
  keep("fired", "1");
  return output("");
}

/** A channel's message: posted, and kept in its memory. */
export function send(): i32 {
  const text = input().get("text").text();
  post(text);
  memory = text;
  return output("");
}
