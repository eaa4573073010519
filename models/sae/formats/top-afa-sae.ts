import { join } from "node:path";
import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, whole } from "../../config.js";
import { readJsonObject } from "../../model-file.js";
import { MAX_WIDTH, type SaeActivation, type SaeDescription } from "../sae.js";
import { transformerLensHook, untappable } from "../sae-hook.js";
import { refuseUnknownFields } from "./config-fields.js";
import { claim } from "./sae-tensors.js";
import { readTorchFile } from "./torch-file.js";

export const TOP_AFA_WEIGHTS = "sae.pt";

const File = z.object({
  act_size: whole(1, MAX_WIDTH),
  dict_size: whole(1, MAX_WIDTH),
  sae_type: z.enum(["topafa", "topk"], "what is known here is: topafa, topk"),
  top_k: whole(0, MAX_WIDTH).default(0),
  input_unit_norm: z.boolean("it must be true or false").default(false),
  hook_point: z.string("it must be text").nullish(),
  model_name: z.string("it must be text").nullish(),
});

/** What is read, and what is about training alone. */
const FIELDS: ReadonlySet<string> = new Set([
  ...Object.keys(File.shape),
  ...["seed", "batch_size", "lr", "num_tokens", "l1_coeff", "beta1", "beta2", "max_grad_norm", "seq_len", "dtype"],
  ...["site", "layer", "device", "model_batch_size", "num_batches_in_buffer", "dataset_path", "wandb_project", "name"],
  ...["perf_log_freq", "checkpoint_freq", "top_k_aux", "n_batches_to_dead", "aux_penalty", "afa_coeff", "bandwidth"],
]);

/**
 * A checkpoint of the code that came with the top-AFA paper: sae.pt and config.json. Its b_enc is stored, but neither
 * top-AFA nor top-k uses it. Source: SewoongLee/top-afa-sae, training/sae.py; arXiv 2503.24277.
 * @throws ModelFormatError naming field, tensor, or what in sae.pt no file of tensors needs.
 */
export async function readTopAfaSae(folder: string): Promise<SaeDescription> {
  const fields: ConfigFields = {
    file: join(folder, "config.json"),
    values: readJsonObject(join(folder, "config.json")),
  };
  const cfg = parseFields(File, fields);
  refuseUnknownFields(fields, FIELDS);
  const { act_size: dIn, dict_size: dSae } = cfg;
  const file = join(folder, TOP_AFA_WEIGHTS);
  const tensors = claim(file, await readTorchFile(file));
  tensors.drop("b_enc");
  const sae: SaeDescription = {
    file,
    format: "top-afa-sae",
    kind: "autoencoder",
    dIn,
    dSae,
    dOut: dIn,
    wEnc: tensors.take("W_enc", dIn, dSae),
    bEnc: null,
    wDec: tensors.take("W_dec", dSae, dIn),
    bDec: tensors.take("b_dec", dIn),
    wSkip: null,
    subtractsBDec: true,
    normalisation: cfg.input_unit_norm ? "layer_norm" : "none",
    activation: readActivation(cfg, fields),
    hook: cfg.hook_point ? transformerLensHook(cfg.hook_point) : untappable(null, "Its config.json has no hook_point."),
    modelName: cfg.model_name ?? null,
    centredWeights: false,
    metadata: fields.values,
  };
  tensors.nothingLeft();
  return sae;
}

function readActivation({ sae_type, top_k, dict_size }: z.output<typeof File>, fields: ConfigFields): SaeActivation {
  if (sae_type === "topafa") return { kind: "top-afa" };
  if (top_k >= 1 && top_k <= dict_size) return { kind: "top-k", k: top_k };
  throw fieldError(fields, ["top_k"], `there are ${dict_size} features`);
}
