/**
 * QR codes, as ISO/IEC 18004 says: byte mode, versions 1 to 10, all four levels
 * of error correction, the mask with the lowest penalty.
 */

/** Codewords of each version, data and correction together. */
const TOTAL: StaticArray<i32> = [26, 44, 70, 100, 134, 172, 196, 242, 292, 346];
/** Correction codewords of each block, by level (L M Q H) and version. */
const CORRECTION: StaticArray<i32> = [
  7, 10, 15, 20, 26, 18, 20, 24, 30, 18,
  10, 16, 26, 18, 24, 16, 18, 22, 22, 26,
  13, 22, 18, 26, 18, 24, 18, 22, 20, 24,
  17, 28, 22, 16, 22, 28, 26, 26, 24, 28,
];
/** Blocks, by level and version. */
const BLOCKS: StaticArray<i32> = [
  1, 1, 1, 1, 1, 2, 2, 2, 2, 4,
  1, 1, 1, 2, 2, 4, 4, 4, 5, 5,
  1, 1, 2, 2, 4, 4, 6, 6, 8, 8,
  1, 1, 2, 4, 4, 4, 5, 6, 8, 8,
];
/** How the levels are written in the format bits. */
const LEVEL_BITS: StaticArray<i32> = [1, 0, 3, 2];
/** Distance of the middle alignment pattern from the left, by version; 0: none. */
const ALIGN_MIDDLE: StaticArray<i32> = [0, 0, 0, 0, 0, 0, 22, 24, 26, 28];

/** A code: `size` modules each way, dark where `modules` is 1. */
export class Code {
  modules: Uint8Array;
  /** Modules that data may not use. */
  private fixed: Uint8Array;

  constructor(public size: i32) {
    this.modules = new Uint8Array(size * size);
    this.fixed = new Uint8Array(size * size);
  }

  isDark(x: i32, y: i32): bool {
    return this.modules[y * this.size + x] == 1;
  }

  private put(x: i32, y: i32, dark: bool): void {
    if (x < 0 || y < 0 || x >= this.size || y >= this.size) return;
    this.modules[y * this.size + x] = dark ? 1 : 0;
    this.fixed[y * this.size + x] = 1;
  }

  drawFixed(version: i32): void {
    const last = this.size - 1;
    for (let n = 0; n < this.size; n++) {
      this.put(6, n, n % 2 == 0);
      this.put(n, 6, n % 2 == 0);
    }
    this.drawFinder(3, 3);
    this.drawFinder(last - 3, 3);
    this.drawFinder(3, last - 3);
    this.drawAlignments(version);
    this.drawFormat(0, 0);
    if (version >= 7) this.drawVersion(version);
  }

  private drawFinder(cx: i32, cy: i32): void {
    for (let dy = -4; dy <= 4; dy++) {
      for (let dx = -4; dx <= 4; dx++) {
        const ring = max(abs(dx), abs(dy));
        this.put(cx + dx, cy + dy, ring != 2 && ring != 4);
      }
    }
  }

  private drawAlignments(version: i32): void {
    if (version == 1) return;
    const far = this.size - 7;
    const middle = ALIGN_MIDDLE[version - 1];
    const places: i32[] = middle == 0 ? [6, far] : [6, middle, far];
    const last = places.length - 1;
    for (let i = 0; i <= last; i++) {
      for (let j = 0; j <= last; j++) {
        const isCorner = (i == 0 && j == 0) || (i == 0 && j == last) ||
          (i == last && j == 0);
        if (!isCorner) this.drawAlignment(places[i], places[j]);
      }
    }
  }

  private drawAlignment(cx: i32, cy: i32): void {
    for (let dy = -2; dy <= 2; dy++) {
      for (let dx = -2; dx <= 2; dx++) {
        this.put(cx + dx, cy + dy, max(abs(dx), abs(dy)) != 1);
      }
    }
  }

  drawFormat(level: i32, mask: i32): void {
    const data = (LEVEL_BITS[level] << 3) | mask;
    let rest = data << 10;
    for (let n = 4; n >= 0; n--) {
      if ((rest >> (n + 10)) & 1) rest ^= 0x537 << n;
    }
    const bits = ((data << 10) | rest) ^ 0x5412;
    const size = this.size;
    for (let n = 0; n < 15; n++) {
      const dark = ((bits >> n) & 1) == 1;
      // Beside the upper left finder, around its corner.
      if (n < 6) this.put(8, n, dark);
      else if (n < 8) this.put(8, n + 1, dark);
      else if (n == 8) this.put(7, 8, dark);
      else this.put(14 - n, 8, dark);
      // And once more beside the other two.
      if (n < 8) this.put(size - 1 - n, 8, dark);
      else this.put(8, size - 15 + n, dark);
    }
    this.put(8, size - 8, true);
  }

