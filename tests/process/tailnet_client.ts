/**
 * A client that shows nothing: `URL`. Prints what HTTP and the socket's
 * `connect` answer, and when the socket is closed.
 */
async function main(): Promise<void> {
  const [url = ""] = Deno.args;
  const answer = await fetch(`${url}/v1/models`);
  await answer.body?.cancel();
  console.log(`http ${answer.status}`);
  const socket = new WebSocket(`${url.replace("http", "ws")}/ws`);
  const send = (id: string, method: string, params: unknown) =>
    socket.send(JSON.stringify({ type: "req", id, method, params }));
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.event === "connect.challenge") {
      const client = { id: "x", version: "1", platform: "x", mode: "cli" };
      send("1", "connect", { minProtocol: 3, maxProtocol: 4, client });
    }
    if (frame.id === "1") {
      const { ok, payload, error } = frame;
      console.log(`connect ${ok ? payload.auth.scopes : error.code}`);
      if (ok) send("2", "system-presence", {});
    }
    if (frame.id === "2") console.log(`login ${frame.payload?.[0]?.login}`);
  };
  const closed = Promise.withResolvers<void>();
  socket.onclose = ({ code }) => {
    console.log(`closed ${code}`);
    closed.resolve();
  };
  await closed.promise;
}

void main();
