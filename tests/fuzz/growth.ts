/**
 * Whether memory stays where it is, judged by what is alive at rest, after a
 * forced collection, at the end of windows of many inputs.
 *
 * Resident memory says little: caches and rings fill to their bounds, and
 * neither the engine nor the allocator gives back at once what is free.
 *
 * @module
 */

/** One window's end. */
export interface Rest {
  /** Inputs since the start. */
  inputs: number;
  /** Bytes alive. */
  live: number;
}

/**
 * Bytes that an input may leave behind in the long run. A socket that was not
 * let go of left 2,400; what bounded caches still gain after 20,000 inputs was
 * measured as 20 to 60.
 */
export const BYTES_PER_INPUT_MAX = 120;

/** What a judgement needs: two windows after the one in which all is loaded. */
export const RESTS_MIN = 3;

/**
 * Bytes that stayed for each input, by least squares over the rests after the
 * first. `undefined` when there are too few of them.
 */
export function bytesPerInput(rests: readonly Rest[]): number | undefined {
  if (rests.length < RESTS_MIN) return undefined;
  const warm = rests.slice(1);
  const mean = (of: (rest: Rest) => number) =>
    warm.reduce((sum, rest) => sum + of(rest), 0) / warm.length;
  const middle = mean(({ inputs }) => inputs);
  const level = mean(({ live }) => live);
  let above = 0;
  let below = 0;
  for (const { inputs, live } of warm) {
    above += (inputs - middle) * (live - level);
    below += (inputs - middle) ** 2;
  }
  return below === 0 ? undefined : above / below;
}
