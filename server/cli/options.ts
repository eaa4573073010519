import * as z from "zod";
import { KV_CHOICES } from "../../models/keys-values/kv-choice.js";
import { ASKED_PRECISIONS } from "../../models/weights/block-format.js";
import { type DeviceChoice, parseDevice } from "../../runtime/contract/device-choice.js";
import { BOUNDS } from "../../runtime/contract/request-bounds.js";
import { integer, list, number, toggle, value } from "./flag-kinds.js";
import { flag } from "./flags.js";
import { Activation, ColorBy, ColorRange, Edit } from "./trace/flags.js";

const debug = toggle("show the stack of an error");
const cacheDir = flag(z.string().min(1).optional(), {
  kind: "value",
  value: "folder",
  help: "where compiled models are kept",
  env: "LAMBDATAP_CACHE",
});

/** "name=model" or "model"; a name has no slash, so that a folder with an equals sign can still be given as ./a=b. */
const Model = z
  .string()
  .min(1)
  .regex(/^(?!=)(?![\w.:@-]+=$)/, "expected a model, or a name, = and a model")
  .transform((text): { readonly name?: string; readonly model: string } => {
    const [, name, model] = /^([\w.:@-]{1,128})=(.+)$/.exec(text) ?? [];
    return name === undefined || model === undefined ? { model: text } : { name, model };
  });

/** "name=folder" or "folder"; a name has no slash, so that a folder with an equals sign can still be given as ./a=b. */
export const SaeFolder = z
  .string()
  .min(1)
  .regex(/^(?!=)(?![\w.:@-]+=$)/, "expected a folder, or a name, = and a folder")
  .transform((text): { readonly id?: string; readonly folder: string } => {
    const [, id, folder] = /^([\w.:@-]{1,128})=(.+)$/.exec(text) ?? [];
    return id === undefined || folder === undefined ? { folder: text } : { id, folder };
  });
const SaeFolders = z
  .array(SaeFolder)
  .refine((saes) => saes.length < 2 || saes.every(({ folder }) => folder !== "none"), {
    error: "none goes with no other",
  });

const Device = z.string().transform((text, context): DeviceChoice => {
  const device = parseDevice(text);
  if (device !== null) return device;
  context.addIssue({ code: "custom", message: "expected cpu, cuda, cuda:<number> or auto" });
  return z.NEVER;
});

/** Which model, and how it runs: shared by all commands that load one. */
export const engine = {
  model: value(
    z.string().min(1).optional(),
    "model",
    "folder in Hugging Face layout, file.gguf, or org/name[@revision] that was pulled; default: the embedded model",
  ),
  window: value(
    integer(1).optional(),
    "tokens",
    "keys that a token sees before it; default: the trained length, at most 4096",
  ),
  sinks: value(integer(0).optional(), "tokens", "starting tokens that stay visible for ever; default: 10"),
  threads: value(integer(1, 1024).optional(), "n", "threads of the computation; default: chosen for this machine"),
  device: value(
    Device.optional(),
    "cpu|cuda[:n]|auto",
    "where the model runs; default: auto, a GPU where all that CUDA needs is there, else the CPU",
  ),
  cudaGraphs: value(
    z
      .enum(["on", "off"])
      .default("on")
      .transform((text) => text === "on"),
    "on|off",
    "on a GPU, record decode steps and replay them (CUDA graphs)",
  ),
  ortLibrary: value(
    z.string().min(1).optional(),
    "path",
    "ONNX Runtime's library built for CUDA, or its folder; default: found (lambdatap doctor says where)",
  ),
  precision: value(
    z.enum(ASKED_PRECISIONS).default("auto"),
    ASKED_PRECISIONS.join("|"),
    "precision of the weights, f16 and bf16 of the cache too; q8: int8, a scale for each output, where a trial finds it exact and faster here, else q8-block, a scale for each block; auto: the file's own blocks where it has some, else f32, on a GPU its own 16 bits",
  ),
  kv: value(
    z.enum(KV_CHOICES).default("auto"),
    KV_CHOICES.join("|"),
    "what keys and values are kept in; q8 and q4: integers, on a CPU only; auto: q8 there where the weights have 8 or 4 bits, else as the activations",
  ),
  sae: flag(SaeFolders.optional(), {
    kind: "list",
    value: "[name=]folder",
    help: "attach a sparse autoencoder (repeatable), or none; default: those in the model's folder saes",
  }),
  saePrecision: value(
    z.enum(["f32", "q8"]).default("f32"),
    "f32|q8",
    "precision of the encoders of SAEs; q8: less memory and time, eps_lbo where 8 bits tell it",
  ),
  saeAnyModel: toggle("attach SAEs that say they were trained on another model"),
  cacheDir,
  debug,
};

