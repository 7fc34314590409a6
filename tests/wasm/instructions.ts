/**
 * Every instruction that computes a value from values, by name and type, for
 * tests that must meet each of them.
 *
 * Types: `i` i32, `l` i64, `f` f32, `d` f64, `v` v128.
 */

/** One instruction: its text with immediates, what it takes, what it gives. */
export interface Instruction {
  text: string;
  takes: string;
  gives: string;
}

const LETTER: Record<string, string> = {
  i32: "i",
  i64: "l",
  f32: "f",
  f64: "d",
};

function many(prefix: string, names: string, type: string): Instruction[] {
  const [takes = "", gives = ""] = type.split(">");
  return names.trim().split(/\s+/).map((name) => ({
    text: `${prefix}.${name}`,
    takes,
    gives,
  }));
}

function numbers(): Instruction[] {
  return ["i32", "i64"].flatMap((t) => {
    const c = LETTER[t];
    return [
      ...many(
        t,
        "add sub mul div_s div_u rem_s rem_u and or xor",
        `${c}${c}>${c}`,
      ),
      ...many(t, "shl shr_s shr_u rotl rotr", `${c}${c}>${c}`),
      ...many(t, "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u", `${c}${c}>i`),
      ...many(t, "clz ctz popcnt extend8_s extend16_s", `${c}>${c}`),
      ...many(t, "eqz", `${c}>i`),
      ...["f32", "f64"].flatMap((from) =>
        many(
          t,
          `trunc_${from}_s trunc_${from}_u trunc_sat_${from}_s trunc_sat_${from}_u`,
          `${LETTER[from]}>${c}`,
        )
      ),
    ];
  }).concat(
    ["f32", "f64"].flatMap((t) => {
      const c = LETTER[t];
      return [
        ...many(t, "add sub mul div min max copysign", `${c}${c}>${c}`),
        ...many(t, "abs neg ceil floor trunc nearest sqrt", `${c}>${c}`),
        ...many(t, "eq ne lt gt le ge", `${c}${c}>i`),
        ...many(t, "convert_i32_s convert_i32_u", `i>${c}`),
        ...many(t, "convert_i64_s convert_i64_u", `l>${c}`),
      ];
    }),
    many("i32", "wrap_i64", "l>i"),
    many("i64", "extend_i32_s extend_i32_u", "i>l"),
    many("i64", "extend32_s", "l>l"),
    many("f32", "demote_f64", "d>f"),
    many("f64", "promote_f32", "f>d"),
    many("i32", "reinterpret_f32", "f>i"),
    many("i64", "reinterpret_f64", "d>l"),
    many("f32", "reinterpret_i32", "i>f"),
    many("f64", "reinterpret_i64", "l>d"),
  );
}

function lanes(shape: string, c: string, count: number): Instruction[] {
  const signs = c === "i" && count > 4 ? ["_s", "_u"] : [""];
  return [
    ...signs.map((sign) => ({
      text: `${shape}.extract_lane${sign} ${count - 1}`,
      takes: "v",
      gives: c,
    })),
    { text: `${shape}.replace_lane ${count - 1}`, takes: `v${c}`, gives: "v" },
    { text: `${shape}.splat`, takes: c, gives: "v" },
  ];
}

const ORDER = "eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u";
const SHIFTS = "shl shr_s shr_u";
const SATURATING = "add add_sat_s add_sat_u sub sub_sat_s sub_sat_u";
const EXTREMES = "min_s min_u max_s max_u";

function halves(from: string, what: string): string {
  return [`low_${from}_s`, `high_${from}_s`, `low_${from}_u`, `high_${from}_u`]
    .map((name) => `${what}_${name}`).join(" ");
}

