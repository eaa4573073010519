import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { packageRoot } from "../../../models/package-root.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { goldenFolder } from "../../golden-tensors.js";
import { storedIntegers } from "../../stored-integers.js";

const GOLDEN = goldenFolder("sae-eval");
const read = (name: string): unknown => JSON.parse(readFileSync(join(GOLDEN, name), "utf8"));

export const SAES = ["afa1", "afa3", "afa5", "relu", "topk", "jumprelu", "bad"] as const;
export const TOGETHER = ["afa1", "afa3", "afa5"] as const;
export const MASKS = { no_bos: 1, no_start: 10 } as const;
export type Mask = keyof typeof MASKS;

export const GOLDEN_MODEL = join(packageRoot(), "models", "default");
export const saeFolder = (name: string): string => join(GOLDEN, "saes", name);

export const { ids: CONTEXTS } = z.object({ ids: z.array(z.array(z.int())) }).parse(read("contexts.json"));

const Losses = z.object({ ce: z.number(), kl: z.number() });
const Ablated = z.object({ zero: Losses, mean: Losses, zero_everywhere: Losses });
const Unsure = z.object({ decisions: z.int(), tokens: z.int(), features: z.int() });
const Recovered = z.object({
  ce_recovered_zero: z.number(),
  kl_recovered_zero: z.number(),
  ce_recovered_mean: z.number(),
  kl_recovered_mean: z.number(),
  ce_recovered_zero_everywhere: z.number(),
  kl_recovered_zero_everywhere: z.number(),
});
const Judged = Recovered.extend({
  tokens: z.int(),
  mse: z.number(),
  mse_sum: z.number(),
  mse_normalised: z.number(),
  explained_variance: z.number(),
  unexplained_variance: z.number(),
  explained_variance_normalised: z.number(),
  cosine: z.number(),
  l2_norm_in: z.number(),
  l2_norm_out: z.number(),
  l2_ratio: z.number(),
  relative_reconstruction_bias: z.number(),
  l0: z.number(),
  l1: z.number(),
  k: z.number().optional(),
  alive: z.int(),
  alive_share: z.number(),
  never_active: z.int(),
  density_histogram: z.array(z.int()),
  freq_over_1_percent: z.number(),
  freq_over_10_percent: z.number(),
  normalized_freq_over_1_percent: z.number(),
  normalized_freq_over_10_percent: z.number(),
  eps_lbo: z.object({ without: z.int(), mean: z.number(), quantiles: z.array(z.number()) }),
  unsure: Unsure,
  ce: z.number(),
  kl: z.number(),
});
const Inside = z.object({
  mse: z.number(),
  mse_normalised: z.number(),
  unexplained_variance: z.number(),
  cosine: z.number(),
  l0: z.number(),
  unsure: Unsure,
});
const Together = Recovered.extend({ ce: z.number(), kl: z.number(), inside: z.record(z.string(), Inside) });
const byMask = <S extends z.ZodType>(schema: S) => z.object({ no_bos: schema, no_start: schema });

export const RESULTS = z
  .object({
    weights_sha256: z.string(),
    quantiles: z.array(z.number()),
    histogram_edges: z.array(z.number()),
    clean: byMask(z.object({ ce: z.number(), ce_tokens: z.int(), kl_tokens: z.int() })),
    ablated: z.record(z.string(), byMask(Ablated)),
    saes: z.record(
      z.string(),
      z.object({
        hook: z.string(),
        d_sae: z.int(),
        average_max_decoder_cosine: z.number(),
        average_max_encoder_cosine: z.number(),
        zf_inside: z.record(z.string(), z.number()),
        ...byMask(Judged).shape,
      }),
    ),
    all_layers: byMask(Together),
    other_definitions: z.record(z.string(), z.record(z.string(), z.object({ explained_variance_legacy: z.number() }))),
  })
  .parse(read("results.json"));
export type GoldenLosses = z.infer<typeof Losses>;
export type GoldenRecovered = z.infer<typeof Recovered>;

const PATH = join(GOLDEN, "values.safetensors");
const values = openSafetensors(PATH);
/** A tensor of values.safetensors. */
export const floats = (name: string): Float32Array => values.readF32(name);

/** A tensor of whole numbers of it. */
export const integers = (name: string): readonly number[] => storedIntegers(PATH, name);
