import assert from "node:assert/strict";
import { resolve } from "node:path";
import { pathsOfVerb } from "./verb_paths.ts";

Deno.test("pathsOfVerb() names what a call's own arguments name, and no more", async (t) => {
  const at = (path: string) => resolve(path);
  const rows: [
    args: string,
    read: string[],
    write: string[],
    hosts: string[],
  ][] = [
    ["", [], [], []],
    ["list", [], [], []],
    ["install plugins/qr --yes", [at("plugins/qr")], [], []],
    ["install --allow-unsigned p --sha256 ab", [at("p")], [], []],
    ["install https://a.test/p.jsonc --sha256 ab", [], [], ["a.test:443"]],
    ["install https://a.test:8443/p", [], [], ["a.test:8443"]],
    ["install http://a.test/p", [], [], []],
    ["sign p --key k", [at("k"), at("p")], [at("p")], []],
    ["sign p --key=k", [at("k"), at("p")], [at("p")], []],
    ["keygen k", [at("k")], [at("k")], []],
    ["new a --dir d", [at("d/a")], [at("d/a")], []],
    ["call qr encode {}", [], [], []],
    ["grant /etc --secret /etc", [], [], []],
    ["remove /etc", [], [], []],
  ];
  for (const [args, read, write, hosts] of rows) {
    await t.step(args, () => {
      const words = args === "" ? [] : args.split(" ");
      assert.deepEqual(pathsOfVerb(words), { read, write, hosts });
    });
  }
});
