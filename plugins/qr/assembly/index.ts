/** `qr`: a text as a QR code, for a terminal or as an SVG picture. */
import { fail, input, output } from "./carapace";
import { Code, encode } from "./qr";

const LEVELS = "LMQH";
/** Light modules around a code: the standard asks for four. */
const QUIET = 4;

export function qr(): i32 {
  const request = input();
  const text = Uint8Array.wrap(String.UTF8.encode(request.get("text").text()));
  const name = request.get("level").text();
  const level = name == "" ? 1 : LEVELS.indexOf(name);
  const code = encode(text, level);
  if (code === null) {
    return fail(
      "the text is too long: " + text.length.toString() +
        " bytes do not fit a code of version 10",
    );
  }
  const isSvg = request.get("format").text() == "svg";
  return output(isSvg ? toSvg(code) : toBlocks(code));
}

/** Two modules a character: upper and lower half. */
function toBlocks(code: Code): string {
  const size = code.size;
  let out = "";
  for (let y = -QUIET; y < size + QUIET; y += 2) {
    for (let x = -QUIET; x < size + QUIET; x++) {
      const upper = isDark(code, x, y);
      const lower = isDark(code, x, y + 1);
      // Dark modules are left out: on a dark terminal the light ones are drawn.
      out += upper ? (lower ? " " : "▄") : (lower ? "▀" : "█");
    }
    out += "\n";
  }
  return out;
}

function isDark(code: Code, x: i32, y: i32): bool {
  if (x < 0 || y < 0 || x >= code.size || y >= code.size) return false;
  return code.isDark(x, y);
}

function toSvg(code: Code): string {
  const side = (code.size + 2 * QUIET).toString();
  let path = "";
  for (let y = 0; y < code.size; y++) {
    for (let x = 0; x < code.size; x++) {
      if (!code.isDark(x, y)) continue;
      let width = 1;
      while (x + width < code.size && code.isDark(x + width, y)) width++;
      path += "M" + (x + QUIET).toString() + " " + (y + QUIET).toString() +
        "h" + width.toString() + "v1h-" + width.toString() + "z";
      x += width - 1;
    }
  }
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + side +
    " " + side + "\" shape-rendering=\"crispEdges\"><rect width=\"" + side +
    "\" height=\"" + side + "\" fill=\"#fff\"/><path d=\"" + path + "\"/></svg>";
}
