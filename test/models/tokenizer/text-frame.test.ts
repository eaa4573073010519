import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import { readFramingTokens } from "../../../models/tokenizer/text-frame.js";
import { temporaryFolder, thrownBy } from "../weights/write-safetensors.js";

const TEXT = { Sequence: { id: "A", type_id: 0 } };
const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
const SPECIAL = { "<s>": { id: "<s>", ids: [7], tokens: ["<s>"] }, "</s>": { id: "</s>", ids: [8, 9], tokens: [] } };
const template = (...single: object[]) => ({ type: "TemplateProcessing", single, special_tokens: SPECIAL });
const FRONT = template(special("<s>"), TEXT);
const BYTES = { type: "ByteLevel", add_prefix_space: false };
const sequence = (...processors: object[]) => ({ type: "Sequence", processors });
const roberta = { type: "RobertaProcessing", cls: ["<s>", 7], sep: ["</s>", 8] };
const ASKED = { add_bos_token: true, add_eos_token: true, bos_token: "<s>", eos_token: { content: "</s>" } };

function folderWith(processor: object | null, config: object | null): string {
  const folder = temporaryFolder();
  const tokenizer = {
    added_tokens: [{ id: 7, content: "<s>" }],
    post_processor: processor,
    model: { vocab: { a: 0, "</s>": 5 } },
  };
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  if (config) writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(config));
  return folder;
}

const read = (processor: object | null, config: object | null = null) =>
  readFramingTokens(folderWith(processor, config));

describe("the special tokens around a text", () => {
  it.each([
    ["those of tokenizer.json's template", FRONT, null, [7], []],
    ["before and behind, each with all its ids", template(special("<s>"), TEXT, special("</s>")), null, [7], [8, 9]],
    ["those of a part of a sequence", sequence(BYTES, FRONT), null, [7], []],
    ["Roberta's ends", roberta, null, [7], [8]],
    ["Bert's ends", { ...roberta, type: "BertProcessing" }, null, [7], [8]],
    ["none where the post-processor adds none (GPT-2, Qwen2)", BYTES, null, [], []],
    ["not tokenizer_config.json's where tokenizer.json has a post-processor", BYTES, ASKED, [], []],
    ["nor is its no heard there", FRONT, { ...ASKED, add_bos_token: false }, [7], []],
    ["tokenizer_config.json's where tokenizer.json has no post-processor", null, ASKED, [7], [5]],
    ["none where neither says so", null, { bos_token: "<s>" }, [], []],
  ])("%s", (_, processor, config, before, after) => {
    expect(read(processor, config).frame).toEqual({ before, after });
  });

  it("make the beginning-of-text token known, also where texts do not begin with it", () => {
    expect(read(FRONT, { bos_token: "a" }).bosTokenId).toBe(7);
    expect(read(BYTES, { bos_token: "a" }).bosTokenId).toBe(0);
    expect(read(BYTES, { bos_token: null }).bosTokenId).toBeUndefined();
    expect(readFramingTokens(temporaryFolder())).toMatchObject({ frame: { before: [], after: [] } });
  });

  it("are told of where the files disagree", () => {
    const disagreeing = /add_bos_token: true, the post-processor of tokenizer.json otherwise: that counts/;
    expect(read(BYTES, ASKED).notice).toMatch(disagreeing);
    expect(read(FRONT, { add_bos_token: false }).notice).toMatch(/add_bos_token: false/);
    for (const [processor, config] of [
      [FRONT, ASKED],
      [null, ASKED],
      [FRONT, {}],
      [BYTES, { add_bos_token: false }],
    ] as const)
      expect(read(processor, config).notice).toBeNull();
  });

  it.each([
    [{ type: "Mystery" }, null, /tokenizer\.json: post_processor\.type is "Mystery", but .* known here are Template/],
    [template(special("<s>")), null, /post_processor\.single is .*text in it once/],
    [template(TEXT, TEXT), null, /text in it once/],
    [template({ Sequence: { id: "B" } }), null, /SpecialToken or the Sequence A/],
    [template(special("<t>"), TEXT), null, /special_tokens is .*names "<t>"/],
    [sequence(FRONT, roberta), null, /processors is .*only one of them may add/],
    [{ type: "BertProcessing", cls: ["<s>", 7] }, null, /post_processor\.sep is absent/],
    [null, { add_bos_token: "yes" }, /tokenizer_config\.json: add_bos_token is "yes"/],
    [
      null,
      { add_bos_token: true, bos_token: "<t>" },
      /tokenizer_config\.json: bos_token is "<t>", but add_bos_token asks/,
    ],
    [null, { add_eos_token: true }, /eos_token is absent, but add_eos_token asks/],
  ])("are refused by name where they are not understood: %j %j", (processor, config, reason) => {
    const error = thrownBy(() => read(processor, config));
    expect(error).toBeInstanceOf(ModelFormatError);
    expect(error).toMatchObject({ message: expect.stringMatching(reason) });
  });
});
