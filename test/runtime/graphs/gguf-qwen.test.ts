import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { GGUF_ARCHITECTURES } from "../../../models/gguf/architectures.js";
import { openModelSource } from "../../../models/model-source.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { expectedTensors, goldenFolder, goldenSequences, maxDifference } from "../../golden-tensors.js";
import { f32, type WrittenTensor, writeGguf } from "../../models/gguf/write-gguf.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A golden folder as llama.cpp's converter would write it: GGUF's names and keys, every tensor in f32. */
function asGguf(name: string): string {
  const source = openModelSource(goldenFolder(`architectures/${name}`));
  const config = source.config().values;
  const rope = Object(config.rope_parameters);
  const patterns = new Map([...(GGUF_ARCHITECTURES.get(name)?.tensors ?? [])].map(([gguf, hf]) => [hf, gguf]));
  const tensors: Record<string, WrittenTensor> = {};
  using checkpoint = source.openCheckpoint();
  for (const tensor of checkpoint.names()) {
    const layer = /\.(\d+)\./.exec(tensor)?.[1] ?? "";
    const pattern = patterns.get(tensor.replace(/\.\d+\./, ".{}."));
    if (pattern === undefined) throw new Error(`GGUF has no name for ${tensor}`);
    tensors[pattern.replace("{}", layer)] = f32(checkpoint.shape(tensor), checkpoint.readF32(tensor));
  }
  const whole = (value: unknown) => ({ uint32: Number(value) });
  const real = (value: unknown) => ({ float32: Number(value) });
  const heads = Number(config.num_attention_heads);
  const headDim = Number(config.head_dim ?? Number(config.hidden_size) / heads);
  return writeGguf(
    join(folder, `${name}.gguf`),
    {
      "general.architecture": name,
      [`${name}.vocab_size`]: whole(config.vocab_size),
      [`${name}.context_length`]: whole(config.max_position_embeddings),
      [`${name}.embedding_length`]: whole(config.hidden_size),
      [`${name}.block_count`]: whole(config.num_hidden_layers),
      [`${name}.feed_forward_length`]: whole(config.intermediate_size),
      [`${name}.attention.head_count`]: whole(heads),
      [`${name}.attention.head_count_kv`]: whole(config.num_key_value_heads),
      [`${name}.attention.key_length`]: whole(headDim),
      [`${name}.attention.value_length`]: whole(headDim),
      [`${name}.attention.layer_norm_rms_epsilon`]: real(config.rms_norm_eps),
      [`${name}.rope.freq_base`]: real(rope.rope_theta),
    },
    tensors,
  );
}

it.each(["qwen2", "qwen3"])("%s in a GGUF file gives the logits of transformers", async (name) => {
  const model = await compileModel({ path: asGguf(name), precision: "auto", cacheRoot: join(folder, "cache") });
  expect(model).toMatchObject({ modelType: name, precision: "f32" });
  using runner = new Runner(model, { window: 64, threads: 1 });
  const expected = expectedTensors(`architectures/${name}`);
  for (const [i, ids] of goldenSequences(`architectures/${name}`).entries()) {
    const cache = runner.openCache({ window: 64, sinks: 2 });
    const logits = runner.prefill(cache, cache.allocate(), ids, [...ids.keys()]);
    expect(maxDifference(logits, expected.get(`seq${i}.logits`)?.values ?? [])).toBeLessThan(2e-4);
    runner.closeCache(cache);
  }
});
