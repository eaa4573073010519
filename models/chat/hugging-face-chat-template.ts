import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { parseFields } from "../config.js";
import { ModelFormatError } from "../errors.js";
import { readJsonObject, readTextFile } from "../model-file.js";
import type { ChatTemplate } from "../model-source.js";

/** Largest template that is read, bytes; the longest published ones are a hundredth of it. */
const LARGEST_TEMPLATE_BYTES = 1 << 20;

/** As a string, or several by name, of which "default" is the one for a conversation without tools. */
const Template = z
  .union(
    [z.string(), z.array(z.object({ name: z.string(), template: z.string() }))],
    "it must be a template, or a list of templates with names",
  )
  .refine((found) => typeof found === "string" || new Set(found.map(({ name }) => name)).size === found.length, {
    error: "it must have each name once",
  })
  .transform((found) =>
    typeof found === "string" ? found : (found.find(({ name }) => name === "default")?.template ?? ""),
  )
  .refine((template) => Buffer.byteLength(template) <= LARGEST_TEMPLATE_BYTES, {
    error: `it must have at most ${LARGEST_TEMPLATE_BYTES} bytes`,
  });

const SpecialToken = z
  .union([z.string(), z.object({ content: z.string() })], "it must be a token, or an object with its content")
  .transform((token) => (typeof token === "string" ? token : token.content));

const TokenizerConfig = z.object({
  chat_template: Template.nullish(),
  bos_token: SpecialToken.nullish(),
  eos_token: SpecialToken.nullish(),
  unk_token: SpecialToken.nullish(),
  sep_token: SpecialToken.nullish(),
  pad_token: SpecialToken.nullish(),
  cls_token: SpecialToken.nullish(),
  mask_token: SpecialToken.nullish(),
});

/**
 * The template of a folder in Hugging Face layout: chat_template.jinja, else `chat_template` of tokenizer_config.json, else
 * of chat_template.json; null where there is none, or an empty one. Special tokens are tokenizer_config.json's.
 * @throws ModelFormatError naming file and field.
 */
export function readFolderChatTemplate(folder: string): ChatTemplate | null {
  const configFile = join(folder, "tokenizer_config.json");
  const read = (file: string) => parseFields(TokenizerConfig, { file, values: readJsonObject(file) });
  const { chat_template: configured, ...special } = existsSync(configFile) ? read(configFile) : {};
  const tokens = Object.fromEntries(
    Object.entries(special).flatMap(([name, token]) => (typeof token === "string" ? [[name, token] as const] : [])),
  );
  const template = (file: string, text: string | null | undefined) => (text ? { file, template: text, tokens } : null);

  const jinjaFile = join(folder, "chat_template.jinja");
  if (existsSync(jinjaFile)) return template(jinjaFile, readTextFile(jinjaFile, LARGEST_TEMPLATE_BYTES));
  if (configured) return template(configFile, configured);
  const jsonFile = join(folder, "chat_template.json");
  return existsSync(jsonFile) ? template(jsonFile, read(jsonFile).chat_template) : null;
}

/**
 * A file that holds a template and nothing else.
 * @throws ModelFormatError where it is absent, empty, too large or not UTF-8.
 */
export function readTemplateFile(path: string): string {
  const template = readTextFile(path, LARGEST_TEMPLATE_BYTES);
  if (template === "") throw new ModelFormatError(path, "the file is empty, but it must be a chat template");
  return template;
}
