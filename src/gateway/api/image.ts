/**
 * An image out of a request, by value.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import type { Label } from "../../core/label.ts";
import type { ImagePart } from "../../core/message.ts";

/** The image behind a data URL. @throws `bad_input` for anything else */
export function toImage(url: string, label: Label): ImagePart {
  const match =
    /^data:(image\/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/]+={0,2})$/.exec(
      url,
    );
  if (match === null) {
    throw new AppError(
      "bad_input",
      "Cannot take the image: only PNG, JPEG, GIF and WebP as base64 data URLs",
      {
        hint: "Send the image itself; addresses are not fetched",
        details: { param: "messages", code: "invalid_image_url" },
      },
    );
  }
  const [, mime, data = ""] = match;
  if (data.length % 4 !== 0) {
    throw new AppError("bad_input", "Cannot take the image: its base64 is cut");
  }
  return { kind: "image", mime: mime as ImagePart["mime"], data, label };
}
