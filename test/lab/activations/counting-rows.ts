import type { ActivationSource } from "../../../lab/activations/activation-source.js";
import type { JsonObject } from "../../../models/model-file.js";

export const WIDTH = 3;

/** Opens a source of rows [n, n, n] for n = 0, 1, 2, ... */
export function countingRows(rows: number) {
  return async (state?: JsonObject): Promise<ActivationSource> => {
    let next = Number(state?.next ?? 0);
    return {
      width: WIDTH,
      async fill(into) {
        const taken = Math.min(into.length / WIDTH, rows - next);
        for (let i = 0; i < taken; i++) into.fill(next + i, i * WIDTH, (i + 1) * WIDTH);
        next += taken;
        return taken;
      },
      state: () => ({ next }),
    };
  };
}
