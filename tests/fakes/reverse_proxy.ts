/**
 * A reverse proxy as they stand in front of a gateway: a process of its own that
 * dials from an address of its own, says the `Host` of what it dials, appends who it was reached by to
 * `X-Forwarded-For`, and passes bytes on both ways, upgrades too.
 *
 * Who reached it, a test says by the header `X-Test-Client`, which goes no
 * further: all that tests come from is loopback.
 *
 * @module
 */
import { connect, createServer, type Socket } from "node:net";
import { Proc, root } from "../process/processes.ts";

const HEAD_MAX = 65_536;

/** A running proxy. */
export interface ReverseProxy extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`. */
  url: string;
  port: number;
}

/**
 * Starts one.
 *
 * @param from The address it dials from: one of 127.0.0.0/8
 * @param to The port behind it
 */
export async function openReverseProxy(
  from: string,
  to: number,
): Promise<ReverseProxy> {
  const net = ["127.0.0.1", from].join(",");
  const proc = new Proc([
    "run",
    "--no-prompt",
    "--quiet",
    `--allow-net=${net}`,
    // The module that starts processes reads the tasks when it is loaded.
    `--allow-read=${root}/deno.json`,
    `--config=${root}/deno.json`,
    import.meta.filename ?? "",
    from,
    String(to),
  ]);
  const line = await proc.line((text) => /^\d+$/.test(text));
  return {
    url: `http://127.0.0.1:${line}`,
    port: Number(line),
    [Symbol.asyncDispose]: () => proc[Symbol.asyncDispose](),
  };
}

/** The head as it is passed on. */
function forwarded(head: string, to: number): string {
  const lines = head.split("\r\n");
  const found = (name: string) =>
    lines.findIndex((line) => line.toLowerCase().startsWith(`${name}:`));
  const at = found("x-test-client");
  const client = at < 0 ? "127.0.0.1" : lines[at]?.slice(14).trim() ?? "";
  if (at >= 0) lines.splice(at, 1);
  const host = found("host");
  if (host >= 0) lines[host] = `Host: 127.0.0.1:${to}`;
  const before = found("x-forwarded-for");
  if (before < 0) lines.splice(1, 0, `X-Forwarded-For: ${client}`);
  else lines[before] += `, ${client}`;
  return lines.join("\r\n");
}

function serve(client: Socket, from: string, to: number): void {
  let head = "";
  const onData = (data: Uint8Array) => {
    head += new TextDecoder("latin1").decode(data);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0 && head.length < HEAD_MAX) return;
    client.off("data", onData);
    client.pause();
    const server = connect({
      host: "127.0.0.1",
      port: to,
      localAddress: from,
    });
    const text = forwarded(head.slice(0, end), to) + head.slice(end);
    server.write(text, "latin1");
    server.pipe(client);
    client.pipe(server);
    const over = () => {
      server.destroy();
      client.destroy();
    };
    server.on("error", over);
    client.on("error", over);
    server.on("close", over);
    client.on("close", over);
  };
  client.on("data", onData);
}

if (import.meta.main) {
  const [from = "", to = ""] = Deno.args;
  const server = createServer((client) => serve(client, from, Number(to)));
  server.listen(0, "127.0.0.1", () => {
    const address = server.address();
    console.log(typeof address === "string" ? address : address?.port);
  });
}
