/**
 * A wire that can be cut: it stands between a client and a fake vendor and ends
 * the connection, hard, at a place in the answer.
 */

/** Where the answer is cut: at its first byte, behind its headers, or so many bytes behind a text. */
export type Cut = "before_headers" | "after_headers" | {
  behind: string;
  bytes: number;
};

/** A running wire. */
export interface CuttingWire extends AsyncDisposable {
  /** The fake's address, by this wire. */
  readonly url: string;
  /** How often it was cut. */
  readonly cuts: number;
}

/** Where in what came so far the cut is; `undefined` when it is not there yet. */
function findCut(seen: string, cut: Cut): number | undefined {
  if (cut === "before_headers") return 0;
  const head = seen.indexOf("\r\n\r\n");
  if (head < 0) return undefined;
  if (cut === "after_headers") return head + 4;
  const at = seen.indexOf(cut.behind, head);
  const end = at + cut.behind.length + cut.bytes;
  return at < 0 || seen.length < end ? undefined : end;
}

/** Opens a wire to a fake; the first `times` answers are cut. */
export function cuttingWire(
  to: string,
  cut: Cut,
  times = 1,
): CuttingWire {
  const target = new URL(to);
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.Conn>();
  const running = new Set<Promise<void>>();
  let cuts = 0;
  const end = (...conns: Deno.Conn[]) => {
    for (const conn of conns) if (open.delete(conn)) conn.close();
  };
  const pump = async (
    from: Deno.Conn,
    into: Deno.Conn,
    cutAt?: (seen: string) => number | undefined,
  ) => {
    const bytes = new Uint8Array(65_536);
    let seen = "";
    try {
      while (true) { // ends with either side
        const count = await from.read(bytes);
        if (count === null) break;
        const sent = seen.length;
        // One letter a byte, so that places in both are the same.
        seen += String.fromCharCode(...bytes.subarray(0, count));
        const at = cuts < times ? cutAt?.(seen) : undefined;
        const until = at === undefined ? count : Math.max(at - sent, 0);
        await writeAll(into, bytes.subarray(0, until));
        if (at !== undefined) {
          cuts++;
          break;
        }
      }
    } catch {
      // The other side ended first.
    }
    end(from, into);
  };
  const serve = async () => {
    for await (const client of listener) {
      open.add(client);
      const port = Number(target.port);
      const vendor = await Deno.connect({ hostname: "127.0.0.1", port });
      open.add(vendor);
      for (
        const one of [
          pump(client, vendor),
          pump(vendor, client, (seen) => findCut(seen, cut)),
        ]
      ) {
        running.add(one);
        one.finally(() => running.delete(one));
      }
    }
  };
  const serving = serve().catch(() => {
    // The listener was closed.
  });
  const url = new URL(target);
  url.port = String(listener.addr.port);
  return {
    url: url.href.replace(/\/$/, ""),
    get cuts() {
      return cuts;
    },
    [Symbol.asyncDispose]: async () => {
      listener.close();
      end(...open);
      await serving;
      await Promise.all(running);
    },
  };
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += await conn.write(bytes.subarray(at));
  }
}
