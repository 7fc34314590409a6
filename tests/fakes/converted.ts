/** A provider that speaks no dialect of our API: it is asked in ours. */
import type {
  ModelEvent,
  ModelRequest,
  Provider,
} from "../../src/core/model.ts";

/** Plays its events, then fails, hangs or ends. */
export class Converted implements Provider {
  readonly id = "conv";
  readonly kind = "anthropic";
  readonly asked: ModelRequest[] = [];
  cancelled = Promise.withResolvers<void>();
  events: ModelEvent[] = [];
  failure: Error | undefined;
  hangs = false;

  async *stream(
    request: ModelRequest,
    signal: AbortSignal,
  ): AsyncGenerator<ModelEvent, void, undefined> {
    this.asked.push(request);
    yield* this.events;
    if (this.hangs) {
      await new Promise<void>((resolve) =>
        signal.addEventListener("abort", () => resolve())
      );
      this.cancelled.resolve();
      throw signal.reason;
    }
    if (this.failure !== undefined) throw this.failure;
  }

  models(): Promise<{ id: string }[]> {
    return Promise.resolve([{ id: "conv-1" }]);
  }
}
