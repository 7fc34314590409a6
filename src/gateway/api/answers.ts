/**
 * What the routes of other dialects answer, as far as a document says it: the
 * fields that clients read. The dialects' own descriptions say the rest.
 *
 * @module
 */
import { z } from "zod";

const Count = z.int().nonnegative();

export const StatusAnswer = z.looseObject({ status: z.string() });

const ModelRow = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: z.int(),
  owned_by: z.string(),
  type: z.literal("model"),
  display_name: z.string(),
  created_at: z.string(),
});

export const ModelAnswer = ModelRow;

export const ModelsAnswer = z.object({
  object: z.literal("list"),
  data: z.array(ModelRow),
  has_more: z.boolean(),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
});

export const ChatAnswer = z.looseObject({
  id: z.string(),
  object: z.literal("chat.completion"),
  created: z.int(),
  model: z.string(),
  choices: z.array(z.looseObject({
    index: Count,
    message: z.looseObject({
      role: z.literal("assistant"),
      content: z.string().nullable(),
    }),
    finish_reason: z.string(),
  })),
});

export const ResponseAnswer = z.looseObject({
  id: z.string(),
  object: z.literal("response"),
  created_at: z.int(),
  status: z.enum(["in_progress", "completed", "incomplete", "failed"]),
  model: z.string(),
  output: z.array(z.looseObject({ id: z.string(), type: z.string() })),
});

export const DeletedAnswer = z.object({
  id: z.string(),
  object: z.literal("response"),
  deleted: z.literal(true),
});

export const MessageAnswer = z.looseObject({
  id: z.string(),
  type: z.literal("message"),
  role: z.literal("assistant"),
  model: z.string(),
  content: z.array(z.looseObject({ type: z.string() })),
  stop_reason: z.string().nullable(),
});

export const CountAnswer = z.object({ input_tokens: Count });

export const EmbeddingsBody = z.looseObject({
  model: z.string().min(1).max(256),
  input: z.union([z.string(), z.array(z.unknown())]),
});

export const EmbeddingsAnswer = z.looseObject({
  object: z.literal("list"),
  data: z.array(z.looseObject({ index: Count })),
});

export const RpcBody = z.looseObject({ jsonrpc: z.literal("2.0") });

export const DocumentAnswer = z.looseObject({ openapi: z.string() });
