/**
 * The handlers of the methods for devices.
 *
 * @module
 */
import type { Devices } from "../../auth/devices.ts";
import { type Pairing, toPaired } from "../../auth/pairing.ts";
import type { DEVICE_METHODS, DeviceRole } from "../../core/methods/device.ts";
import { AppError } from "../../core/errors.ts";
import type { MethodInput } from "../../core/methods.ts";
import type { Handlers, MethodCall } from "../methods.ts";

/** What the gateway is given of devices. */
export interface DeviceDesk {
  devices: Pick<Devices, "rotate" | "revoke">;
  pairing: Pick<Pairing, "list" | "approve" | "reject" | "invite">;
}

/** The rows for the table of methods. */
export function deviceHandlers(
  desk: DeviceDesk | undefined,
): Pick<Handlers, keyof typeof DEVICE_METHODS> {
  const acts = (): DeviceDesk => {
    if (desk !== undefined) return desk;
    throw new AppError("unavailable", "There are no devices here");
  };
  const approve = async (
    params: MethodInput<"device.pair.approve">,
    { caller }: MethodCall,
    role?: DeviceRole,
  ) => {
    const device = await acts().pairing.approve(caller.authority, {
      ...params,
      ...(role === undefined ? {} : { role }),
    });
    return { requestId: params.requestId, device: toPaired(device) };
  };
  const reject = async (
    { requestId }: MethodInput<"device.pair.reject">,
    { caller }: MethodCall,
    role?: DeviceRole,
  ) => ({
    requestId,
    ...await acts().pairing.reject(caller.authority, {
      requestId,
      ...(role === undefined ? {} : { role }),
    }),
  });
  return {
    "device.pair.list": () => acts().pairing.list(),
    "device.pair.approve": (params, call) => approve(params, call),
    "device.pair.reject": (params, call) => reject(params, call),
    "node.pair.list": () => acts().pairing.list("node"),
    "node.pair.approve": (params, call) => approve(params, call, "node"),
    "node.pair.reject": (params, call) => reject(params, call, "node"),
    "device.token.rotate": async (params, { caller }) => {
      const { deviceId: id, role = "operator" } = params;
      const { token, row, at } = await acts().devices.rotate(
        { id, role },
        caller.authority,
      );
      const { scopes } = row;
      return { deviceId: id, role, token, scopes, rotatedAtMs: at };
    },
    "device.token.revoke": async (params, { caller }) => {
      const { deviceId: id, role = "operator" } = params;
      const { at } = await acts().devices.revoke(
        { id, role },
        caller.authority,
      );
      return { deviceId: id, role, revokedAtMs: at };
    },
    "device.bootstrap.create": async (params, { caller }) => {
      const made = await acts().pairing.invite(caller.authority, params);
      const { id: inviteId, role, scopes, expiresAt } = made.row;
      return { inviteId, code: made.code, role, scopes, expiresAt };
    },
  };
}
