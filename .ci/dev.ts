/**
 * Runs `deno task start` and starts it again at every change of the source, for
 * who works on it. The sandbox is the same: what works here works there.
 */
const WATCHED = ["main.ts", "src", "deno.json"];

/** Editors write a file in several steps; this waits for the last one. */
const SETTLE_MS = 150;

function start(): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), { args: ["task", "-q", "start"] })
    .spawn();
}

/** Resolves a moment after the next change. */
async function nextChange(): Promise<void> {
  using watcher = Deno.watchFs(WATCHED);
  for await (const { kind, paths } of watcher) {
    const isSource = paths.some((path) => !/_test\.tsx?$|~$|\.sw.$/.test(path));
    if (kind === "access" || !isSource) continue;
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    return;
  }
}

async function main(): Promise<void> {
  let child = start();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(name, async () => {
      try {
        child.kill(name);
      } catch {
        Deno.exit(0); // it has ended: nothing to wait for
      }
      Deno.exit((await child.status).code);
    });
  }
  while (true) {
    // Ends with a signal.
    await nextChange();
    console.error("dev: the source changed");
    try {
      child.kill("SIGTERM");
    } catch {
      // it had ended by itself, perhaps because of what is being repaired
    }
    await child.status;
    child = start();
  }
}

void main();
