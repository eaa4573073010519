import { existsSync } from "node:fs";
import { join } from "node:path";
import { readFolderChatTemplate } from "./chat/hugging-face-chat-template.js";
import { readConfig } from "./config.js";
import { readGenerationConfig } from "./generation-config.js";
import { readJsonFile } from "./model-file.js";
import type { ModelSource } from "./model-source.js";
import { readFramingTokens } from "./tokenizer/text-frame.js";
import { openCheckpoint } from "./weights/checkpoint.js";

/** A folder as transformers saves it: config.json, safetensors, tokenizer.json, generation_config.json. */
export function openFolder(path: string): ModelSource {
  const tokenizerFile = join(path, "tokenizer.json");
  return {
    path,
    configFile: join(path, "config.json"),
    config: () => readConfig(path),
    generation: () => {
      const { bosTokenId, notices = [], ...config } = readGenerationConfig(path);
      const framing = readFramingTokens(path);
      return {
        ...config,
        frame: framing.frame,
        bosTokenId: framing.bosTokenId ?? bosTokenId,
        notices: framing.notice === null ? notices : [...notices, framing.notice],
      };
    },
    hasTokenizer: () => existsSync(tokenizerFile),
    tokenizer: () => (existsSync(tokenizerFile) ? { file: tokenizerFile, ...readJsonFile(tokenizerFile) } : null),
    chatTemplate: () => readFolderChatTemplate(path),
    openCheckpoint: () => openCheckpoint(path),
  };
}
