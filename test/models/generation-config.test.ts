import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compileModel } from "../../models/compile.js";
import { readGenerationConfig } from "../../models/generation-config.js";
import { writeRandomLlama } from "./random-model.js";
import { temporaryFolder } from "./weights/write-safetensors.js";

function folderWith(values: object): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "generation_config.json"), JSON.stringify(values));
  return folder;
}
const read = (values: object) => readGenerationConfig(folderWith(values));

describe("generation_config.json", () => {
  it("gives the authors' tokens and sampling, the embedded model's for one", () => {
    expect(readGenerationConfig("models/default")).toEqual({
      bosTokenId: 0,
      eosTokenIds: [0],
      temperature: 0.8,
      topP: 0.95,
    });
    expect(read({ eos_token_id: [1, 2], top_k: 50, temperature: null })).toEqual({ eosTokenIds: [1, 2], topK: 50 });
    expect(read({ min_p: 0.05, repetition_penalty: 1.1, max_new_tokens: 2048 })).toEqual({
      minP: 0.05,
      repetitionPenalty: 1.1,
      maxNewTokens: 2048,
    });
  });

  it("gives nothing where there is none, and is greedy where it says do_sample: false", () => {
    expect(readGenerationConfig(temporaryFolder())).toEqual({});
    const greedy = { do_sample: false, temperature: 0.6, top_p: 0.9, repetition_penalty: 1.2, eos_token_id: 7 };
    expect(read(greedy)).toEqual({ eosTokenIds: [7], temperature: 0, repetitionPenalty: 1.2 });
  });

  it("names what it says that is not done, but not what asks for nothing", () => {
    const asked = {
      no_repeat_ngram_size: 3,
      suppress_tokens: [5],
      forced_bos_token_id: 0,
      num_beams: 4,
      typical_p: 0.9,
    };
    const [notice = "", ...more] = read(asked).notices ?? [];
    expect(more).toEqual([]);
    expect(notice.split(": ")[1]?.split(", ").sort()).toEqual(Object.keys(asked).sort());
    const neutral = {
      no_repeat_ngram_size: 0,
      suppress_tokens: [],
      forced_bos_token_id: null,
      num_beams: 1,
      typical_p: 1,
    };
    expect(read({ ...neutral, use_cache: true, pad_token_id: 3 })).toEqual({});
  });

  it("has what is not done told when the model is loaded", async () => {
    const path = folderWith({ no_repeat_ngram_size: 3, num_beams: 4 });
    const sizes = { layers: 1, hidden: 16, heads: 2, kvHeads: 1, headDim: 8, intermediate: 16, vocab: 32 };
    writeRandomLlama(path, sizes);
    const { notices } = await compileModel({ path, precision: "f32", cacheRoot: temporaryFolder() });
    expect(notices).toEqual([
      expect.stringMatching(/not done unless a request asks.*: num_beams, no_repeat_ngram_size$/),
    ]);
  });

  it.each([
    [{ temperature: -1 }, /generation_config.json: temperature is -1/],
    [{ top_p: 1.5 }, /top_p is 1.5/],
    [{ top_k: "many" }, /top_k is "many"/],
    [{ min_p: 2 }, /min_p is 2/],
    [{ repetition_penalty: 0 }, /repetition_penalty is 0, but it must be a number from 0.01 to 100/],
    [{ max_new_tokens: 0 }, /max_new_tokens is 0/],
    [{ do_sample: "no" }, /do_sample is "no"/],
  ])("is refused with field and value: %j", (values, reason) => {
    expect(() => read(values)).toThrow(reason);
  });
});
