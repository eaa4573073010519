/**
 * Places in a forward pass that can be read, named as TransformerLens names them. `attn_out` and `mlp_out` are what is
 * added to the residual stream.
 */
const KINDS = ["hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post"] as const;
export type HookKind = (typeof KINDS)[number];
export type HookName = `blocks.${number}.${HookKind}`;

export const hook = {
  residPre: (layer: number): HookName => `blocks.${layer}.hook_resid_pre`,
  attnOut: (layer: number): HookName => `blocks.${layer}.hook_attn_out`,
  residMid: (layer: number): HookName => `blocks.${layer}.hook_resid_mid`,
  mlpOut: (layer: number): HookName => `blocks.${layer}.hook_mlp_out`,
  residPost: (layer: number): HookName => `blocks.${layer}.hook_resid_post`,
};

/** The other name of one place in the residual stream: after a layer is before the next. null: it has one name. */
export function otherName(name: HookName): HookName | null {
  const [, number, kind] = /^blocks\.(\d+)\.(\w+)$/.exec(name) ?? [];
  if (kind === "hook_resid_post") return hook.residPre(Number(number) + 1);
  return kind === "hook_resid_pre" && number !== "0" ? hook.residPost(Number(number) - 1) : null;
}
