import { existsSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { ConfigFields } from "./config.js";
import { ModelFormatError } from "./errors.js";
import type { GenerationConfig } from "./generation-config.js";
import { splitNames } from "./gguf/gguf-files.js";
import { openGguf } from "./gguf/gguf-source.js";
import { openFolder } from "./hugging-face-folder.js";
import type { JsonObject } from "./model-file.js";
import type { Checkpoint } from "./weights/checkpoint.js";

/** A tokenizer.json, as text and read; errors about it name the file. */
export interface TokenizerJson {
  readonly file: string;
  readonly text: string;
  readonly value: JsonObject;
}

/** What turns a conversation into a prompt: a Jinja template, and the special tokens that it may name. */
export interface ChatTemplate {
  /** The file it stands in, for errors. */
  readonly file: string;
  readonly template: string;
  /** By the names that templates use: bos_token, eos_token, unk_token, pad_token; absent where the model has none. */
  readonly tokens: Readonly<Record<string, string>>;
}

/**
 * A model on the disk in Hugging Face's terms, whatever its format: config.json's fields, tokenizer.json, tensors under
 * the names and in the row order that transformers gives them. Each part is read when it is asked for.
 */
export interface ModelSource {
  /** Absolute: the folder or the file. */
  readonly path: string;
  /** Contents that decide what is compiled besides the weights' files. */
  readonly configFile: string;
  /** @throws ModelFormatError as all of these, naming file and field. */
  config(): ConfigFields;
  generation(): GenerationConfig;
  /** Looks without reading it. */
  hasTokenizer(): boolean;
  /** As tokenizer.json holds it; null where the model has none. */
  tokenizer(): TokenizerJson | null;
  /** null where the model has none. */
  chatTemplate(): ChatTemplate | null;
  /** The caller closes it. */
  openCheckpoint(): Checkpoint;
}

/**
 * The model at a path: a GGUF file (of a split model the first), a folder in Hugging Face layout, or a folder that holds
 * one GGUF model.
 * @throws ModelFormatError if there is nothing there, or nothing that is a model.
 */
export function openModelSource(path: string): ModelSource {
  const found = resolve(path);
  const entry = statSync(found, { throwIfNoEntry: false });
  if (entry?.isFile()) return openGguf(found);
  const [only, ...more] = entry?.isDirectory() && !existsSync(join(found, "config.json")) ? ggufModels(found) : [];
  if (more.length > 0)
    throw new ModelFormatError(
      found,
      `there are several models in this folder; name one: ${[only, ...more].join(", ")}`,
    );
  return only === undefined ? openFolder(found) : openGguf(join(found, only));
}

/** Names of the GGUF files in a folder, of split models the first only. */
const ggufModels = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".gguf"))
    .filter((name) => (splitNames(name)?.number ?? 1) === 1)
    .sort();
