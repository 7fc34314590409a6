/**
 * `docs/tools.md`, made from the tools themselves, every one of them built.
 *
 * @module
 */
import type { Tool } from "../../src/core/tool.ts";
import { makeTools, type ToolDeps } from "../../src/tools/all.ts";
import { DEFINITION_LIMITS } from "../../src/tools/mcp/definition.ts";
import { FILE_LIMITS } from "../../src/tools/files/desk.ts";
import { MEMORY_LIMITS } from "../../src/tools/memory_book.ts";
import { SKILL_LIMITS } from "../../src/tools/skills.ts";
import { TOOLS_SHOWN_MAX } from "../../src/tools/loading.ts";
import { markdownTable } from "./markdown.ts";

/** Something with every member, for parts that are only made, never run. */
const anything = (): never =>
  new Proxy(() => anything(), { get: () => anything() }) as never;

function everyTool(): Tool[] {
  const deps: ToolDeps = {
    memory: anything(),
    outputs: { tool: () => outputTool() } as never,
    sessions: anything(),
    config: () => ({}),
    carriers: [{ about: "…", takes: () => false, deliver: anything() }],
    runChild: anything(),
    schedule: anything(),
    askModel: anything(),
    files: anything(),
    skills: anything(),
    web: { fetch: anything(), reach: "public" },
    search: {
      config: { kind: "searxng", url: "http://a.test" },
      fetch: anything(),
    },
  };
  return makeTools(deps);
}

function outputTool(): Tool {
  return {
    name: "output_read",
    about: "Read on in a long tool result, or find words in it",
    scope: "chat",
    effect: "read_private",
    result: { integrity: "inherit", secrecy: "inherit" },
  } as Tool;
}

/** What has to be configured for a tool to be there. */
const WHEN: Readonly<Record<string, string>> = {
  web_fetch: "`egress.hosts` or `egress.open`",
  web_search: "`tools.search`",
  file_read: "`tools.roots` or `tools.untrustedRoots`",
  file_write: "the same",
  file_list: "the same",
  file_search: "the same",
  media_analyze: "the same as for files",
  skill_read: "`tools.skills`",
  tool_search: `more than ${TOOLS_SHOWN_MAX} tools`,
};

function resultText({ result }: Tool): string {
  const whose = result.integrity === "inherit"
    ? "as what was read"
    : result.integrity;
  return result.secrecy === "private" ? `${whose}, private` : whose;
}

function toolTable(): string {
  return markdownTable(
    ["tool", "what it does", "scope", "effect", "its result", "there when"],
    everyTool().map((tool) => [
      `\`${tool.name}\``,
      tool.about.replace(/ Addresses: .*/, ""),
      tool.scope,
      tool.effect,
      resultText(tool),
      WHEN[tool.name] ?? "always",
    ]),
  );
}

