/** Where a model is to run, as a user says it. */
export type DeviceChoice =
  | { readonly kind: "cpu" }
  /** CUDA where everything that it needs is there, else the CPU. */
  | { readonly kind: "auto" }
  /** The GPU of this number, as the driver counts them. */
  | { readonly kind: "cuda"; readonly index: number };

/** "cpu", "auto", "cuda" (the first GPU) or "cuda:3"; null for anything else. */
export function parseDevice(text: string): DeviceChoice | null {
  if (text === "cpu" || text === "auto") return { kind: text };
  const [whole, index = "0"] = /^cuda(?::(\d{1,3}))?$/.exec(text) ?? [];
  return whole === undefined ? null : { kind: "cuda", index: Number(index) };
}

/** The text that `parseDevice` reads. */
export const deviceName = (device: DeviceChoice): string =>
  device.kind === "cuda" ? `cuda:${device.index}` : device.kind;
