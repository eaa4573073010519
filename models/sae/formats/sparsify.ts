import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, whole } from "../../config.js";
import { readJsonObject } from "../../model-file.js";
import { MAX_WIDTH, type SaeActivation, type SaeDescription } from "../sae.js";
import { moduleOutput, transcoderHook } from "../sae-hook.js";
import { refuseUnknownFields } from "./config-fields.js";
import { claim, readSafetensors } from "./sae-tensors.js";

export const SPARSIFY_WEIGHTS = "sae.safetensors";

const File = z.object({
  activation: z.enum(["topk", "groupmax"], "what is known here is: topk, groupmax").default("topk"),
  d_in: whole(1, MAX_WIDTH),
  expansion_factor: whole(1, MAX_WIDTH).default(1),
  num_latents: whole(0, MAX_WIDTH).default(0),
  k: whole(1, MAX_WIDTH),
  skip_connection: z.boolean("it must be true or false").default(false),
  transcode: z.boolean("it must be true or false").default(false),
  signed: z.literal(false, "it keeps negative values, which is not known here").nullish(),
});

/** What is read, and what is about training alone. */
const FIELDS: ReadonlySet<string> = new Set([...Object.keys(File.shape), "normalize_decoder", "multi_topk"]);

/**
 * An SAE as EleutherAI's sparsify saves it: cfg.json and sae.safetensors in a folder that is named after the module whose
 * output it reads (`layers.5` is the residual stream after block 5). Source: EleutherAI/sparsify, sparsify/sparse_coder.py.
 * @throws ModelFormatError naming field or tensor.
 */
export function readSparsify(folder: string): SaeDescription {
  const fields: ConfigFields = { file: join(folder, "cfg.json"), values: readJsonObject(join(folder, "cfg.json")) };
  const cfg = parseFields(File, fields);
  refuseUnknownFields(fields, FIELDS);
  const dIn = cfg.d_in;
  const dSae = cfg.num_latents || dIn * cfg.expansion_factor;
  const file = join(folder, SPARSIFY_WEIGHTS);
  const tensors = claim(file, readSafetensors(file));
  const module = basename(resolve(folder));
  const sae: SaeDescription = {
    file,
    format: "sparsify",
    kind: cfg.transcode ? "transcoder" : "autoencoder",
    dIn,
    dSae,
    dOut: dIn,
    wEnc: tensors.takeTransposed("encoder.weight", dIn, dSae),
    bEnc: tensors.take("encoder.bias", dSae),
    wDec: tensors.take("W_dec", dSae, dIn),
    bDec: tensors.take("b_dec", dIn),
    wSkip: cfg.skip_connection ? tensors.take("W_skip", dIn, dIn) : null,
    subtractsBDec: !cfg.transcode,
    normalisation: "none",
    activation: readActivation(cfg, dSae, fields),
    hook: cfg.transcode ? transcoderHook(`the input of ${module}`, `the output of ${module}`) : moduleOutput(module),
    modelName: null,
    centredWeights: false,
    metadata: fields.values,
  };
  tensors.nothingLeft();
  return sae;
}

function readActivation({ activation, k }: z.output<typeof File>, dSae: number, fields: ConfigFields): SaeActivation {
  if (k > dSae) throw fieldError(fields, ["k"], `there are only ${dSae} features`);
  if (activation === "topk") return { kind: "top-k", k };
  if (dSae % k !== 0) throw fieldError(fields, ["k"], `${dSae} features cannot be split into so many groups`);
  return { kind: "group-max", groups: k };
}
