import { CacheError } from "../../models/cache/cache-error.js";
import { ModelFormatError } from "../../models/errors.js";
import { ChecksumError, HubError } from "../../models/hub/hub-error.js";
import {
  ChatTemplateFailed,
  ChatTemplateUnsupported,
  InvalidRequest,
  SetupError,
} from "../../runtime/contract/errors.js";
import { GenerationFailed, renderError } from "../errors.js";
import { UsageError } from "./flags.js";

const FOR_USERS = [
  UsageError,
  SetupError,
  ModelFormatError,
  CacheError,
  HubError,
  ChecksumError,
  GenerationFailed,
  ChatTemplateUnsupported,
  ChatTemplateFailed,
];
const NOT_INSTALLED = ["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND", "ERR_DLOPEN_FAILED"];

/** What the terminal shows of an error: its sentence, or with `debug` all of it. */
export function sentenceOf(error: unknown, debug: boolean): string {
  if (!(error instanceof Error)) return String(error);
  if (debug) return error.stack ?? error.message;
  if (error instanceof InvalidRequest) return renderError(error).body.error.message;
  if (FOR_USERS.some((known) => error instanceof known)) return error.message;
  const [line] = error.message.split("\n", 1);
  if ("code" in error && NOT_INSTALLED.includes(String(error.code)))
    return `a part is not installed (npm ci installs it): ${line}`;
  return `unexpected error: ${line} (--debug shows where)`;
}
