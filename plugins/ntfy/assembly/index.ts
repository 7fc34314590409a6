/** `ntfy`: messages out to a topic of ntfy, and in from another. */
import { emit, fail, forget, http, input, keep, kept, output, setting } from "./carapace";
import { Json, quote } from "./json";

/** What we sent ourselves carries this tag, so that it does not come back. */
const TAG = "carapace";
const SEEN = "since";

function server(): string {
  const own = setting("server");
  return own == "" ? "https://ntfy.sh" : own;
}

/** Topics are letters, digits, _ and -, so that none of them is a path. */
function isTopic(topic: string): bool {
  if (topic == "" || topic.length > 64) return false;
  for (let n = 0; n < topic.length; n++) {
    const c = topic.charCodeAt(n);
    const fits = (c >= 0x30 && c <= 0x39) || (c >= 0x41 && c <= 0x5a) ||
      (c >= 0x61 && c <= 0x7a) || c == 0x5f || c == 0x2d;
    if (!fits) return false;
  }
  return true;
}

/** One message out. */
export function send(): i32 {
  const message = input();
  const to = message.get("to").text();
  const topic = to == "" || to == setting("inbox") ? setting("topic") : to;
  if (!isTopic(topic)) return fail("no topic is set: carapace plugin grant ntfy --set topic=NAME");
  const answer = http(
    "{\"url\":" + quote(server() + "/" + topic) +
      ",\"method\":\"POST\",\"headers\":{\"tags\":\"" + TAG + "\"},\"body\":" +
      quote(message.get("text").text()) + "}",
  );
  if (!answer.get("ok").truth()) return fail(answer.get("error").text());
  const status = i32(answer.get("status").num());
  if (status >= 300) return fail("ntfy answered " + status.toString());
  return output("");
}

/** What came in since the last time. */
export function poll(): i32 {
  const inbox = setting("inbox");
  if (inbox == "") return output("");
  if (!isTopic(inbox)) return fail("the inbox is no topic");
  let since = kept(SEEN);
  const answer = http(
    "{\"url\":" +
      quote(server() + "/" + inbox + "/json?poll=1&since=" + (since == "" ? "30s" : since)) +
      "}",
  );
  if (!answer.get("ok").truth()) return fail(answer.get("error").text());
  const status = i32(answer.get("status").num());
  // The server forgot the message we asked from: begin anew.
  if (status == 400) forget(SEEN);
  if (status >= 300) return fail("ntfy answered " + status.toString());
  const lines = answer.get("body").text().split("\n");
  for (let n = 0; n < lines.length; n++) {
    const message = Json.parse(lines[n]);
    if (message.get("event").text() != "message") continue;
    since = message.get("id").text();
    if (!isOurs(message)) take(inbox, message);
  }
  if (since != "") keep(SEEN, since);
  return output("");
}

function isOurs(message: Json): bool {
  const tags = message.get("tags");
  for (let n = 0; n < tags.items.length; n++) {
    if (tags.items[n].text() == TAG) return true;
  }
  return false;
}

/** Whoever may write to the topic is one sender: ntfy does not say who it was. */
function take(inbox: string, message: Json): void {
  const text = message.get("message").text();
  if (text == "") return;
  emit(
    "{\"id\":" + quote(message.get("id").text()) + ",\"sender\":{\"id\":" + quote(inbox) +
      "},\"chat\":{\"id\":" + quote(inbox) + "},\"text\":" + quote(text) + "}",
  );
}
