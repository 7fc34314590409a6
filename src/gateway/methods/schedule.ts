/**
 * The handlers of the methods for jobs, wake-ups and the heartbeat: each says
 * who asks, and whose words they bring.
 *
 * @module
 */
import { AppError } from "../../core/errors.ts";
import type { ScheduleActor } from "../../core/schedule.ts";
import type {
  ScheduleBus,
  ScheduleInputOf,
  ScheduleMethod,
} from "../../core/methods/schedule.ts";
import type { GatewayDeps } from "../deps.ts";
import type { Handlers, MethodCall } from "../methods.ts";
import { labelsOf } from "../api/chat_completions/agent.ts";

function busOf({ schedule }: GatewayDeps): ScheduleBus {
  if (schedule !== undefined) return schedule;
  throw new AppError("unavailable", "The schedule is off");
}

/** The rows for the table of methods. */
export function scheduleHandlers(
  deps: GatewayDeps,
): Pick<Handlers, ScheduleMethod> {
  const actorOf = async ({ caller }: MethodCall): Promise<ScheduleActor> => ({
    authority: caller.authority,
    label: labelsOf(caller, deps.clock.now()).user,
    mainKey: await caller.toKey("main", deps.agents().defaultId),
  });
  const act =
    <M extends ScheduleMethod>(method: M) =>
    async (params: ScheduleInputOf<M>, call: MethodCall) =>
      await busOf(deps).run(method, params, await actorOf(call));
  return {
    "cron.status": act("cron.status"),
    "cron.list": act("cron.list"),
    "cron.preview": act("cron.preview"),
    "cron.add": act("cron.add"),
    "cron.update": act("cron.update"),
    "cron.remove": act("cron.remove"),
    "cron.run": act("cron.run"),
    "cron.runs": act("cron.runs"),
    wake: act("wake"),
    "last-heartbeat": act("last-heartbeat"),
    "set-heartbeats": act("set-heartbeats"),
  };
}
