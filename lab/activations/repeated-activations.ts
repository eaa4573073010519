import { z } from "zod";
import { isJsonObject, type JsonObject } from "../../models/model-file.js";
import type { ActivationSource } from "./activation-source.js";
import { resumedState } from "./resumed-state.js";

const State = z.object({ pass: z.int(), source: z.custom<JsonObject>(isJsonObject) });

/** Opens a source of the pass of this number, from 0, where it was when it gave this state. */
export type OpenPass = (pass: number, state?: JsonObject) => Promise<ActivationSource>;

/** A source that is read several times, in another order each time. */
export class RepeatedActivations implements ActivationSource {
  private constructor(
    readonly passes: number,
    private readonly openPass: OpenPass,
    private pass: number,
    private source: ActivationSource,
    private readonly onNotice: (line: string) => void,
  ) {}

  static async open(
    passes: number,
    openPass: OpenPass,
    onNotice: (line: string) => void,
    resumed?: JsonObject,
  ): Promise<RepeatedActivations> {
    const state = resumedState(State, resumed);
    const pass = state?.pass ?? 0;
    const source = await openPass(pass, state?.source);
    return new RepeatedActivations(passes, openPass, pass, source, onNotice);
  }

  get width(): number {
    return this.source.width;
  }

  async fill(into: Float32Array): Promise<number> {
    let filled = await this.source.fill(into);
    while (filled * this.width < into.length && this.pass + 1 < this.passes) {
      this.pass++;
      this.onNotice(`the text is at its end and read again (pass ${this.pass + 1} of ${this.passes})`);
      this.source = await this.openPass(this.pass);
      filled += await this.source.fill(into.subarray(filled * this.width));
    }
    return filled;
  }

  state(): JsonObject {
    return { pass: this.pass, source: this.source.state() } satisfies z.infer<typeof State>;
  }
}
