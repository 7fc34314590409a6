/**
 * `media_analyze`: asks a model about an image file. What it says has the
 * image's label.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import type { ImagePart, Message } from "../core/message.ts";
import { type Tool, tool, type ToolContext } from "../core/tool.ts";
import type { FileDesk } from "./files/desk.ts";

/** Asks the agent's own model; given by the roof, and paid for there. */
export type AskModel = (
  messages: readonly Message[],
  context: Pick<ToolContext, "agentId" | "authority" | "sessionKey" | "signal">,
) => Promise<string>;

const IMAGE_BYTES_MAX = 5_242_880;

/** An image's type by its first bytes, whatever its name says. */
export function imageType(bytes: Uint8Array): ImagePart["mime"] | undefined {
  const at = (from: number, text: string) =>
    [...text].every((c, n) => bytes[from + n] === c.charCodeAt(0));
  if (at(0, "\x89PNG\r\n\x1a\n")) return "image/png";
  if (at(0, "\xff\xd8\xff")) return "image/jpeg";
  if (at(0, "GIF87a") || at(0, "GIF89a")) return "image/gif";
  return at(0, "RIFF") && at(8, "WEBP") ? "image/webp" : undefined;
}

/** `media_analyze` over the files there are. */
export function mediaAnalyze(deps: { files: FileDesk; ask: AskModel }): Tool {
  return tool({
    name: "media_analyze",
    about: "Look at an image file (PNG, JPEG, GIF, WebP) and answer about it",
    input: z.strictObject({
      path: z.string().min(1).max(4096),
      question: z.string().min(1).max(4_000).optional(),
    }),
    scope: "tools",
    effect: "read_private",
    reach: "owner",
    result: { integrity: "inherit", secrecy: "private" },
    destinations: [{ path: "path", kind: "path" }],
    run: async ({ path, question = "Describe this image." }, context) => {
      const roots = deps.files.roots(context.agentId);
      const place = roots.parse(path);
      const { bytes, label } = await deps.files.read(place, roots, {
        bytesMax: IMAGE_BYTES_MAX,
      });
      const mime = imageType(bytes);
      if (mime === undefined) {
        throw new AppError(
          "bad_input",
          "That is no image of a kind that is read",
        );
      }
      const text = await deps.ask([{
        role: "user",
        parts: [
          { kind: "image", mime, data: bytes.toBase64(), label },
          { kind: "text", text: question, label: context.label },
        ],
      }], context);
      return { text: text || "(the model said nothing)", label };
    },
  });
}
