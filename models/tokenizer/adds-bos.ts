import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { parseFields } from "../config.js";
import { type JsonObject, readJsonObject } from "../model-file.js";

const Said = z.object({ add_bos_token: z.boolean("it must be true or false").nullish() });

const Template = z.looseObject({ type: z.literal("TemplateProcessing"), single: z.array(z.unknown()) });
const Sequence = z.looseObject({ type: z.literal("Sequence"), processors: z.array(z.unknown()) });
const Special = z.looseObject({ SpecialToken: z.unknown() });

/**
 * Whether a text begins with the beginning-of-text token, as transformers' tokenizer of a folder has it: tokenizer_config.json
 * says so, or else the post-processor of tokenizer.json puts a special token in front.
 * @throws ModelFormatError where either is broken.
 */
export function folderAddsBos(path: string): boolean {
  const file = join(path, "tokenizer_config.json");
  const said = existsSync(file) ? parseFields(Said, { file, values: readJsonObject(file) }).add_bos_token : null;
  return said ?? putsInFront(fieldsOf(join(path, "tokenizer.json")).post_processor);
}

const fieldsOf = (file: string): JsonObject => (existsSync(file) ? readJsonObject(file) : {});

function putsInFront(processor: unknown): boolean {
  const sequence = Sequence.safeParse(processor);
  if (sequence.success) return sequence.data.processors.some(putsInFront);
  const template = Template.safeParse(processor);
  return template.success && Special.safeParse(template.data.single[0]).success;
}
