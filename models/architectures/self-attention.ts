import type { AttentionSizes } from "../attention/attention.js";
import type { Forward, Linear } from "../forward.js";
import type { Value } from "../onnx/graph.js";

/** A layer's attention whose queries, keys and values come from one multiplication. */
export interface SelfAttention {
  /** Gives the queries of all heads, then the keys, then the values. */
  readonly qkv: Linear;
  readonly out: Linear;
  /** Queries, keys and values are limited to +-clip; null or left out: they are not. */
  readonly clip?: number | null;
}

/** Vaswani et al. 2017, arXiv 1706.03762, section 3.2: [batch, tokens, d] to [batch, tokens, d]. */
export function selfAttention(
  pass: Forward,
  layer: number,
  sizes: AttentionSizes,
  x: Value,
  { qkv, out, clip }: SelfAttention,
): Value {
  const { heads, kvHeads, headDim } = sizes;
  const projected = pass.tapProjection(layer, sizes, pass.linear(x, qkv)); // [batch, tokens, (heads + 2 kvHeads) * headDim]
  const limited = clip ? pass.clip(projected, clip) : projected;
  const [query = "", key = "", value = ""] = pass.attention.splitHeads(limited, [heads, kvHeads, kvHeads], headDim);
  const attended = pass.attention.attend(layer, sizes, { query, key, value }); // [batch, tokens, heads * headDim]
  return pass.linear(pass.tapAttended(layer, sizes, attended), out);
}
