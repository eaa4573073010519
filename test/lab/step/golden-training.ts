import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { StepConfig, TrainedActivation } from "../../../lab/step/step-config.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { goldenFolder } from "../../golden-tensors.js";

const Case = z.object({
  sae_type: z.enum(["topafa", "topk", "batchtopk", "jumprelu"]),
  afa_target: z.enum(["input", "centred"]).optional(),
  act_size: z.int(),
  dict_size: z.int(),
  batch_size: z.int(),
  steps: z.int(),
  input_unit_norm: z.boolean().default(false),
  afa_coeff: z.number().default(0),
  top_k: z.int().default(0),
  top_k_aux: z.int().default(512),
  n_batches_to_dead: z.int().default(5),
  aux_penalty: z.number().default(0),
  lr: z.number(),
  beta1: z.number(),
  beta2: z.number(),
  adam_eps: z.number(),
  max_grad_norm: z.number(),
  l0_coefficient: z.number().default(0),
  l0_warm_up_steps: z.int().default(0),
  jumprelu_bandwidth: z.number().default(0),
  n_dead: z.array(z.int()).default([]),
});
type Case = z.infer<typeof Case>;

export type GoldenTraining = ReturnType<typeof goldenTraining>;

/** A training of golden/top-afa-train: its configuration, and tensors by file and name. */
export function goldenTraining(name: string) {
  const folder = join(goldenFolder("top-afa-train"), name);
  const golden = Case.parse(JSON.parse(readFileSync(join(folder, "case.json"), "utf8")));
  const tensors = (file: "init" | "inputs" | "f32" | "f64") => {
    using opened = openSafetensors(join(folder, `${file}.safetensors`));
    const floats = [...opened.tensors].filter(([, { dtype }]) => dtype !== "I32");
    return new Map(floats.map(([key]) => [key, opened.readF32(key)]));
  };
  return {
    golden,
    config: configOf(golden),
    init: tensors("init"),
    x: tensors("inputs").get("x") ?? new Float32Array(),
    expected: tensors("f64"),
    integers: integersOf(join(folder, "f32.safetensors")),
  };
}

function configOf(golden: Case): StepConfig {
  return {
    dIn: golden.act_size,
    dSae: golden.dict_size,
    batch: golden.batch_size,
    normalisation: golden.input_unit_norm ? "layer_norm" : "none",
    activation: activationOf(golden),
    dead: { penalty: golden.aux_penalty, most: golden.top_k_aux, after: golden.n_batches_to_dead },
    adam: {
      ...{ beta1: golden.beta1, beta2: golden.beta2, epsilon: golden.adam_eps },
      clip: golden.sae_type === "jumprelu" ? golden.max_grad_norm : null,
    },
  };
}

function activationOf(golden: Case): TrainedActivation {
  switch (golden.sae_type) {
    case "topafa":
      return { kind: "top-afa", lambda: golden.afa_coeff, target: golden.afa_target ?? "input" };
    case "topk":
      return { kind: "topk", k: golden.top_k };
    case "batchtopk":
      return { kind: "batch-topk", k: golden.top_k };
    case "jumprelu":
      return { kind: "jumprelu", l0Coefficient: golden.l0_coefficient, bandwidth: golden.jumprelu_bandwidth };
  }
}

const Header = z.record(
  z.string(),
  z.looseObject({ dtype: z.string().optional(), data_offsets: z.array(z.int()).optional() }),
);

/** The I32 tensors of a safetensors file. */
function integersOf(path: string): Map<string, Int32Array> {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = Header.parse(JSON.parse(bytes.toString("utf8", 8, 8 + length)));
  return new Map(
    Object.entries(header)
      .filter(([, { dtype }]) => dtype === "I32")
      .map(([name, { data_offsets: [from = 0, to = 0] = [] }]) => {
        const part = bytes.subarray(8 + length + from, 8 + length + to);
        return [name, new Int32Array(Uint8Array.from(part).buffer)];
      }),
  );
}
