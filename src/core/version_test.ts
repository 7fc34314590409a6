import assert from "node:assert/strict";
import { VERSION } from "./version.ts";

Deno.test("VERSION is deno.json's", async () => {
  const url = new URL("../../deno.json", import.meta.url);
  assert.equal(VERSION, JSON.parse(await Deno.readTextFile(url)).version);
});