function vectors(): Instruction[] {
  return [
    ...lanes("i8x16", "i", 16),
    ...lanes("i16x8", "i", 8),
    ...lanes("i32x4", "i", 4),
    ...lanes("i64x2", "l", 2),
    ...lanes("f32x4", "f", 4),
    ...lanes("f64x2", "d", 2),
    {
      text: "i8x16.shuffle 0 17 2 19 4 21 6 23 8 25 10 27 12 29 14 31",
      takes: "vv",
      gives: "v",
    },
    ...many("v128", "not", "v>v"),
    ...many("v128", "and andnot or xor", "vv>v"),
    ...many("v128", "bitselect", "vvv>v"),
    ...many("v128", "any_true", "v>i"),
    ...many(
      "i8x16",
      `swizzle ${ORDER} ${SATURATING} ${EXTREMES} avgr_u`,
      "vv>v",
    ),
    ...many("i8x16", "narrow_i16x8_s narrow_i16x8_u", "vv>v"),
    ...many("i8x16", "abs neg popcnt", "v>v"),
    ...many("i16x8", `${ORDER} ${SATURATING} mul ${EXTREMES} avgr_u`, "vv>v"),
    ...many("i16x8", "q15mulr_sat_s narrow_i32x4_s narrow_i32x4_u", "vv>v"),
    ...many("i16x8", halves("i8x16", "extmul"), "vv>v"),
    ...many("i16x8", `abs neg ${halves("i8x16", "extend")}`, "v>v"),
    ...many("i16x8", "extadd_pairwise_i8x16_s extadd_pairwise_i8x16_u", "v>v"),
    ...many("i32x4", `${ORDER} add sub mul ${EXTREMES} dot_i16x8_s`, "vv>v"),
    ...many("i32x4", halves("i16x8", "extmul"), "vv>v"),
    ...many("i32x4", `abs neg ${halves("i16x8", "extend")}`, "v>v"),
    ...many("i32x4", "extadd_pairwise_i16x8_s extadd_pairwise_i16x8_u", "v>v"),
    ...many("i32x4", "trunc_sat_f32x4_s trunc_sat_f32x4_u", "v>v"),
    ...many("i32x4", "trunc_sat_f64x2_s_zero trunc_sat_f64x2_u_zero", "v>v"),
    ...many("i64x2", "eq ne lt_s gt_s le_s ge_s add sub mul", "vv>v"),
    ...many("i64x2", halves("i32x4", "extmul"), "vv>v"),
    ...many("i64x2", `abs neg ${halves("i32x4", "extend")}`, "v>v"),
    ...["i8x16", "i16x8", "i32x4", "i64x2"].flatMap((shape) => [
      ...many(shape, SHIFTS, "vi>v"),
      ...many(shape, "all_true bitmask", "v>i"),
    ]),
    ...["f32x4", "f64x2"].flatMap((shape) => [
      ...many(shape, "eq ne lt gt le ge", "vv>v"),
      ...many(shape, "add sub mul div min max pmin pmax", "vv>v"),
      ...many(shape, "abs neg sqrt ceil floor trunc nearest", "v>v"),
    ]),
    ...many(
      "f32x4",
      "demote_f64x2_zero convert_i32x4_s convert_i32x4_u",
      "v>v",
    ),
    ...many("f64x2", "promote_low_f32x4", "v>v"),
    ...many("f64x2", "convert_low_i32x4_s convert_low_i32x4_u", "v>v"),
  ];
}

function memory(): Instruction[] {
  const load = (prefix: string, names: string, c: string) =>
    many(prefix, names, `i>${c}`);
  const store = (prefix: string, names: string, c: string) =>
    many(prefix, names, `i${c}>`);
  const small = "load8_s load8_u load16_s load16_u";
  return [
    ...load("i32", `load ${small}`, "i"),
    ...load("i64", `load ${small} load32_s load32_u`, "l"),
    ...load("f32", "load", "f"),
    ...load("f64", "load", "d"),
    ...store("i32", "store store8 store16", "i"),
    ...store("i64", "store store8 store16 store32", "l"),
    ...store("f32", "store", "f"),
    ...store("f64", "store", "d"),
    ...load(
      "v128",
      `load load8x8_s load8x8_u load16x4_s load16x4_u load32x2_s load32x2_u
      load8_splat load16_splat load32_splat load64_splat load32_zero load64_zero`,
      "v",
    ),
    ...store("v128", "store", "v"),
    ...[8, 16, 32, 64].flatMap((bits): Instruction[] => [
      { text: `v128.load${bits}_lane 1`, takes: "iv", gives: "v" },
      { text: `v128.store${bits}_lane 1`, takes: "iv", gives: "" },
    ]),
  ];
}

/** Arithmetic, comparisons, conversions. */
export const NUMBERS: readonly Instruction[] = numbers();
/** 128-bit SIMD without its loads and stores. */
export const VECTORS: readonly Instruction[] = vectors();
/** Loads and stores; an address comes first. */
export const MEMORY: readonly Instruction[] = memory();
