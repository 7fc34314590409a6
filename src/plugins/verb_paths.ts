/**
 * Which paths and hosts a call of `carapace plugin` works on. The planner grants
 * them to that one process, because its caller named them.
 *
 * @module
 */
import { resolve } from "node:path";

/** What one call of the verb may touch beside the state directory. */
export interface VerbPaths {
  read: string[];
  write: string[];
  hosts: string[];
}

/** Options whose value is a file that is read. */
const FILE_OPTIONS = ["--key"];
/** Options with any other value. */
const VALUE_OPTIONS = [
  "--sha256",
  "--kind",
  "--dir",
  "--secret",
  "--set",
  "--sender",
  "--limit",
  "--publisher",
];

/** The paths of a call's arguments. Nothing is looked at: they are only named. */
export function pathsOfVerb(args: readonly string[]): VerbPaths {
  const paths: VerbPaths = { read: [], write: [], hosts: [] };
  const [form, ...rest] = args;
  const words: string[] = [];
  let dir: string | undefined;
  for (let n = 0; n < rest.length; n++) {
    const [name = "", inline] = (rest[n] ?? "").split(/=(.*)/s);
    if (!name.startsWith("--")) {
      words.push(rest[n] ?? "");
      continue;
    }
    const hasValue = FILE_OPTIONS.includes(name) ||
      VALUE_OPTIONS.includes(name);
    const value = inline ?? (hasValue ? rest[++n] : undefined);
    if (value === undefined) continue;
    if (FILE_OPTIONS.includes(name)) paths.read.push(resolve(value));
    if (name === "--dir") dir = value;
  }
  const [first] = words;
  switch (form) {
    case "install":
    case "update":
    case "verify":
      addSource(paths, first);
      break;
    case "sign":
      if (first !== undefined) addBoth(paths, resolve(first));
      break;
    case "keygen":
      if (first !== undefined) addBoth(paths, resolve(first));
      break;
    case "new":
      if (first !== undefined) addBoth(paths, resolve(dir ?? ".", first));
      break;
  }
  return paths;
}

function addBoth(paths: VerbPaths, path: string): void {
  paths.read.push(path);
  paths.write.push(path);
}

function addSource(paths: VerbPaths, source: string | undefined): void {
  if (source === undefined) return;
  if (!/^https?:\/\//i.test(source)) {
    paths.read.push(resolve(source));
    return;
  }
  const url = URL.parse(source);
  if (url === null || url.protocol !== "https:") return;
  paths.hosts.push(`${url.hostname}:${url.port || "443"}`);
}
