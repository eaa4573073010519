import type { Linear, LinearPart } from "../forward.js";

/** One matrix of a checkpoint, with its bias if it has one. */
export const matrix = (
  name: string,
  { in: columns, bias, ...part }: Omit<LinearPart, "name"> & Pick<Linear, "in" | "bias">,
): Linear => ({ parts: [{ name, ...part }], in: columns, ...(bias === undefined ? {} : { bias }) });
