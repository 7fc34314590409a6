/**
 * A forward proxy as companies have them: CONNECT for https, absolute form for
 * http. It resolves names by a table and writes down what it was asked.
 *
 * @module
 */

/** A running proxy. */
export interface FakeProxy extends AsyncDisposable {
  port: number;
  /** The first line and the headers of each request, in order. */
  heads: string[];
}

/** Listens until disposed; `where` says which local port a host stands for. */
export function openProxy(
  where: (host: string) => number | undefined,
): FakeProxy {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const open = new Set<Deno.Conn>();
  const heads: string[] = [];
  const running = (async () => {
    for await (const client of listener) {
      open.add(client);
      serve(client, { where, heads, open }).catch(() => {}).finally(() =>
        close(client, open)
      );
    }
  })();
  return {
    port: listener.addr.port,
    heads,
    [Symbol.asyncDispose]: async () => {
      listener.close();
      for (const conn of open) close(conn, open);
      await running.catch(() => {});
    },
  };
}

function close(conn: Deno.Conn, open: Set<Deno.Conn>): void {
  if (!open.delete(conn)) return;
  try {
    conn.close();
  } catch {
    // A pipe that failed has closed it already.
  }
}

async function serve(
  client: Deno.Conn,
  proxy: {
    where: (host: string) => number | undefined;
    heads: string[];
    open: Set<Deno.Conn>;
  },
): Promise<void> {
  const head = await readHead(client);
  proxy.heads.push(head);
  const [method = "", target = ""] = head.split(" ");
  const host = method === "CONNECT"
    ? target.replace(/:\d+$/, "")
    : new URL(target).hostname;
  const port = proxy.where(host);
  if (port === undefined) {
    await write(client, "HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n");
    return;
  }
  const upstream = await Deno.connect({ hostname: "127.0.0.1", port });
  proxy.open.add(upstream);
  if (method === "CONNECT") await write(client, "HTTP/1.1 200 OK\r\n\r\n");
  else await write(upstream, head);
  await Promise.allSettled([
    client.readable.pipeTo(upstream.writable),
    upstream.readable.pipeTo(client.writable),
  ]);
  proxy.open.delete(upstream);
}

async function readHead(conn: Deno.Conn): Promise<string> {
  let text = "";
  const chunk = new Uint8Array(4096);
  while (!text.includes("\r\n\r\n") && text.length < 65_536) {
    const bytes = await conn.read(chunk);
    if (bytes === null) break;
    text += new TextDecoder().decode(chunk.subarray(0, bytes));
  }
  return text;
}

async function write(conn: Deno.Conn, text: string): Promise<void> {
  await conn.write(new TextEncoder().encode(text));
}
