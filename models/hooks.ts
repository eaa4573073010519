import type { ModelShape } from "./model-shape.js";

/**
 * Places in a forward pass that can be read, named as TransformerLens names them. `attn_out` and `mlp_out` are what is
 * added to the residual stream.
 */
const RESIDUAL_KINDS = [
  "hook_resid_pre",
  "hook_attn_out",
  "hook_resid_mid",
  "hook_mlp_out",
  "hook_resid_post",
] as const;
/**
 * Places within attention, head after head: what queries, keys and values are projected to, before any norm of them,
 * clipping or rotation, and the values as attention has weighted them, before the output map.
 */
const HEAD_KINDS = ["hook_q", "hook_k", "hook_v", "hook_z"] as const;
export type HookKind = (typeof RESIDUAL_KINDS)[number];
export type HeadKind = (typeof HEAD_KINDS)[number];
export type ResidualHook = `blocks.${number}.${HookKind}`;
export type HeadHook = `blocks.${number}.attn.${HeadKind}`;
export type HookName = ResidualHook | HeadHook;

export const hook = {
  residPre: (layer: number): ResidualHook => `blocks.${layer}.hook_resid_pre`,
  attnOut: (layer: number): ResidualHook => `blocks.${layer}.hook_attn_out`,
  residMid: (layer: number): ResidualHook => `blocks.${layer}.hook_resid_mid`,
  mlpOut: (layer: number): ResidualHook => `blocks.${layer}.hook_mlp_out`,
  residPost: (layer: number): ResidualHook => `blocks.${layer}.hook_resid_post`,
  query: (layer: number): HeadHook => `blocks.${layer}.attn.hook_q`,
  key: (layer: number): HeadHook => `blocks.${layer}.attn.hook_k`,
  value: (layer: number): HeadHook => `blocks.${layer}.attn.hook_v`,
  attended: (layer: number): HeadHook => `blocks.${layer}.attn.hook_z`,
};

/** Whether a place is one of the residual stream's, which SAEs can be attached to. */
export function isResidualHook(name: string): name is ResidualHook {
  const [, found] = /^blocks\.\d+\.(\w+)$/.exec(name) ?? [];
  return RESIDUAL_KINDS.some((kind) => kind === found);
}

/** Heads that lie side by side at a place; null: it is none within attention. */
export function hookHeads(name: HookName, { heads, kvHeads }: Pick<ModelShape, "heads" | "kvHeads">): number | null {
  if (isResidualHook(name)) return null;
  return name.endsWith(".hook_k") || name.endsWith(".hook_v") ? kvHeads : heads;
}

/** Numbers that a place holds at each token. */
export function hookWidth(
  name: HookName,
  shape: Pick<ModelShape, "heads" | "kvHeads" | "headDim" | "hiddenSize">,
): number {
  const heads = hookHeads(name, shape);
  return heads === null ? shape.hiddenSize : heads * shape.headDim;
}

/** The other name of one place in the residual stream: after a layer is before the next. null: it has one name. */
export function otherName(name: HookName): ResidualHook | null {
  const [, number, kind] = /^blocks\.(\d+)\.(\w+)$/.exec(name) ?? [];
  if (kind === "hook_resid_post") return hook.residPre(Number(number) + 1);
  return kind === "hook_resid_pre" && number !== "0" ? hook.residPost(Number(number) - 1) : null;
}
