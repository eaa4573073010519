import { join } from "node:path";
import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, whole } from "../../config.js";
import { ModelFormatError } from "../../errors.js";
import { hook } from "../../hooks.js";
import { isJsonObject, readJsonObject } from "../../model-file.js";
import { MAX_WIDTH, type SaeActivation, type SaeDescription } from "../sae.js";
import { type SaeHook, tappable, untappable } from "../sae-hook.js";
import { refuseUnknownFields } from "./config-fields.js";
import { claim, type TensorClaims } from "./sae-tensors.js";
import { readTorchFile } from "./torch-file.js";

export const DICTIONARY_LEARNING_WEIGHTS = "ae.pt";

interface Size {
  readonly dIn: number;
  readonly dSae: number;
  /** What the config says of features kept; the tensors may say it, too. */
  readonly k: number | undefined;
  readonly trainer: ConfigFields;
}

/** What a dictionary class makes of its tensors. */
type Layers = Pick<SaeDescription, "wEnc" | "bEnc" | "wDec" | "bDec" | "subtractsBDec" | "activation">;

/** dictionary.py and trainers/ of the library: one entry per class. */
const CLASSES: ReadonlyMap<string, (t: TensorClaims, size: Size) => Layers> = new Map<
  string,
  (t: TensorClaims, size: Size) => Layers
>([
  ["AutoEncoder", autoEncoder],
  ["AutoEncoderNew", autoEncoder],
  ["GatedAutoEncoder", gated],
  ["JumpReluAutoEncoder", jumpRelu],
  ["AutoEncoderTopK", topK],
  ["BatchTopKSAE", batchTopK],
  ["MatryoshkaBatchTopKSAE", matryoshka],
]);

const text = z.string("it must be text");
const File = z.object({
  dict_class: text.refine((name) => CLASSES.has(name), `what is known here is: ${[...CLASSES.keys()].join(", ")}`),
  activation_dim: whole(1, MAX_WIDTH),
  dict_size: whole(1, MAX_WIDTH),
  lm_name: text.nullish(),
  submodule_name: text.nullish(),
  k: whole(1, MAX_WIDTH).nullish(),
});

/** Fields of `trainer`: those that are read, and those that tell of its training alone. */
const TRAINER_FIELDS: ReadonlySet<string> = new Set([
  ...["dict_class", "activation_dim", "dict_size", "lm_name", "submodule_name", "k", "layer", "trainer_class"],
  ...["device", "seed", "lr", "steps", "warmup_steps", "decay_start", "resample_steps", "wandb_name", "wandb_project"],
  ...["l1_penalty", "sparsity_function", "sparsity_penalty", "sparsity_warmup_steps", "sparsity_queue_length"],
  ...["n_sparsity_updates", "p_start", "p_end", "anneal_start", "anneal_end", "target_l0", "bandwidth", "auxk_alpha"],
  ...["threshold_beta", "threshold_start_step", "top_k_aux", "k_anneal_steps", "group_fractions", "group_weights"],
  // Inputs were divided by norm_factor in training; before it is saved, that is taken back.
  ...["group_sizes", "norm_factor"],
]);

const Buffer = z.object({ buffer: z.object({ io: text.nullish() }, "it must be an object").nullish() });

/**
 * An SAE as dictionary_learning saves it: ae.pt and config.json (its `trainer`). Values are those of the tensors as they
 * are: the library's own from_pretrained rescales an AutoEncoder to unit decoder columns, which changes the scale of
 * activations, not the output. Source: saprmarks/dictionary_learning.
 * @throws ModelFormatError naming field, tensor, or what in ae.pt no file of tensors needs.
 */
export async function readDictionaryLearning(folder: string): Promise<SaeDescription> {
  const configFile = join(folder, "config.json");
  const config = readJsonObject(configFile);
  const fields: ConfigFields = { file: configFile, values: config };
  const { trainer: cfg } = parseFields(z.object({ trainer: File }, "it must be an object"), fields);
  const trainer = { file: configFile, at: "trainer", values: isJsonObject(config.trainer) ? config.trainer : {} };
  refuseUnknownFields(trainer, TRAINER_FIELDS);
  const file = join(folder, DICTIONARY_LEARNING_WEIGHTS);
  const tensors = claim(file, await readTorchFile(file));
  const size = { dIn: cfg.activation_dim, dSae: cfg.dict_size, k: cfg.k ?? undefined, trainer };
  const read = CLASSES.get(cfg.dict_class);
  if (!read) throw new ModelFormatError(configFile, `trainer.dict_class is ${cfg.dict_class}`);
  const layers = read(tensors, size);
  tensors.nothingLeft();
  return {
    file,
    format: "dictionary_learning",
    kind: "autoencoder",
    dIn: size.dIn,
    dSae: size.dSae,
    dOut: size.dIn,
    ...layers,
    wSkip: null,
    normalisation: "none",
    hook: submoduleHook(cfg.submodule_name ?? null, parseFields(Buffer, fields).buffer?.io ?? "out"),
    modelName: cfg.lm_name ?? null,
    centredWeights: false,
    metadata: config,
  };
}

