import type { Engine, GenerationEvent, SequenceRequest } from "../../runtime/contract/generation.js";
import { GenerationFailed } from "../errors.js";
import { type TokenFeatures, toTokenFeatures } from "./features.js";

export interface TextToken extends TokenFeatures {
  readonly text: string;
}

/** Tokens of an input that were read together. The whole answer is the sum of its pieces, so streamed and whole agree. */
export interface InputPiece {
  readonly index: number;
  readonly tokens: readonly TextToken[];
}

interface Usage {
  readonly prompt_tokens: number;
  readonly total_tokens: number;
}

/** Every token of every input, in order. */
export interface TextFeatures {
  readonly object: "features";
  readonly model: string;
  readonly data: readonly InputPiece[];
  readonly usage: Usage;
}

/** A piece of one input; the last chunk has none, and the usage. */
export interface TextFeaturesChunk {
  readonly object: "features.chunk";
  readonly model: string;
  readonly data: readonly InputPiece[];
  readonly usage?: Usage;
}

/**
 * What the engine reads, as it comes: the tokens of an input in order, the inputs in turns.
 * @throws GenerationFailed at the first input that fails; leaving the loop stops the others.
 */
export async function* inputPieces(
  events: AsyncIterable<GenerationEvent>,
  sequences: readonly SequenceRequest[],
  engine: Engine,
): AsyncGenerator<InputPiece, void> {
  let open = sequences.length;
  for await (const event of events) {
    if (event.type === "error") throw new GenerationFailed(event.error);
    if (event.type === "end") open -= 1;
    if (event.type !== "features") continue;
    const { index, start, readings } = event;
    const ids = sequences[index]?.prompt.slice(start, start + readings.length);
    if (ids === undefined) throw new RangeError(`the engine speaks of input ${index}, of ${sequences.length}`);
    const texts = engine.tokenTexts(ids);
    const tokens = readings.map((reading, i) => {
      const { pos, token_id, saes } = toTokenFeatures(start + i, ids[i] ?? 0, reading);
      return { pos, token_id, text: texts[i] ?? "", saes };
    });
    yield { index, tokens };
  }
  if (open > 0) throw new Error(`the engine fell silent with ${open} inputs open`);
}

/** The whole answer. */
export async function textFeatures(
  model: string,
  pieces: AsyncIterable<InputPiece>,
  inputs: number,
  promptTokens: number,
): Promise<TextFeatures> {
  const data = Array.from({ length: inputs }, (_, index) => ({ index, tokens: [] as TextToken[] }));
  for await (const { index, tokens } of pieces) data[index]?.tokens.push(...tokens);
  return { object: "features", model, data, usage: toUsage(promptTokens) };
}

/** The answer in chunks, one per piece; usage last. */
export async function* textFeaturesChunks(
  model: string,
  pieces: AsyncIterable<InputPiece>,
  promptTokens: number,
): AsyncGenerator<TextFeaturesChunk, void> {
  for await (const piece of pieces) yield { object: "features.chunk", model, data: [piece] };
  yield { object: "features.chunk", model, data: [], usage: toUsage(promptTokens) };
}

function toUsage(promptTokens: number): Usage {
  return { prompt_tokens: promptTokens, total_tokens: promptTokens };
}
