import { type HookName, hook } from "../hooks.js";

/**
 * Where an SAE reads, in TransformerLens' spelling where that is known.
 * `ownOutput`: it was trained on what the attention or MLP module itself returns. A family that normalises this before
 * adding it to the residual stream (Gemma 2 and 3, OLMo 2) adds something else there: attaching must be refused.
 */
export type SaeHook =
  | { readonly tappable: true; readonly name: HookName; readonly ownOutput: boolean }
  | { readonly tappable: false; readonly name: string | null; readonly reason: string };

const AT_LAYER: ReadonlyMap<string, (layer: number) => HookName> = new Map([
  ["hook_resid_pre", hook.residPre],
  ["hook_attn_out", hook.attnOut],
  ["hook_resid_mid", hook.residMid],
  ["hook_mlp_out", hook.mlpOut],
  ["hook_resid_post", hook.residPost],
]);

/** `ownOutput` false; use `moduleOutput` for formats that name modules. */
export const tappable = (name: HookName): SaeHook => ({ tappable: true, name, ownOutput: false });

/** A hook that is kept by name only; `reason` is a sentence. */
export const untappable = (name: string | null, reason: string): SaeHook => ({ tappable: false, name, reason });

/** A hook as TransformerLens names it, e.g. `blocks.3.hook_resid_post`. */
export function transformerLensHook(name: string): SaeHook {
  const [, layer, kind] = /^blocks\.(0|[1-9]\d{0,4})\.(hook_\w+)$/.exec(name) ?? [];
  const at = AT_LAYER.get(kind ?? "");
  if (at && layer !== undefined) return tappable(at(Number(layer)));
  return untappable(
    name,
    `SAEs cannot be attached at ${name}, only at the residual stream, attn_out and mlp_out (${[...AT_LAYER.keys()].join(", ")}).`,
  );
}

/** The output of a module as Hugging Face names it: `layers.3`, `model.layers.3.mlp`, `transformer.h.3.attn`. */
export function moduleOutput(module: string): SaeHook {
  const pattern = /^(?:(?:model|transformer|gpt_neox)\.)?(?:layers|h)\.(0|[1-9]\d{0,4})(?:\.(\w+))?$/;
  const [found, digits, part] = pattern.exec(module) ?? [];
  const layer = Number(digits);
  if (found && part === undefined) return tappable(hook.residPost(layer));
  if (part === "mlp") return { tappable: true, name: hook.mlpOut(layer), ownOutput: true };
  if (part === "attn" || part === "self_attn" || part === "attention")
    return { tappable: true, name: hook.attnOut(layer), ownOutput: true };
  return untappable(module, `The output of the module "${module}" has no tap here.`);
}

/** The hook of a transcoder: `reads` (and `writes`, where it is known) as published. */
export function transcoderHook(reads: string | null, writes: string | null): SaeHook {
  const from = reads ?? "a place its files do not name";
  return untappable(reads, `This is a transcoder: it reads ${from} and predicts ${writes ?? "another place"}.`);
}
