/**
 * Hooks: plugins at the points of a turn. They run before anything is decided,
 * in the order their manifests state, each seeing what the one before it left.
 *
 * Never: a failing hook before an act lets the act through; a hook does what its
 * manifest does not declare; a hook without the grant is shown what is said.
 *
 * @module
 */
import { z } from "zod";
import { parseJson } from "../core/bounded.ts";
import { AppError, errorText } from "../core/errors.ts";
import type {
  HookEvent,
  HookOutcome,
  HookPoint,
  Hooks,
} from "../core/hooks.ts";
import { join, type Label } from "../core/label.ts";
import type { Log } from "../core/log.ts";
import type { PluginHook } from "../core/plugin.ts";
import type { Clock } from "../core/time.ts";
import type { PluginMark } from "../store/plugins.ts";
import { guestLabel, type Instance } from "./instance.ts";

const TEXT_CHARS_MAX = 262_144;

/** What a hook answers; nothing at all is fine too. */
export const HookAnswer = z.strictObject({
  /** For the model to read beside it. Needs `annotate`. */
  note: z.string().max(16_384).optional(),
  /** In place of the text. Needs `change`. */
  text: z.string().max(TEXT_CHARS_MAX).optional(),
  /** In place of a call's arguments. Needs `change`. */
  args: z.record(z.string(), z.json()).optional(),
  /** Why it must not go on. Needs `cancel`. */
  cancel: z.string().min(1).max(512).optional(),
});
type HookAnswer = z.infer<typeof HookAnswer>;

const JSON_LIMITS = { depthMax: 32, nodesMax: 10_000 };

interface Seat {
  instance: Instance;
  hook: PluginHook;
}

/** What the hooks are made of. */
export interface PluginHooksDeps {
  /** The plugins that run now. */
  running(): Iterable<Instance>;
  clock: Clock;
  log: Log;
}

/** The hooks of the plugins that run. */
export class PluginHooks implements Hooks {
  readonly #deps: PluginHooksDeps;
  #seats: Map<HookPoint, Seat[]> | undefined;

  constructor(deps: PluginHooksDeps) {
    this.#deps = deps;
  }

  /** Other plugins run now. */
  changed(): void {
    this.#seats = undefined;
  }

  has(point: HookPoint): boolean {
    return this.#at(point).length > 0;
  }

  holds(point: HookPoint): boolean {
    return this.#at(point).some(({ hook }) =>
      hook.may.includes("change") || hook.may.includes("cancel")
    );
  }

  async run(event: HookEvent, signal?: AbortSignal): Promise<HookOutcome> {
    let now = event;
    const notes: { by: string; text: string }[] = [];
    let changed: { text?: string; args?: unknown } = {};
    let label: Label | undefined;
    for (const seat of this.#at(event.point)) {
      const by = seat.instance.id;
      let answer: HookAnswer;
      let mark: PluginMark;
      try {
        ({ answer, mark } = await this.#ask(seat, now, signal));
      } catch (error) {
        signal?.throwIfAborted();
        this.#deps.log("warn", "plugin.hook_failed", {
          plugin: by,
          point: event.point,
          error: errorText(error),
        });
        seat.instance.note("error", errorText(error));
        if (!event.point.startsWith("before_")) continue;
        const reason = `the hook of plugin "${by}" failed: ${errorText(error)}`;
        return { notes, cancelled: { by, reason } };
      }
      const { note, text, args } = answer;
      const cancel = answer.cancel === undefined
        ? undefined
        : reasonOf(answer.cancel, mark, now);
      if (note === undefined && text === undefined && args === undefined) {
        if (cancel === undefined) continue;
        return { ...changed, notes, cancelled: { by, reason: cancel } };
      }
      label = join(
        label ?? guestLabel(by, this.#deps.clock.now()),
        mark.label,
      );
      if (note !== undefined) notes.push({ by, text: note });
      if (text !== undefined) changed = { ...changed, text };
      if (args !== undefined) changed = { ...changed, args };
      if (cancel !== undefined) {
        return { ...changed, notes, label, cancelled: { by, reason: cancel } };
      }
      now = {
        ...now,
        label: join(now.label, label),
        ...text === undefined ? {} : { text },
        ...args === undefined || now.tool === undefined
          ? {}
          : { tool: { ...now.tool, args } },
      };
    }
    return { ...changed, notes, ...label === undefined ? {} : { label } };
  }

  #at(point: HookPoint): readonly Seat[] {
    if (this.#seats === undefined) {
      const all = [...this.#deps.running()].flatMap((instance) =>
        instance.can.hooks.map((hook) => ({ instance, hook }))
      );
      all.sort((a, b) =>
        a.hook.order - b.hook.order || (a.instance.id < b.instance.id ? -1 : 1)
      );
      this.#seats = Map.groupBy(all, ({ hook }) => hook.point);
    }
    return this.#seats.get(point) ?? [];
  }

  async #ask(
    seat: Seat,
    event: HookEvent,
    signal: AbortSignal | undefined,
  ): Promise<{ answer: HookAnswer; mark: PluginMark }> {
    const { instance, hook } = seat;
    const { output, mark } = await instance.call({
      export: hook.export,
      what: `hook "${hook.point}"`,
      input: JSON.stringify(shown(seat, event)),
      context: {
        kind: "hook",
        label: join(
          guestLabel(instance.id, this.#deps.clock.now()),
          seen(seat, event),
        ),
      },
      ...signal === undefined ? {} : { signal },
    });
    if (output.trim() === "") return { answer: {}, mark };
    const answer = HookAnswer.safeParse(parseJson(output, JSON_LIMITS));
    if (!answer.success) {
      throw new AppError("bad_input", "its answer is not a hook's");
    }
    checkMay(hook, answer.data);
    return { answer: answer.data, mark };
  }
}

/** A reason is shown without a label: it says nothing its reader may not know. */
function reasonOf(
  reason: string,
  { label: { secrecy } }: PluginMark,
  { label }: HookEvent,
): string {
  return secrecy.every((of) => label.secrecy.includes(of))
    ? reason
    : "it does not say why here: it read private data";
}

function checkMay({ may }: PluginHook, answer: HookAnswer): void {
  const done = [
    ["annotate", answer.note],
    ["change", answer.text ?? answer.args],
    ["cancel", answer.cancel],
  ] as const;
  const other = done.find(([act, value]) =>
    value !== undefined && !may.includes(act)
  );
  if (other === undefined) return;
  throw new AppError(
    "forbidden",
    `its manifest does not say that it may ${other[0]}`,
  );
}

/** Without the grant a hook learns that something happened, not what. */
function shown({ instance }: Seat, event: HookEvent): unknown {
  const { label: _, text, tool, ...where } = event;
  const isShown = instance.can.conversation;
  return {
    ...where,
    ...tool === undefined ? {} : { tool: isShown ? tool : { name: tool.name } },
    ...text === undefined || !isShown ? {} : { text },
  };
}

/** The label of what a hook was shown. */
function seen({ instance }: Seat, event: HookEvent): Label {
  return instance.can.conversation
    ? event.label
    : { integrity: "owner", secrecy: [], origins: [] };
}
