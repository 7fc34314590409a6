/**
 * The pipe that tells the service its launcher died. A launcher that was killed
 * cannot pass the signal on; the end of its pipe can.
 *
 * Never: what comes over the pipe means anything but "still there".
 *
 * @module
 */
import { ignore } from "../core/errors.ts";

/**
 * Reads the pipe to its end and calls back once when it ends or breaks. Disposed,
 * it stops reading and calls nothing.
 */
export function watchLifeline(
  stdin: ReadableStream<Uint8Array<ArrayBuffer>>,
  onGone: () => void,
): Disposable {
  const reader = stdin.getReader();
  let isOver = false;
  const watch = async () => {
    try {
      // Ends with the pipe; one chunk is held at a time, and dropped.
      while (!(await reader.read()).done);
    } catch (error) {
      ignore("the launcher's pipe broke")(error);
    }
    if (isOver) return;
    isOver = true;
    onGone();
  };
  void watch();
  return {
    [Symbol.dispose]: () => {
      isOver = true;
      reader.cancel().catch(ignore("the launcher's pipe was closed already"));
    },
  };
}