export const ServeOptions = z.object({
  ...engine,
  model: flag(z.array(Model).default([]), {
    kind: "list",
    value: "[name=]model",
    help: "folder, file.gguf or org/name[@revision] (repeatable: all are served); default: the embedded model",
  }),
  sae: flag(SaeFolders.optional(), {
    kind: "list",
    value: "[model:][name=]folder",
    help: "as elsewhere; where there are several models, each says which it is for (repeatable)",
  }),
  servedModelName: list("name", "another name of the model, where there is one"),
  chatTemplate: value(
    z.string().min(1).optional(),
    "file",
    "Jinja template for /v1/chat/completions, in place of the model's own",
  ),
  host: value(z.string().min(1).default("127.0.0.1"), "address", "address to listen on; 0.0.0.0: all"),
  port: value(integer(0, 65535).prefault("8080"), "port", "port to listen on; 0 takes a free one"),
  parallel: value(
    integer(1, 4096).optional(),
    "n",
    "sequences that run at once; default: 16, or fewer where memory is short",
  ),
  queueLimit: value(
    integer(0).prefault("64"),
    "n",
    "sequences that may wait; while as many do, requests are answered 429",
  ),
  archiveMb: value(
    number
      .pipe(
        z
          .number()
          .min(0)
          .max(1 << 20),
      )
      .prefault("1024"),
    "MB",
    "memory of each model for keys that requests with lm_infinite.retrieve keep",
  ),
  prefixMb: value(
    number.pipe(z.number().min(0)).optional(),
    "MB",
    "memory of all models for prompts, so that those that begin alike are read once; 0: none; default: a tenth of what is left, on a GPU 0",
  ),
  maxTokensLimit: value(integer(1).optional(), "tokens", "largest max_tokens of a request; default: no limit"),
  defaultMaxTokens: value(
    integer(1).optional(),
    "tokens",
    "max_tokens of a chat that names none; default: what the trained length leaves beside the prompt, at least 256",
  ),
  strictFields: toggle("refuse fields of a request that nobody knows, in place of naming them in X-Ignored-Fields"),
  stallTimeout: value(
    number.pipe(z.number().gt(0)).prefault("60"),
    "seconds",
    "how long a reader may not read before it is cut off",
  ),
  drainTimeout: value(
    number.pipe(z.number().min(0)).prefault("30"),
    "seconds",
    "how long running requests may go on after SIGTERM",
  ),
  maxBodyMb: value(number.pipe(z.number().gt(0).max(512)).prefault("32"), "MB", "largest request body"),
  pingInterval: value(
    number.pipe(z.number().gt(0)).prefault("10"),
    "seconds",
    "silence on a stream before a comment line",
  ),
  allowedHost: list("name", "Host that may be asked for besides localhost; * allows all"),
  allowedOrigin: list("origin", "Origin that may ask besides localhost; * allows all"),
  logLevel: value(
    z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]).default("info"),
    "level",
    "fatal, error, warn, info, debug, trace or silent",
  ),
});