/** The whole document. */
export function makeToolsDoc(): Promise<string> {
  return Promise.resolve(`# Tools

What an agent can do. Made from the tools themselves by \`deno task docs\`.

A tool states its _scope_ (what a credential must have), its _effect_ (what a
call does, from \`none\` to \`exec\`) and whose words its _result_ is. Whether a call
happens is not the tool's to say: the guard decides, see [safety.md](safety.md).
A tool that cannot act here is not made, so a model is never shown one that
only pretends.

${toolTable()}

Beside these: \`exec_NAME\` for each named command, \`mcp_SERVER_TOOL\` for the tools of
MCP servers, and the tools of plugins and channels. With more than ${TOOLS_SHOWN_MAX} tools in all, the
later ones are found with \`tool_search\`. Not there yet: tools for the schedule.

## Memory

Each agent has its own memory, each paired sender one of its own with each agent
(a _space_: \`main\`, or \`main~peer:…\`). Everything remembered keeps the label of what
it was made from: what a web page led to is a stranger's word weeks later too. In
a conversation without a stranger's words such memories are only counted, unless
asked for with \`all\`. They cannot be pinned; other memories can (${MEMORY_LIMITS.pinnedMax}, ${MEMORY_LIMITS.pinnedCharsMax}
characters in all), and are then part of every prompt. \`carapace memory\` lists, searches,
exports and deletes.

## Files

A path is absolute and below one of the folders, or relative to the agent's
scratch folder. Every part of it is looked at: links, files with a second name
and devices are refused, and the file that was looked at is the one that is
opened. A write is a new file put in the old one's place; the last one can be
undone for seven days (files up to ${FILE_LIMITS.undoBytesMax} bytes).

What is in \`tools.roots\` is the owner's words. What the gateway wrote there has the
label of what it was made from, also after it was copied; if somebody changed it
since, it is untrusted. What is in \`tools.untrustedRoots\` is untrusted always.

The words of PDF, Word, Excel, PowerPoint and OpenDocument files are read; macros,
links and entities are not.

## The web

\`web_fetch\` asks for https first, sends no credential, and reaches what egress lets
out. Its result is untrusted, with the address as origin. \`web_search\` asks a SearXNG
of your own, Brave or Tavily:

\`\`\`jsonc
{ "tools": { "search": { "kind": "brave", "apiKey": "\${secret:BRAVE}" } } }
\`\`\`

## Commands

Off unless \`tools.exec.commands\` names some. A command is a program and an argv
template with typed parameters; there is no shell, and shells and wrappers are
refused as programs. **A command is not sandboxed**: it can do what you can do. It
ends with its call, and with the launcher, even when that is killed.

\`\`\`jsonc
{
  "tools": {
    "roots": ["/srv/notes"],
    "exec": {
      "commands": {
        "notes_log": {
          "about": "The last changes to the notes",
          "run": "/usr/bin/git",
          "args": ["log", "--oneline", "-n{count}", "--", "{path}"],
          "params": {
            "count": { "type": "int", "min": 1, "max": 50 },
            "path": { "type": "path", "below": "/srv/notes", "optional": true }
          },
          "cwd": "/srv/notes",
          "env": { "LANG": "C.UTF-8", "HOME": "/nonexistent" }
        }
      }
    }
  }
}
\`\`\`

The launcher runs it, not the service, and checks each call against its own copy of
the template. A parameter is an \`int\`, a \`choice\`, a \`text\` or a \`path\` below a root. No
value becomes an option: one that begins with \`-\` at the start of an argument is
refused, unless a literal \`--\` stands before. The environment is what \`env\` says and
nothing else. A program that is another file than at the start is refused until a
restart. What runs too long or says too much is ended, with everything it started.

Limits of this: a path is looked at before the program opens it, not while; a program
that runs other programs by its own configuration files does so. Name programs, not
interpreters, and give them folders nobody else writes to.

## MCP servers

\`\`\`jsonc
{
  "mcp": {
    "servers": {
      "calendar": {
        "url": "https://mcp.example.com/mcp",
        "token": "\${secret:CALENDAR}",
        "tools": ["list_events"],
        "effects": { "list_events": "read_private" }
      },
      "files": {
        "command": "/usr/bin/node",
        "args": ["/opt/mcp/server-filesystem.js", "/srv/notes"],
        "cwd": "/srv/notes"
      }
    }
  }
}
\`\`\`

By address through egress, or as a program that the launcher starts (not sandboxed
either; no \`PATH\`, so its whole path is written). What a server says of its tools is
pinned by hash when it is first seen. A tool that changes, and one that is new later,
is not shown until \`carapace mcp accept SERVER TOOL\`. A server's hints can only raise what
a call is taken to do (\`write\`, or \`outbound\` for one that only reads); \`effects\` is the
owner's last word, \`destinations\` names the arguments that are places. Results are
untrusted unless \`trusted\`, private unless \`private\` is false. At most ${DEFINITION_LIMITS.toolsMax} tools a
server, schemas up to ${DEFINITION_LIMITS.schemaCharsMax} characters. A server that asks for a
login has \`oauth\` instead of \`token\`, at least as \`{}\`: its authorization server is found
by its metadata, and its host, where that is another, is named in \`oauth.hosts\`. The owner
logs in with \`carapace mcp login SERVER\` (\`--paste\` where the browser is on another
machine); the browser is sent back to loopback, port 18797 or \`oauth.redirectPort\`. A
client is registered there, or \`oauth.clientId\` and \`oauth.clientSecret\` name one. Tokens are
sealed in the store, renewed by themselves, sent to the server's own address only;
\`carapace mcp logout SERVER\` revokes and forgets them.

## Skills

\`tools.skills\` names folders of skills, each a folder with a \`SKILL.md\`. Known by name and
description, read with \`skill_read\`. A skill below one of \`tools.roots\` is the owner's words and is
named in the prompt; any other is a stranger's, and is found only when asked for.
Install steps are never run; at most ${SKILL_LIMITS.skillsMax} skills.
`);
}
