/** A5: `/mcp` says what a caller needs to know of a failure, and no more. */
import assert from "node:assert/strict";
import { openRealHouse } from "../fakes/real_house.ts";
import { say } from "../fakes/vendor.ts";

Deno.test("A5: what fails inside /mcp is not told in the platform's words", async () => {
  await using house = await openRealHouse({ script: () => say("done") });
  const read = async (uri: string) => {
    const answer = await fetch(`${house.url}/mcp`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${house.owner}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
      },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "resources/read",
        params: { uri },
      }),
    });
    const text = await answer.text();
    return JSON.parse(text.replace(/^[\s\S]*?data: /, "")).error.message;
  };
  const none = await read("carapace://session/agent:main:none");
  assert.match(none, /There is no such session/);
  const long = `carapace://session/agent:main:${"a".repeat(5_000)}`;
  assert.equal(await read(long), none);
});
