import type { DeviceKind } from "../onnx/graph.js";
import { activationsOf, inFewBits, type Precision } from "../weights/block-format.js";
import type { KvType } from "./kv-format.js";

/** The choices of `--kv`. */
export const KV_CHOICES = ["auto", "f32", "f16", "bf16", "q8", "q4"] as const;
export type KvChoice = (typeof KV_CHOICES)[number];

/** What a choice depends on. */
export interface KvSetting {
  /** The weights' own precision. */
  readonly precision: Precision;
  readonly device: DeviceKind;
  readonly headDim: number;
}

const NAMES = { float32: "f32", float16: "f16", bfloat16: "bf16", q8: "q8", q4: "q4" } as const;
/** The choice that asks for a type. */
export const kvName = (type: KvType): Exclude<KvChoice, "auto"> => NAMES[type];

/** Head sizes of ONNX Runtime's GroupQueryAttention are multiples of this. */
const HEAD_MULTIPLE = 8;

/**
 * The type that a choice stands for, where `kvProblem` finds nothing wrong with it. "auto" is 8 bits on a CPU whose weights
 * have no more, if the head size allows it, and else the type of the activations.
 */
export function resolveKv(asked: KvChoice, { precision, device, headDim }: KvSetting): KvType {
  if (asked === "q8" || asked === "q4") return asked;
  const isCoded = asked === "auto" && device === "cpu" && inFewBits(precision) && headDim % HEAD_MULTIPLE === 0;
  return isCoded ? "q8" : activationsOf(precision);
}

/** Why keys and values cannot be kept as asked, and what to do; null where they can. */
export function kvProblem(asked: KvChoice, { precision, device, headDim }: KvSetting): string | null {
  if (asked === "auto") return null;
  const own = kvName(activationsOf(precision));
  if (asked !== "q8" && asked !== "q4")
    return asked === own
      ? null
      : `--kv ${asked} needs activations of that type, and those of --precision ${precision} are ${own}: take --kv ${own} or auto`;
  if (device !== "cpu") return `--kv ${asked} runs on a CPU only: add --device cpu, or take --kv auto`;
  if (own !== "f32")
    return `--kv ${asked} needs activations in f32, and those of --precision ${precision} are ${own}: take --kv auto or another --precision`;
  if (headDim % HEAD_MULTIPLE !== 0)
    return `--kv ${asked} needs a head size that is a multiple of ${HEAD_MULTIPLE}, and this model's is ${headDim}: take --kv f32 or auto`;
  return null;
}
