/**
 * JSON, read: a value and its parts. What is not there reads as nothing, so a
 * plugin can ask for `event.get("repository").get("name").text()` at once.
 */
export enum Kind {
  Nothing,
  Null,
  Bool,
  Number,
  Text,
  List,
  Object,
}

/** A JSON value. */
export class Json {
  kind: Kind = Kind.Nothing;
  private word: string = "";
  private number: f64 = 0;
  /** The elements of a list, or the values of an object. */
  items: Json[] = [];
  /** The names of an object's values. */
  names: string[] = [];

  /** Parses a text; nothing when it is not JSON. */
  static parse(text: string): Json {
    const reader = new Reader(text);
    const value = reader.value(0);
    reader.space();
    return reader.failed || !reader.done ? new Json() : value;
  }

  static ofText(text: string): Json {
    const value = new Json();
    value.kind = Kind.Text;
    value.word = text;
    return value;
  }

  static ofNumber(number: f64): Json {
    const value = new Json();
    value.kind = Kind.Number;
    value.number = number;
    return value;
  }

  static ofTruth(truth: bool): Json {
    const value = new Json();
    value.kind = Kind.Bool;
    value.number = truth ? 1 : 0;
    return value;
  }

  /** A value of an object; nothing when it has none of that name. */
  get(name: string): Json {
    for (let n = this.names.length - 1; n >= 0; n--) {
      if (this.names[n] == name) return this.items[n];
    }
    return new Json();
  }

  /** An element of a list; nothing past its end. */
  at(n: i32): Json {
    return this.kind == Kind.List && n >= 0 && n < this.items.length
      ? this.items[n]
      : new Json();
  }

  /** Whether there is a value at all. */
  get is(): bool {
    return this.kind != Kind.Nothing && this.kind != Kind.Null;
  }

  /** A text's characters, else the empty text. */
  text(): string {
    return this.kind == Kind.Text ? this.word : "";
  }

  /** A number, else 0. */
  num(): f64 {
    return this.kind == Kind.Number ? this.number : 0;
  }

  /** Whether it is `true`. */
  truth(): bool {
    return this.kind == Kind.Bool && this.number == 1;
  }
}

const DEPTH_MAX = 64;

class Reader {
  failed: bool = false;
  private at: i32 = 0;

  constructor(private source: string) {}

  get done(): bool {
    return this.at >= this.source.length;
  }

  private peek(): i32 {
    return this.done ? -1 : this.source.charCodeAt(this.at);
  }

  space(): void {
    while (!this.done) {
      const c = this.peek();
      if (c != 0x20 && c != 0x0a && c != 0x0d && c != 0x09) return;
      this.at++;
    }
  }

  private fail(): Json {
    this.failed = true;
    this.at = this.source.length;
    return new Json();
  }

  private isWord(word: string): bool {
    if (this.source.substr(this.at, word.length) != word) return false;
    this.at += word.length;
    return true;
  }

  value(depth: i32): Json {
    this.space();
    if (depth > DEPTH_MAX) return this.fail();
    const c = this.peek();
    if (c == 0x22) return Json.ofText(this.string());
    if (c == 0x7b) return this.object(depth);
    if (c == 0x5b) return this.list(depth);
    if (c == 0x74) {
      return this.isWord("true") ? Json.ofTruth(true) : this.fail();
    }
    if (c == 0x66) {
      return this.isWord("false") ? Json.ofTruth(false) : this.fail();
    }
    if (c == 0x6e) {
      if (!this.isWord("null")) return this.fail();
      const value = new Json();
      value.kind = Kind.Null;
      return value;
    }
    return this.numeral();
  }

  private numeral(): Json {
    const from = this.at;
    while (!this.done) {
      const c = this.peek();
      const fits = (c >= 0x30 && c <= 0x39) || c == 0x2d || c == 0x2b ||
        c == 0x2e || c == 0x65 || c == 0x45;
      if (!fits) break;
      this.at++;
    }
    if (this.at == from) return this.fail();
    const number = F64.parseFloat(this.source.substring(from, this.at));
    return isNaN(number) ? this.fail() : Json.ofNumber(number);
  }

  private string(): string {
    this.at++;
    // Joined once: adding to a text copies all of it, each time.
    const pieces: string[] = [];
    let from = this.at;
    while (!this.done) {
      const c = this.peek();
      if (c == 0x22) {
        const rest = this.source.substring(from, this.at++);
        if (pieces.length == 0) return rest;
        pieces.push(rest);
        return pieces.join("");
      }
      if (c == 0x5c) {
        pieces.push(this.source.substring(from, this.at++));
        pieces.push(this.escape());
        from = this.at;
      } else this.at++;
    }
    this.fail();
    return "";
  }

  private escape(): string {
    const c = this.peek();
    this.at++;
    if (c == 0x6e) return "\n";
    if (c == 0x74) return "\t";
    if (c == 0x72) return "\r";
    if (c == 0x62) return "\b";
    if (c == 0x66) return "\f";
    if (c == 0x75) {
      const code = I32.parseInt(this.source.substr(this.at, 4), 16);
      this.at += 4;
      return String.fromCharCode(code);
    }
    return String.fromCharCode(c);
  }

  private list(depth: i32): Json {
    const value = new Json();
    value.kind = Kind.List;
    this.at++;
    this.space();
    if (this.peek() == 0x5d) {
      this.at++;
      return value;
    }
    while (!this.failed) {
      value.items.push(this.value(depth + 1));
      this.space();
      const c = this.peek();
      this.at++;
      if (c == 0x5d) return value;
      if (c != 0x2c) return this.fail();
    }
    return value;
  }

  private object(depth: i32): Json {
    const value = new Json();
    value.kind = Kind.Object;
    this.at++;
    this.space();
    if (this.peek() == 0x7d) {
      this.at++;
      return value;
    }
    while (!this.failed) {
      this.space();
      if (this.peek() != 0x22) return this.fail();
      value.names.push(this.string());
      this.space();
      if (this.peek() != 0x3a) return this.fail();
      this.at++;
      value.items.push(this.value(depth + 1));
      this.space();
      const c = this.peek();
      this.at++;
      if (c == 0x7d) return value;
      if (c != 0x2c) return this.fail();
    }
    return value;
  }
}

/** A text as JSON writes it. */
export function quote(text: string): string {
  const pieces: string[] = ["\""];
  let from = 0;
  for (let n = 0; n < text.length; n++) {
    const c = text.charCodeAt(n);
    if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
    pieces.push(text.substring(from, n));
    from = n + 1;
    if (c == 0x22) pieces.push("\\\"");
    else if (c == 0x5c) pieces.push("\\\\");
    else if (c == 0x0a) pieces.push("\\n");
    else if (c == 0x0d) pieces.push("\\r");
    else if (c == 0x09) pieces.push("\\t");
    else pieces.push("\\u" + c.toString(16).padStart(4, "0"));
  }
  pieces.push(text.substring(from));
  pieces.push("\"");
  return pieces.join("");
}
