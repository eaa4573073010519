import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { HookName } from "../../models/hooks.js";
import { writeTensors } from "../models/random-model.js";
import { benchFolder } from "./bench-model.js";
import { randomSae } from "./random-sae.js";

/** A folder with a `randomSae` in SAELens' layout, made if it is not there; it names no model, as it fits every one. */
export function randomSaeFolder(hook: HookName, dIn: number, dSae: number): string {
  const folder = benchFolder(`sae-${hook}-${dIn}-${dSae}`);
  if (existsSync(join(folder, "sae_weights.safetensors"))) return folder;
  mkdirSync(folder, { recursive: true });
  const cfg = {
    architecture: "topafa",
    d_in: dIn,
    d_sae: dSae,
    apply_b_dec_to_input: true,
    normalize_activations: "layer_norm",
    metadata: { hook_name: hook },
  };
  writeFileSync(join(folder, "cfg.json"), JSON.stringify(cfg));
  const seed = [...hook].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) | 0, 7);
  const { wEnc, wDec, bDec } = randomSae(dIn, dSae, seed);
  const file = join(folder, "sae_weights.safetensors");
  writeTensors(`${file}.part`, [
    { name: "W_enc", shape: [dIn, dSae], values: wEnc },
    { name: "W_dec", shape: [dSae, dIn], values: wDec },
    { name: "b_enc", shape: [dSae], values: new Float32Array(dSae) },
    { name: "b_dec", shape: [dIn], values: bDec },
  ]);
  renameSync(`${file}.part`, file);
  return folder;
}
