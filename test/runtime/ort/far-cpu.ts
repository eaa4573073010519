import { CPU, type Device } from "../../../runtime/ort/device.js";

/** The processors, treated as a device that the host cannot reach into: what is done for GPUs, where there is none. */
export const FAR_CPU: Device = { ...CPU, name: "far", isHost: false };