  private drawVersion(version: i32): void {
    let rest = version << 12;
    for (let n = 5; n >= 0; n--) {
      if ((rest >> (n + 12)) & 1) rest ^= 0x1f25 << n;
    }
    const bits = (version << 12) | rest;
    for (let n = 0; n < 18; n++) {
      const dark = ((bits >> n) & 1) == 1;
      const a = this.size - 11 + n % 3;
      const b = n / 3;
      this.put(a, b, dark);
      this.put(b, a, dark);
    }
  }

  /** Places the codewords in columns of two, upwards and downwards in turn. */
  drawData(data: Uint8Array): void {
    let bit = 0;
    let upwards = true;
    for (let right = this.size - 1; right >= 1; right -= 2) {
      if (right == 6) right = 5;
      for (let n = 0; n < this.size; n++) {
        const y = upwards ? this.size - 1 - n : n;
        for (let x = right; x > right - 2; x--) {
          if (this.fixed[y * this.size + x] == 1) continue;
          if (bit >= data.length * 8) continue;
          const value = (data[bit >> 3] >> (7 - <u8>(bit & 7))) & 1;
          this.modules[y * this.size + x] = value;
          bit++;
        }
      }
      upwards = !upwards;
    }
  }

  /** Turns the data modules that a mask names. Twice is nothing. */
  applyMask(mask: i32): void {
    for (let y = 0; y < this.size; y++) {
      for (let x = 0; x < this.size; x++) {
        const at = y * this.size + x;
        if (this.fixed[at] == 0 && isMasked(mask, x, y)) this.modules[at] ^= 1;
      }
    }
  }

  penalty(): i32 {
    let total = 0;
    let dark = 0;
    for (let a = 0; a < this.size; a++) {
      total += this.linePenalty(a, true) + this.linePenalty(a, false);
      for (let b = 0; b < this.size; b++) {
        if (this.isDark(a, b)) dark++;
        if (a + 1 < this.size && b + 1 < this.size) {
          const same = this.isDark(a, b);
          const isBlock = this.isDark(a + 1, b) == same &&
            this.isDark(a, b + 1) == same && this.isDark(a + 1, b + 1) == same;
          if (isBlock) total += 3;
        }
      }
    }
    const percent = dark * 100 / (this.size * this.size);
    return total + abs(percent - 50) / 5 * 10;
  }

  private linePenalty(line: i32, isRow: bool): i32 {
    let total = 0;
    let run = 0;
    let bits = 0;
    for (let n = 0; n < this.size; n++) {
      const dark = isRow ? this.isDark(n, line) : this.isDark(line, n);
      const same = n > 0 &&
        dark == (isRow ? this.isDark(n - 1, line) : this.isDark(line, n - 1));
      run = same ? run + 1 : 1;
      if (run == 5) total += 3;
      else if (run > 5) total += 1;
      bits = ((bits << 1) | (dark ? 1 : 0)) & 0x7ff;
      // Looks like a finder: 1011101 beside four light ones.
      if (n >= 10 && (bits == 0x05d || bits == 0x5d0)) total += 40;
    }
    return total;
  }
}

function isMasked(mask: i32, x: i32, y: i32): bool {
  switch (mask) {
    case 0: return (x + y) % 2 == 0;
    case 1: return y % 2 == 0;
    case 2: return x % 3 == 0;
    case 3: return (x + y) % 3 == 0;
    case 4: return (x / 3 + y / 2) % 2 == 0;
    case 5: return x * y % 2 + x * y % 3 == 0;
    case 6: return (x * y % 2 + x * y % 3) % 2 == 0;
    default: return ((x + y) % 2 + x * y % 3) % 2 == 0;
  }
}

function multiply(a: i32, b: i32): i32 {
  let product = 0;
  for (let n = 7; n >= 0; n--) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    product ^= ((b >> n) & 1) * a;
  }
  return product;
}

