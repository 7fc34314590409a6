/** Somebody who asks to be let in, alone and in a group. */
import { event, type FakeInbox } from "./channel.ts";

/** The two codes. */
export async function ownerOnChannel(
  { inbox, door }: Pick<FakeInbox, "inbox" | "door">,
  channel: string,
): Promise<{ code: string; group: string }> {
  await inbox.receive(event({ channel }));
  await inbox.receive(
    event({ channel, chat: { kind: "group", id: "g" }, mentioned: true }),
  );
  const pending = (await door.list()).pending
    .filter(({ place }) => place.channel === channel);
  const codeOf = (kind: string) =>
    pending.find(({ place }) => place.kind === kind)?.code ?? "";
  return { code: codeOf("direct"), group: codeOf("group") };
}
