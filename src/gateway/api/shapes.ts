/**
 * What the bodies and the answers of routes look like, by the route: for
 * `/openapi.json`, which is the only one that needs them all at once.
 *
 * @module
 */
import type { z } from "zod";
import {
  ChatAnswer,
  CountAnswer,
  DeletedAnswer,
  DocumentAnswer,
  EmbeddingsAnswer,
  EmbeddingsBody,
  MessageAnswer,
  ModelAnswer,
  ModelsAnswer,
  ResponseAnswer,
  RpcBody,
  StatusAnswer,
} from "./answers.ts";
import { ChatRequest } from "./chat_completions/schema.ts";
import { InvokeAnswer, InvokeBody, InvokeRefusal } from "./invoke.ts";
import { CountRequest, MessagesRequest } from "./messages/schema.ts";
import { ResponsesRequest } from "./responses/schema.ts";

/** A JSON body, and a JSON answer. */
export interface Shapes {
  input?: z.ZodType;
  output?: z.ZodType;
  /** What it may answer beside an error, where it does not do as asked. */
  refusal?: z.ZodType;
}

/** By `METHOD path`, as the row has them. */
export const SHAPES: Readonly<Record<string, Shapes>> = {
  "POST /v1/embeddings": { input: EmbeddingsBody, output: EmbeddingsAnswer },
  "POST /tools/invoke": {
    input: InvokeBody,
    output: InvokeAnswer,
    refusal: InvokeRefusal,
  },
  "POST /mcp": { input: RpcBody },
  "POST /v1/responses": { input: ResponsesRequest, output: ResponseAnswer },
  "GET /v1/responses/:id": { output: ResponseAnswer },
  "DELETE /v1/responses/:id": { output: DeletedAnswer },
  "POST /v1/messages": { input: MessagesRequest, output: MessageAnswer },
  "POST /v1/messages/count_tokens": {
    input: CountRequest,
    output: CountAnswer,
  },
  "GET /health/live": { output: StatusAnswer },
  "GET /health/ready": { output: StatusAnswer, refusal: StatusAnswer },
  "GET /openapi.json": { output: DocumentAnswer },
  "GET /v1/models": { output: ModelsAnswer },
  "GET /v1/models/:id{.+}": { output: ModelAnswer },
  "POST /v1/chat/completions": { input: ChatRequest, output: ChatAnswer },
};
