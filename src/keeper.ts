/**
 * Ends the launcher's programs when the launcher is gone, however it went: a
 * process that cannot be told of its parent's death, as SIGKILL tells nobody,
 * still reads the end of its standard input.
 *
 * Each line it reads is `+PID` for a program's group that was started and `-PID`
 * for one that ended.
 *
 * Never: it signals a process that it was not told of.
 *
 * @module
 */

async function keep(): Promise<void> {
  // What ends the launcher by the terminal must not end this first.
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(name, () => {});
  }
  const groups = new Set<number>();
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of Deno.stdin.readable) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const pid = Number(line.slice(1));
      if (!Number.isSafeInteger(pid) || pid <= 1) continue;
      if (line.startsWith("+")) groups.add(pid);
      else groups.delete(pid);
    }
  }
  for (const pid of groups) {
    try {
      Deno.kill(-pid, "SIGKILL");
    } catch {
      // It ended by itself.
    }
  }
  Deno.exit(0);
}

if (import.meta.main) void keep();