export const GenerateOptions = z.object({
  ...engine,
  maxTokens: value(
    z
      .union([z.literal("none").transform(() => null), integer(0)], { error: "expected a number or none" })
      .prefault("200"),
    "n|none",
    "tokens to generate at most; none: until the model stops",
  ),
  temperature: value(number.pipe(z.number().min(0).max(100)).optional(), "t", "0 is greedy; default: the model's own"),
  topP: value(number.pipe(z.number().min(0).max(1)).optional(), "p", "keep the likeliest tokens that reach p together"),
  topK: value(integer(0).optional(), "k", "keep the k likeliest tokens; 0 keeps all"),
  minP: value(number.pipe(z.number().min(0).max(1)).optional(), "p", "drop tokens below this share of the likeliest"),
  repetitionPenalty: value(
    number.pipe(z.number().min(BOUNDS.repetitionPenalty.least).max(BOUNDS.repetitionPenalty.most)).optional(),
    "f",
    "weakens tokens that were there; 1 is off",
  ),
  seed: value(integer(Number.MIN_SAFE_INTEGER).optional(), "n", "same seed, same text"),
  stop: list("text", "ends the text where it appears"),
  ignoreEos: toggle("go on after the model's own end"),
});

export const TraceOptions = z.object({
  ...GenerateOptions.shape,
  read: list("sae", "attached SAE to read; default: all"),
  top: value(integer(0, 100_000).prefault("5"), "n", "features shown per token and SAE"),
  activation: value(
    Activation.optional(),
    "native|top-afa|top-k:k",
    "how features are chosen; default: as the SAE was trained",
  ),
  prompt: toggle("show the tokens of the prompt too"),
  edit: flag(z.array(Edit).default([]), {
    kind: "list",
    value: "sae:feature:op",
    help: "change a feature: ablate, add:v, scale:v or clamp:v; :pre behind it: as it is before the SAE's cut (repeatable)",
  }),
  editsFrom: value(
    z.enum(["prompt", "generation"]).default("generation"),
    "prompt|generation",
    "where the changes begin",
  ),
  view: value(
    z.enum(["table", "text", "both"]).default("table"),
    "table|text|both",
    "a line per token and SAE, or the coloured text",
  ),
  colorBy: value(
    ColorBy.optional(),
    "[sae:]what",
    "colour tokens by l0, z, f, eps_lbo, mse or the number of a feature; default: l0 of the first SAE",
  ),
  colorRange: value(ColorRange.optional(), "low:high", "what the colours span; default: 0 to the largest so far"),
  json: toggle("a line of JSON per token"),
});

export const CompileOptions = z.object(engine);

export const PullOptions = z.object({
  file: value(z.string().min(1).optional(), "pattern", "which GGUF file, where there are several: a name, * and ?"),
  debug,
});

export const ModelsOptions = z.object({ cacheDir, json: toggle("a line of JSON per model"), debug });

const { model, window, sinks, device, ortLibrary, precision, kv, sae } = engine;
export const DoctorOptions = z.object({
  model,
  window,
  sinks,
  device,
  ortLibrary,
  precision,
  kv,
  sae,
  quick: toggle("do not read the weights through for NaN and infinite values"),
  json: toggle("one object of JSON"),
  debug,
});

export const CacheOptions = z.object({
  cacheDir,
  olderThanDays: value(number.pipe(z.number().min(0)).prefault("30"), "days", "prune what was not used for so long"),
  all: toggle("prune everything"),
  debug,
});

export type ServeOptions = z.output<typeof ServeOptions>;
export type GenerateOptions = z.output<typeof GenerateOptions>;
export type TraceOptions = z.output<typeof TraceOptions>;
export type CompileOptions = z.output<typeof CompileOptions>;
export type PullOptions = z.output<typeof PullOptions>;
export type ModelsOptions = z.output<typeof ModelsOptions>;
export type DoctorOptions = z.output<typeof DoctorOptions>;
export type CacheOptions = z.output<typeof CacheOptions>;
export type EngineOptions = CompileOptions;
