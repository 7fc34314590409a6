/**
 * A fake MCP server on a real socket: streamable HTTP with plain JSON answers,
 * its tools as data that a test may change while it runs.
 */
export interface FakeMcpTool {
  name: string;
  description?: string;
  inputSchema?: Record<string, unknown>;
  annotations?: Record<string, unknown>;
  /** What it answers: a text, a whole result, or a wait for the call's end. */
  answer?:
    | string
    | Record<string, unknown>
    | ((args: Record<string, unknown>) => unknown | Promise<unknown>);
}

/** An answer, or nothing where it is somebody else's to give. */
export type MaybeAnswer = Response | undefined;

export interface FakeMcp extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  tools: FakeMcpTool[];
  /** Calls that arrived. */
  readonly calls: { name: string; args: Record<string, unknown> }[];
  /** Requests' headers, each as they came. */
  readonly headers: Headers[];
  /** Ids of requests that were cancelled. */
  readonly cancelled: unknown[];
  /** How often somebody connected. */
  connects: number;
  /** Answers everything with this status, when set. */
  failWith: number | undefined;
  /** Looks at a request first; what it answers is the answer. */
  guard:
    | ((request: Request) => MaybeAnswer | Promise<MaybeAnswer>)
    | undefined;
}

interface Rpc {
  id?: number | string;
  method: string;
  // deno-lint-ignore no-explicit-any
  params?: any;
}

/** Starts one. */
export function fakeMcp(tools: FakeMcpTool[] = []): FakeMcp {
  const fake = {
    tools,
    calls: [] as FakeMcp["calls"],
    headers: [] as Headers[],
    cancelled: [] as unknown[],
    connects: 0,
    failWith: undefined as number | undefined,
    guard: undefined as FakeMcp["guard"],
  };
  const answer = async ({ method, params }: Rpc): Promise<unknown> => {
    switch (method) {
      case "initialize":
        fake.connects++;
        return {
          protocolVersion: params.protocolVersion,
          capabilities: { tools: { listChanged: true } },
          serverInfo: { name: "fake", version: "1" },
        };
      case "tools/list":
        return {
          tools: fake.tools.map(({ answer: _, ...tool }) => ({
            inputSchema: { type: "object" },
            ...tool,
          })),
        };
      case "tools/call": {
        const { name, arguments: args = {} } = params;
        fake.calls.push({ name, args });
        const tool = fake.tools.find((one) => one.name === name);
        const said = typeof tool?.answer === "function"
          ? await tool.answer(args)
          : tool?.answer ?? "done";
        return typeof said === "string"
          ? { content: [{ type: "text", text: said }] }
          : said;
      }
      default:
        return {};
    }
  };
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
  }, async (request) => {
    fake.headers.push(request.headers);
    if (fake.failWith !== undefined) {
      return new Response("no", { status: fake.failWith });
    }
    const guarded = await fake.guard?.(request);
    if (guarded !== undefined) {
      await request.body?.cancel();
      return guarded;
    }
    if (request.method !== "POST") return new Response(null, { status: 405 });
    const rpc: Rpc = await request.json();
    if (rpc.id === undefined) {
      if (rpc.method === "notifications/cancelled") {
        fake.cancelled.push(rpc.params?.requestId);
      }
      return new Response(null, { status: 202 });
    }
    const result = await answer(rpc);
    return Response.json({ jsonrpc: "2.0", id: rpc.id, result });
  });
  const { port } = server.addr;
  return Object.assign(fake, {
    port,
    url: `http://127.0.0.1:${port}/mcp`,
    [Symbol.asyncDispose]: async () => {
      await server.shutdown();
    },
  });
}
