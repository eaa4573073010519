import type { CompiledModel } from "../../models/compile.js";
import type { KvType } from "../../models/keys-values/kv-format.js";
import { type Costs, plan } from "../../runtime/engine/plan.js";
import { promptGrid } from "../../runtime/engine/prompt-grid.js";

/** The chunks that the engine takes of a prompt while nothing else runs. */
export class PlannedChunks {
  #costs: Costs = { decode: 0, promptToken: 0, readToken: 0, swap: 0 };

  constructor(
    readonly model: CompiledModel,
    readonly window: number,
    readonly kv: KvType,
  ) {}

  /** Tokens of the next chunk where `prefilled` are read and `left` are not. */
  next(prefilled: number, left: number): number {
    const standing = {
      id: 0,
      request: 0,
      standing: "running",
      paused: false,
      parkable: false,
      since: 0,
      batch: null,
    } as const;
    const costs = { keys: this.window, logits: 0, comparisons: 0, read: false };
    const sequence = { ...standing, prefilled, left, ...promptGrid(this.model, true, this.window, this.kv), ...costs };
    const { chunks } = plan({ sequences: [sequence], parallel: 1, parking: 0, costs: this.#costs, step: 0 });
    return chunks[0]?.[0]?.tokens ?? 0;
  }

  measured(tokens: number, ms: number): void {
    const known = this.#costs.promptToken;
    this.#costs = { ...this.#costs, promptToken: known === 0 ? ms / tokens : 0.7 * known + (0.3 * ms) / tokens };
  }
}
