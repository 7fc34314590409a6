import assert from "node:assert/strict";
import { z } from "zod";
import { PUBLIC_OWNER } from "../core/label.ts";
import type { Message } from "../core/message.ts";
import { type Tool, tool } from "../core/tool.ts";
import { runTool } from "../../tests/fakes/tools.ts";
import { offeredTools, TOOLS_SHOWN_MAX, toolSearch } from "./loading.ts";

function named(name: string, about = `does ${name}`): Tool {
  return tool({
    name,
    about,
    input: z.strictObject({}),
    scope: "chat",
    effect: "none",
    result: { integrity: "inherit", secrecy: "inherit" },
    destinations: [],
    run: () => "",
  });
}

function many(count: number): Tool[] {
  return [
    toolSearch,
    ...Array.from({ length: count }, (_, n) => named(`t${n}`)),
  ];
}

function found(...names: string[]): Message {
  return {
    role: "tool",
    parts: [{
      kind: "tool_result",
      callId: "1",
      name: "tool_search",
      text: names.map((name) => `- ${name}: x`).join("\n"),
      isError: false,
      label: PUBLIC_OWNER,
    }],
  };
}

const names = (tools: readonly Tool[]) => tools.map(({ name }) => name);

Deno.test("offeredTools() shows all while they are few, and no search then", () => {
  const shown = offeredTools(many(TOOLS_SHOWN_MAX), []);
  assert.equal(shown.length, TOOLS_SHOWN_MAX);
  assert.ok(!names(shown).includes("tool_search"));
});

Deno.test("offeredTools() shows the first and what was asked for when they are many", () => {
  const tools = many(TOOLS_SHOWN_MAX + 1);
  const first = names(offeredTools(tools, []));
  assert.equal(first[0], "tool_search");
  assert.ok(!first.includes("t20"));
  const then = names(offeredTools(tools, [found("t20", "nonesuch")]));
  assert.deepEqual(then, [...first, "t20"]);
  const all = Array.from({ length: 60 }, (_, n) => `t${n}`);
  const bounded = offeredTools(many(60), [found(...all)]);
  assert.ok(bounded.length <= 1 + 16 + 16);
});

Deno.test("tool_search finds by name and words, and only what may be used", async () => {
  const tools = [
    ...many(30),
    named("github_create_issue", "Open an issue in a repository"),
    named("calendar_list", "Upcoming events"),
  ];
  const search = async (query: string) =>
    (await runTool(toolSearch, { query }, { tools: () => tools })).text;
  assert.match(await search("create an issue"), /^- github_create_issue: /);
  assert.match(await search("events"), /calendar_list/);
  assert.doesNotMatch(await search("events"), /github/);
  assert.match(
    await search("zebra"),
    /^Nothing fits\. There are: .*calendar_list/,
  );
  const narrow = await runTool(toolSearch, { query: "issue" }, {
    tools: () => many(30),
  });
  assert.doesNotMatch(narrow.text, /github/);
});
