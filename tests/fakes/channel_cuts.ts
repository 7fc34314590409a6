/** A store whose journal stops for good after so many commits of its courier. */
import type { Journal } from "../../src/store/journal.ts";
import type { Store } from "../../src/store/store.ts";

/** The same store, but what is committed after `commits` never happens. */
export function cuttingJournal(store: Store, commits: number): Store {
  let left = commits;
  const journal: Journal = {
    commit: (rows) =>
      left-- > 0
        ? store.journal.commit(rows)
        : Promise.reject(new DOMException("cut", "AbortError")),
  };
  return { ...store, journal };
}