/** encoder.weight [dSae, dIn] and decoder.weight [dIn, dSae]: torch.nn.Linear keeps its weights transposed. */
const linear = (t: TensorClaims, { dIn, dSae }: Size) => ({
  wEnc: t.takeTransposed("encoder.weight", dIn, dSae),
  wDec: t.takeTransposed("decoder.weight", dSae, dIn),
});

/** The class AutoEncoderNew is written "AutoEncoder" too: it has decoder.bias, and subtracts nothing from its input. */
function autoEncoder(t: TensorClaims, size: Size): Layers {
  const newer = t.has("decoder.bias");
  return {
    ...linear(t, size),
    bEnc: t.take("encoder.bias", size.dSae),
    bDec: t.take(newer ? "decoder.bias" : "bias", size.dIn),
    subtractsBDec: !newer,
    activation: { kind: "relu" },
  };
}

function gated(t: TensorClaims, size: Size): Layers {
  const each = (name: string) => t.take(name, size.dSae);
  return {
    ...linear(t, size),
    bEnc: null,
    bDec: t.take("decoder_bias", size.dIn),
    subtractsBDec: true,
    activation: { kind: "gated", bGate: each("gate_bias"), bMag: each("mag_bias"), rMag: each("r_mag") },
  };
}

const matrices = (t: TensorClaims, { dIn, dSae }: Size) => ({
  wEnc: t.take("W_enc", dIn, dSae),
  bEnc: t.take("b_enc", dSae),
  wDec: t.take("W_dec", dSae, dIn),
  bDec: t.take("b_dec", dIn),
});

function jumpRelu(t: TensorClaims, size: Size): Layers {
  const threshold = t.take("threshold", size.dSae);
  return { ...matrices(t, size), subtractsBDec: false, activation: { kind: "jumprelu", threshold } };
}

/** Its threshold belongs to another way of encoding, which the library leaves off. Older files have k in their config alone. */
function topK(t: TensorClaims, size: Size): Layers {
  const stored = t.has("k") ? t.whole("k", 1, size.dSae) : undefined;
  const k = stored ?? size.k;
  if (k === undefined || k > size.dSae) throw fieldError(size.trainer, ["k"], `there are ${size.dSae} features`);
  if (size.k !== undefined && size.k !== k) throw fieldError(size.trainer, ["k"], `tensor "k" is ${k}`);
  t.drop("threshold");
  return {
    ...linear(t, size),
    bEnc: t.take("encoder.bias", size.dSae),
    bDec: t.take("b_dec", size.dIn),
    subtractsBDec: true,
    activation: { kind: "top-k", k },
  };
}

/** One threshold for all; -1 in an untrained file, which is a plain relu. */
function oneThreshold(t: TensorClaims, { dSae }: Size): SaeActivation {
  t.drop("k");
  return { kind: "jumprelu", threshold: new Float32Array(dSae).fill(t.number("threshold")) };
}

function batchTopK(t: TensorClaims, size: Size): Layers {
  return {
    ...linear(t, size),
    bEnc: t.take("encoder.bias", size.dSae),
    bDec: t.take("b_dec", size.dIn),
    subtractsBDec: true,
    activation: oneThreshold(t, size),
  };
}

function matryoshka(t: TensorClaims, size: Size): Layers {
  t.drop("group_sizes");
  return { ...matrices(t, size), subtractsBDec: true, activation: oneThreshold(t, size) };
}

const SUBMODULES: ReadonlyMap<string, keyof typeof hook> = new Map<string, keyof typeof hook>([
  ["resid_pre", "residPre"],
  ["resid_post", "residPost"],
  ["mlp_out", "mlpOut"],
  ["attn_out", "attnOut"],
]);

/** `resid_post_layer_5`, as the library's training script names the places it reads. */
function submoduleHook(name: string | null, io: string): SaeHook {
  if (io !== "out") return untappable(name, `It reads "${io}" of ${name ?? "its submodule"}, not the output.`);
  const [, place, layer] = /^(\w+)_layer_(0|[1-9]\d{0,4})$/.exec(name ?? "") ?? [];
  const at = SUBMODULES.get(place ?? "");
  if (at) return tappable(hook[at](Number(layer)));
  return untappable(
    name,
    name === null
      ? "Its config.json does not say which submodule it was trained on."
      : `Its config.json names the submodule "${name}", and it is not known here which hook that is.`,
  );
}
