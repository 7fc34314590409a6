/**
 * What is made when it is first asked for, and kept: a schema takes kilobytes,
 * and most of a table's are not asked for in a day.
 *
 * @module
 */

/** The value that `make` makes, once. It must not be `undefined`. */
export function later<Value>(make: () => Value): () => Value {
  let made: Value | undefined;
  return () => made ??= make();
}