/** The divisor of a block's error correction. */
function divisor(degree: i32): Uint8Array {
  const result = new Uint8Array(degree);
  result[degree - 1] = 1;
  let root = 1;
  for (let n = 0; n < degree; n++) {
    for (let i = 0; i < degree; i++) {
      const next = i + 1 < degree ? result[i + 1] : 0;
      result[i] = <u8>(multiply(result[i], root) ^ next);
    }
    root = multiply(root, 2);
  }
  return result;
}

function remainder(data: Uint8Array, by: Uint8Array): Uint8Array {
  const degree = by.length;
  const result = new Uint8Array(degree);
  for (let n = 0; n < data.length; n++) {
    const factor = data[n] ^ result[0];
    for (let i = 0; i < degree; i++) {
      const next = i + 1 < degree ? result[i + 1] : 0;
      result[i] = next ^ <u8>multiply(by[i], factor);
    }
  }
  return result;
}

function dataBytes(version: i32, level: i32): i32 {
  const at = level * 10 + version - 1;
  return TOTAL[version - 1] - CORRECTION[at] * BLOCKS[at];
}

/** Mode, length, text, end, padding. */
function pack(text: Uint8Array, version: i32, capacity: i32): Uint8Array {
  const out = new Uint8Array(capacity);
  const lengthBits = version < 10 ? 8 : 16;
  let at = 0;
  const write = (value: i32, bits: i32, from: i32, into: Uint8Array): void => {
    for (let n = 0; n < bits; n++) {
      const bit = (value >> (bits - 1 - n)) & 1;
      into[(from + n) >> 3] |= <u8>(bit << (7 - ((from + n) & 7)));
    }
  };
  write(4, 4, at, out);
  at += 4;
  write(text.length, lengthBits, at, out);
  at += lengthBits;
  for (let n = 0; n < text.length; n++) {
    write(text[n], 8, at, out);
    at += 8;
  }
  at = min(at + 4, capacity * 8);
  at = (at + 7) & ~7;
  for (let n = at >> 3, pad = 0xec; n < capacity; n++, pad ^= 0xec ^ 0x11) {
    out[n] = <u8>pad;
  }
  return out;
}

/** Cuts data into blocks, adds each one's correction, and interleaves them. */
function protect(data: Uint8Array, version: i32, level: i32): Uint8Array {
  const at = level * 10 + version - 1;
  const blocks = BLOCKS[at];
  const correction = CORRECTION[at];
  const total = TOTAL[version - 1];
  const short = data.length / blocks;
  const longs = data.length % blocks;
  const by = divisor(correction);
  const parts: Uint8Array[] = [];
  const codes: Uint8Array[] = [];
  for (let n = 0, from = 0; n < blocks; n++) {
    const length = short + (n >= blocks - longs ? 1 : 0);
    const part = data.slice(from, from + length);
    from += length;
    parts.push(part);
    codes.push(remainder(part, by));
  }
  const out = new Uint8Array(total);
  let to = 0;
  for (let i = 0; i <= short; i++) {
    for (let n = 0; n < blocks; n++) {
      if (i < parts[n].length) out[to++] = parts[n][i];
    }
  }
  for (let i = 0; i < correction; i++) {
    for (let n = 0; n < blocks; n++) out[to++] = codes[n][i];
  }
  return out;
}

/** Encodes bytes; nothing when they are too many. Levels are 0 to 3: L M Q H. */
export function encode(text: Uint8Array, level: i32): Code | null {
  let version = 0;
  for (let v = 1; v <= 10 && version == 0; v++) {
    const bits = 4 + (v < 10 ? 8 : 16) + text.length * 8;
    if (bits <= dataBytes(v, level) * 8) version = v;
  }
  if (version == 0) return null;
  const data = pack(text, version, dataBytes(version, level));
  const code = new Code(17 + 4 * version);
  code.drawFixed(version);
  code.drawData(protect(data, version, level));
  let best = 0;
  let lowest = i32.MAX_VALUE;
  for (let mask = 0; mask < 8; mask++) {
    code.applyMask(mask);
    code.drawFormat(level, mask);
    const penalty = code.penalty();
    if (penalty < lowest) {
      lowest = penalty;
      best = mask;
    }
    code.applyMask(mask);
  }
  code.applyMask(best);
  code.drawFormat(level, best);
  return code;
}
