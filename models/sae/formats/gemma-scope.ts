import { join, resolve } from "node:path";
import { ModelFormatError } from "../../errors.js";
import { hook } from "../../hooks.js";
import type { SaeDescription } from "../sae.js";
import { type SaeHook, tappable, transcoderHook, untappable } from "../sae-hook.js";
import { readNpz } from "./npz.js";
import { claim } from "./sae-tensors.js";

export const GEMMA_SCOPE_WEIGHTS = "params.npz";

/**
 * An SAE of Gemma Scope: params.npz; jumprelu, b_dec not subtracted from the input. Layer and site stand in its path only
 * (.../gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82). Source: arXiv 2408.05147, and google/gemma-scope.
 * @throws ModelFormatError naming the array.
 */
export async function readGemmaScope(folder: string): Promise<SaeDescription> {
  const file = join(folder, GEMMA_SCOPE_WEIGHTS);
  const tensors = claim(file, await readNpz(file));
  const [dIn, dSae, ...more] = tensors.shape("W_enc");
  if (!dIn || !dSae || more.length > 0) throw new ModelFormatError(file, 'array "W_enc" is not a matrix');
  const site = siteOf(folder);
  const sae: SaeDescription = {
    file,
    format: "gemma-scope",
    kind: site.kind,
    dIn,
    dSae,
    dOut: dIn,
    wEnc: tensors.take("W_enc", dIn, dSae),
    bEnc: tensors.take("b_enc", dSae),
    wDec: tensors.take("W_dec", dSae, dIn),
    bDec: tensors.take("b_dec", dIn),
    wSkip: null,
    subtractsBDec: false,
    normalisation: "none",
    activation: { kind: "jumprelu", threshold: tensors.take("threshold", dSae) },
    hook: site.hook,
    modelName: site.modelName,
    centredWeights: false,
    metadata: {},
  };
  tensors.nothingLeft();
  return sae;
}

interface Site {
  readonly kind: SaeDescription["kind"];
  readonly hook: SaeHook;
  readonly modelName: string | null;
}

function siteOf(folder: string): Site {
  const parts = resolve(folder).split(/[\\/]/);
  const layer = /^layer_(0|[1-9]\d{0,4})$/.exec(parts.find((part) => part.startsWith("layer_")) ?? "")?.[1];
  const [, size, tuning, site] =
    parts.map((part) => /^(?:.*--)?gemma-scope-(\w+)-(pt|it)-(\w+)$/.exec(part)).find((found) => found !== null) ?? [];
  const modelName = size === undefined ? null : `google/gemma-2-${size}${tuning === "it" ? "-it" : ""}`;
  const place = `blocks.${layer}`;
  if (site === "transcoders")
    return {
      kind: "transcoder",
      hook: transcoderHook(`${place}.ln2.hook_normalized`, `${place}.hook_mlp_out`),
      modelName,
    };
  return { kind: "autoencoder", hook: siteHook(site, layer), modelName };
}

function siteHook(site: string | undefined, layer: string | undefined): SaeHook {
  if (layer === undefined || site === undefined)
    return untappable(
      null,
      "Gemma Scope files name their place in their path only, and this one has no .../gemma-scope-*-res/layer_N/... in it.",
    );
  if (site === "res") return tappable(hook.residPost(Number(layer)));
  if (site === "mlp") return tappable(hook.mlpOut(Number(layer)));
  return untappable(
    `blocks.${layer}.attn.hook_z`,
    "It reads the outputs of attention heads (hook_z), which have no tap.",
  );
}
