/**
 * `current_time`: the date and time, in any zone.
 *
 * @module
 */
import { z } from "zod";
import { AppError } from "../core/errors.ts";
import { type Tool, tool } from "../core/tool.ts";

/** The time now, as a model can use it. */
export const currentTime: Tool = tool({
  name: "current_time",
  about: "The current date and time, with weekday and UTC offset",
  input: z.strictObject({
    zone: z.string().max(64).optional().describe(
      "IANA zone such as Europe/Berlin; UTC when absent",
    ),
  }),
  scope: "chat",
  effect: "none",
  result: { integrity: "inherit", secrecy: "inherit" },
  destinations: [],
  run: ({ zone = "UTC" }, { now }) => {
    let at: Temporal.ZonedDateTime;
    try {
      at = Temporal.Instant.fromEpochMilliseconds(now()).toZonedDateTimeISO(
        zone,
      );
    } catch (error) {
      throw new AppError("bad_input", `There is no time zone "${zone}"`, {
        cause: error,
        hint: "Use an IANA name such as Europe/Berlin or America/New_York",
      });
    }
    const weekday = at.toLocaleString("en", { weekday: "long" });
    return `${weekday}, ${at.toString({ smallestUnit: "second" })}`;
  },
});
