/**
 * `/mcp`: this house as an MCP server over streamable HTTP. Its tools are the
 * caller's own to use; the caller's sessions are resources.
 *
 * Nothing is kept between requests, so there is nothing to run out of. Never: a
 * second way to run a tool, or to read a session that is not the caller's.
 *
 * @module
 */
import type { Server } from "@modelcontextprotocol/sdk/server/index.js";
import type {
  CallToolRequest,
  ReadResourceRequest,
} from "@modelcontextprotocol/sdk/types.js";
import { parseJson } from "../../core/bounded.ts";
import { SessionKey } from "../../core/ids.ts";
import { AppError, errorText, ignore } from "../../core/errors.ts";
import { textOf } from "../../core/message.ts";
import { type Call, readJsonText } from "../call.ts";
import { Caller } from "../keys.ts";
import { checkServing } from "../serving.ts";
import type { ApiDeps } from "./target.ts";
import { failureText, invokeFor, toInvoke, toolsOf } from "./invoke.ts";

const SESSIONS_MAX = 200;
const MESSAGES_MAX = 200;
const URI = "carapace://session/";

/** Loaded with the first request: it costs a tenth of a second. */
async function loadSdk() {
  const [server, transport, types] = await Promise.all([
    import("@modelcontextprotocol/sdk/server/index.js"),
    import(
      "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
    ),
    import("@modelcontextprotocol/sdk/types.js"),
  ]);
  return { ...server, ...transport, ...types };
}

type Sdk = Awaited<ReturnType<typeof loadSdk>>;

/** What the SDK says of a request beside itself. */
interface Extra {
  signal: AbortSignal;
}

/** What one request is answered with. */
interface Desk {
  sdk: Sdk;
  call: Call;
  on: ApiDeps;
  caller: Caller;
}

/**
 * What a request fails with, as its caller may read it: the SDK would send on
 * the text of whatever was thrown.
 */
function guarded<P, R>(
  { sdk, on }: Desk,
  handle: (request: P, extra: Extra) => R | Promise<R>,
): (request: P, extra: Extra) => Promise<R> {
  return async (request, extra) => {
    try {
      return await handle(request, extra);
    } catch (error) {
      if (error instanceof sdk.McpError) throw error;
      on.deps.log("warn", "mcp.request_failed", { error: errorText(error) });
      throw new sdk.McpError(sdk.ErrorCode.InternalError, failureText(error));
    }
  };
}

function serveTools(server: Server, desk: Desk): void {
  const { sdk, call, on, caller } = desk;
  const listTools = guarded(desk, () => ({
    tools: toolsOf(on, caller).map(({ name, description, schema }) => ({
      name,
      description,
      inputSchema: { ...schema, type: "object" as const },
    })),
  }));
  server.setRequestHandler(sdk.ListToolsRequestSchema, listTools);
  server.setRequestHandler(
    sdk.CallToolRequestSchema,
    guarded(desk, async ({ params }: CallToolRequest, { signal }: Extra) => {
      const { name } = params;
      if (!toolsOf(on, caller).some((tool) => tool.name === name)) {
        throw new sdk.McpError(
          sdk.ErrorCode.InvalidParams,
          `There is no tool "${name}" for this credential`,
        );
      }
      let text: string;
      let isError = true;
      try {
        const done = await invokeFor(caller, toInvoke(on), {
          name,
          args: params.arguments ?? {},
          signal: AbortSignal.any([signal, call.signal]),
        });
        text = done.text;
        isError = done.outcome !== "done";
      } catch (error) {
        on.deps.log("warn", "mcp.call_failed", {
          tool: name,
          error: errorText(error),
        });
        text = failureText(error);
      }
      return { content: [{ type: "text" as const, text }], isError };
    }),
  );
}

function serveSessions(server: Server, desk: Desk): void {
  const { sdk, on, caller } = desk;
  const { sessions, messages } = on.deps.store;
  const listSessions = guarded(desk, async () => {
    const rows = await sessions.list({ limit: SESSIONS_MAX });
    const own = rows.filter(({ key }) => caller.ownsSession(key));
    return {
      resources: own.map(({ key, label, title, updatedAt }) => ({
        uri: URI + key,
        name: label ?? title ?? key,
        description: `Last used ${new Date(updatedAt).toISOString()}`,
        mimeType: "application/json",
      })),
    };
  });
  server.setRequestHandler(sdk.ListResourcesRequestSchema, listSessions);
  server.setRequestHandler(
    sdk.ReadResourceRequestSchema,
    guarded(desk, async ({ params: { uri } }: ReadResourceRequest) => {
      const key = uri.startsWith(URI) ? uri.slice(URI.length) : "";
      const row = SessionKey.safeParse(key).success && caller.ownsSession(key)
        ? await sessions.find(key)
        : undefined;
      if (row === undefined) {
        // The same words for what is not there and what is another's.
        throw new sdk.McpError(-32002, "There is no such session");
      }
      const last = await messages.tail(row.id, { limit: MESSAGES_MAX });
      const lines = last.map((message) => ({
        role: message.role,
        at: message.at,
        text: textOf(message),
      })).filter(({ text }) => text !== "");
      const text = JSON.stringify({ key, messages: lines });
      return { contents: [{ uri, mimeType: "application/json", text }] };
    }),
  );
}

/** `POST /mcp` */
export async function mcp(call: Call, on: ApiDeps): Promise<Response> {
  checkServing(on.deps);
  const { limits } = on;
  const { bodyBytesMax: bytesMax } = limits;
  const text = await readJsonText(call.request, { bytesMax, limits });
  const parsedBody = parseJson(text, limits);
  const sdk = await loadSdk();
  const caller = await Caller.of(call.caller);
  const mayRead = caller.authority.scopes.has("read");
  const server = new sdk.Server(
    { name: "carapace", version: on.deps.version },
    { capabilities: { tools: {}, ...(mayRead ? { resources: {} } : {}) } },
  );
  const desk = { sdk, call, on, caller };
  serveTools(server, desk);
  if (mayRead) serveSessions(server, desk);
  // Stateless: the absence of a session's id says so.
  const transport = new sdk.WebStandardStreamableHTTPServerTransport();
  await server.connect(transport as Parameters<typeof server.connect>[0]);
  const { url, headers } = call.request;
  const answer = await transport.handleRequest(
    new Request(url, { method: "POST", headers }),
    { parsedBody },
  );
  return watch(answer, call, () => server.close());
}

/** Ends the call, and what it runs, with the answer's last byte or reader. */
function watch(
  answer: Response,
  call: Call,
  close: () => Promise<void>,
): Response {
  const over = () => {
    call.end();
    close().catch(ignore("the server was closed"));
  };
  if (answer.body === null) {
    over();
    return new Response(null, answer);
  }
  const reader = answer.body.getReader();
  call.openStream(over);
  const onAbort = () => void reader.cancel().catch(ignore("it was over"));
  call.signal.addEventListener("abort", onAbort, { once: true });
  const body = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const { done, value } = await reader.read();
      if (!done) return controller.enqueue(value);
      over();
      controller.close();
    },
    cancel: () => {
      call.abort(new AppError("cancelled", "The client left"));
      over();
    },
  }, { highWaterMark: 0 });
  return new Response(body, answer);
}
