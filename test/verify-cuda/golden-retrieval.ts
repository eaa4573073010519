import { Archive } from "../../runtime/cache/archive.js";
import type { Retrieval } from "../../runtime/cache/retrieval.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import { expectedTensors, goldenIds } from "../golden-tensors.js";
import { withRow } from "./golden-text.js";
import { type Differences, differences } from "./golden-tolerance.js";

const GEOMETRY = { window: 32, sinks: 4 };
const RETRIEVAL: Retrieval = { k: 5, fromLayer: 1, distance: 16 };
const LENGTHS = [40, 41, 60, 100, 200, 400];
const GENERATED = { prompt: 100, tokens: 21 };

/** Middle retrieval: the last token of every stored prompt, and generated tokens, against the paper's own code. */
export function retrievalDifferences(runner: Runner, quick: boolean): Differences[] {
  const [ids, expected] = [goldenIds("lm-infinite"), expectedTensors("lm-infinite")];
  const vocab = runner.model.shape.vocabSize;
  const golden = (name: string, row: number): Float32Array =>
    (expected.get(name)?.values ?? new Float32Array()).subarray(row * vocab, (row + 1) * vocab);
  const compare = (logits: readonly Float32Array[], name: string, first = 0): Differences[] =>
    logits.map((each, i) => differences(each, golden(name, first + i), vocab));
  const last = (retrieval: Retrieval, length: number) => retrieved(runner, retrieval, ids.slice(0, length), 1);
  return [
    ...LENGTHS.flatMap((length, i) =>
      quick && length !== 200 ? [] : compare(last(RETRIEVAL, length), "retrieve_k5_from1_w32_g4", i),
    ),
    ...compare(last({ ...RETRIEVAL, fromLayer: 0 }, 200), "retrieve_k5_from0_w32_g4_n200"),
    ...compare(last({ ...RETRIEVAL, distance: 32 }, 200), "retrieve_k5_from1_w32_g4_at32_n200"),
    ...compare(
      retrieved(runner, RETRIEVAL, ids.slice(0, GENERATED.prompt + GENERATED.tokens - 1), GENERATED.tokens),
      "retrieve_k5_from1_w32_g4_decode",
    ),
  ];
}

/** Logits of the last `decoded` tokens, which retrieve; those before them are prefilled. */
function retrieved(runner: Runner, retrieval: Retrieval, tokens: readonly number[], decoded: number): Float32Array[] {
  return withRow(runner, GEOMETRY, (cache, row) => {
    const { shape, activations } = runner.model;
    const archive = new Archive(shape, { ...GEOMETRY, retrieval, tokens: tokens.length, activations }, runner.device);
    try {
      const prompt = tokens.slice(0, tokens.length - decoded);
      for (let start = 0; start < prompt.length; start += GEOMETRY.window)
        runner.prefill(cache, row, prompt.slice(start, start + GEOMETRY.window), [], { archive });
      return tokens.slice(prompt.length).map((id) => runner.decode(cache, row, [id], { archive }).slice());
    } finally {
      runner.closeArchive(archive);
    }
  });
}
