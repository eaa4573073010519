import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import { openModelSource } from "../../../models/model-source.js";
import { goldenFolder } from "../../golden-tensors.js";
import { temporaryFolder } from "../weights/write-safetensors.js";

const FRONT = { type: "TemplateProcessing", single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: {} }] };
const BEHIND = { type: "TemplateProcessing", single: [{ Sequence: {} }, { SpecialToken: { id: "</s>", type_id: 0 } }] };

function addsBos(tokenizer: object | null, config: object | null): boolean | undefined {
  const folder = temporaryFolder();
  copyFileSync(join(goldenFolder("architectures/llama"), "config.json"), join(folder, "config.json"));
  if (tokenizer) writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  if (config) writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(config));
  return openModelSource(folder).generation().addsBos;
}

describe("a text gets a beginning-of-text token", () => {
  it.each([
    ["where tokenizer_config.json says so", null, { add_bos_token: true }, true],
    ["not where it says no, whatever tokenizer.json does", { post_processor: FRONT }, { add_bos_token: false }, false],
    ["where tokenizer.json puts one in front (Llama 3)", { post_processor: FRONT }, {}, true],
    [
      "where it does so among others",
      { post_processor: { type: "Sequence", processors: [{ type: "ByteLevel" }, FRONT] } },
      null,
      true,
    ],
    ["not where it puts one behind", { post_processor: BEHIND }, null, false],
    ["not where nothing says so (GPT-2, Qwen2)", { post_processor: { type: "ByteLevel" } }, {}, false],
  ])("%s", (_, tokenizer, config, want) => {
    expect(addsBos(tokenizer, config)).toBe(want);
  });

  it("a value that is no boolean is refused by name", () => {
    expect(() => addsBos(null, { add_bos_token: "yes" })).toThrow(ModelFormatError);
    expect(() => addsBos(null, { add_bos_token: "yes" })).toThrow(/tokenizer_config\.json.*add_bos_token is "yes"/);
  });
});
