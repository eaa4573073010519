import type { SamplingParams } from "../../runtime/contract/generation.js";
import { eventCredit } from "../../runtime/engine/event-credit.js";
import { EngineLoop } from "../../runtime/engine/loop.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { sequenceRequest } from "../runtime/engine/requests.js";

/** What draws from all tokens, as OpenAI's defaults do; with a temperature of 0 the likeliest is taken. */
export const sampling = (temperature: number): SamplingParams => ({
  temperature,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 1,
});

/** Endless texts in an engine's loop of their own, which takes steps when it is told to and whose reader keeps up. */
export class LoopStreams implements Disposable {
  readonly #loop: EngineLoop;
  /** Of each text, so far. */
  readonly #tokens: number[];

  /** Reads a prompt, once for all of the texts that begin with it, and decodes a token of each. */
  constructor(
    runner: Runner,
    { window, sinks }: { readonly window: number; readonly sinks: number },
    prompt: readonly number[],
    count: number,
  ) {
    this.#tokens = new Array<number>(count).fill(0);
    const options = {
      window,
      sinks,
      parallel: count,
      parking: count,
      stallTimeoutMs: 60_000,
      eosTokenIds: [],
      tokens: null,
      fullLength: window,
      saes: new AttachedSaes([]),
    };
    this.#loop = new EngineLoop(runner, options, (outbox) => {
      for (const { request, events } of outbox)
        for (const event of events) {
          if (event.type === "error") throw new Error(event.error.message);
          if (event.type === "token") this.#tokens[event.index] = (this.#tokens[event.index] ?? 0) + 1;
          this.#loop.acknowledge(request, eventCredit(event));
        }
    });
    const text = sequenceRequest({ prompt, maxTokens: null, sampling: sampling(0) });
    this.#loop.submit(0, new Array<typeof text>(count).fill(text));
    this.decode(1, () => 0);
  }

  /** Milliseconds of the clock for each step, in which every text gets a token. */
  decode(steps: number, clock: () => number): number {
    const wanted = this.#tokens.map((tokens) => tokens + steps);
    const began = clock();
    while (this.#tokens.some((tokens, i) => tokens < (wanted[i] ?? 0))) this.#loop.step();
    return (clock() - began) / steps;
  }

  [Symbol.dispose](): void {
    this.#loop[Symbol.dispose]();
  }
}
