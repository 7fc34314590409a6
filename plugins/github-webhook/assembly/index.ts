/** `github-webhook`: what happens in a repository, as a line to the owner. */
import { fail, input, message, output } from "./carapace";
import { Json } from "./json";

const TITLE_CHARS_MAX = 200;
const COMMITS_MAX = 5;

export function github(): i32 {
  const request = input();
  const kind = request.get("headers").get("x-github-event").text();
  const event = Json.parse(request.get("body").text());
  if (!event.is) return output("{\"status\":400,\"body\":\"not JSON\"}");
  const line = describe(kind, event);
  if (line == "") return output("{\"body\":\"ignored\"}");
  const told = message("owner", line);
  if (!told.get("ok").truth()) return fail(told.get("error").text());
  return output("{\"body\":\"told\"}");
}

function describe(kind: string, event: Json): string {
  const repo = event.get("repository").get("full_name").text();
  const action = event.get("action").text();
  const who = event.get("sender").get("login").text();
  if (kind == "ping") return repo + ": the webhook works";
  if (kind == "push") return push(repo, event);
  if (kind == "issues") return subject(repo, who, action, "issue", event.get("issue"));
  if (kind == "pull_request") {
    const request = event.get("pull_request");
    const isMerged = action == "closed" && request.get("merged").truth();
    return subject(repo, who, isMerged ? "merged" : action, "pull request", request);
  }
  if (kind == "issue_comment" && action == "created") {
    return subject(repo, who, "commented on", "", event.get("issue"));
  }
  if (kind == "release" && action == "published") {
    const release = event.get("release");
    return repo + ": " + who + " released " + short(release.get("tag_name").text()) +
      "\n" + release.get("html_url").text();
  }
  if (kind == "workflow_run" && action == "completed") {
    const run = event.get("workflow_run");
    const outcome = run.get("conclusion").text();
    if (outcome == "success") return "";
    return repo + ": " + short(run.get("name").text()) + " ended with " + outcome +
      " on " + short(run.get("head_branch").text()) + "\n" + run.get("html_url").text();
  }
  return "";
}

function push(repo: string, event: Json): string {
  const commits = event.get("commits").items;
  if (commits.length == 0) return "";
  const branch = event.get("ref").text().replace("refs/heads/", "");
  let text = repo + ": " + event.get("pusher").get("name").text() + " pushed " +
    commits.length.toString() + (commits.length == 1 ? " commit to " : " commits to ") +
    short(branch);
  for (let n = 0; n < min(commits.length, COMMITS_MAX); n++) {
    text += "\n- " + short(commits[n].get("message").text());
  }
  if (commits.length > COMMITS_MAX) {
    text += "\n- and " + (commits.length - COMMITS_MAX).toString() + " more";
  }
  return text;
}

function subject(repo: string, who: string, action: string, what: string, thing: Json): string {
  if (!thing.is || action == "") return "";
  const name = what == "" ? "" : what + " ";
  return repo + ": " + who + " " + action + " " + name + "#" +
    i32(thing.get("number").num()).toString() + " " + short(thing.get("title").text()) +
    "\n" + thing.get("html_url").text();
}

/** The first line, cut. */
function short(text: string): string {
  const end = text.indexOf("\n");
  const line = end < 0 ? text : text.substring(0, end);
  return line.length > TITLE_CHARS_MAX ? line.substring(0, TITLE_CHARS_MAX) + "…" : line;
}
