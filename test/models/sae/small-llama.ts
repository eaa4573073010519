import { openSafetensors } from "../../../models/weights/safetensors.js";

const [D, HEADS, KV, HEAD, FF, LAYERS] = [192, 6, 2, 32, 512, 6];

export interface Run {
  /** hook_resid_post of each layer, [tokens, 192]. */
  readonly residuals: readonly Float32Array[];
  /** Of the last position, [vocabulary]. */
  readonly logits: Float32Array;
}

/** The embedded model's forward pass, plain and slow: what the readers' tests take residuals from. */
export function openSmallLlama(path: string): (ids: Int32Array | readonly number[]) => Run {
  using file = openSafetensors(path);
  const weights = new Map([...file.tensors.keys()].map((name) => [name, file.readF32(name)]));
  const weight = (name: string): Float32Array => {
    const values = weights.get(name);
    if (!values) throw new Error(`no tensor ${name}`);
    return values;
  };
  const embedding = weight("model.embed_tokens.weight");
  return (ids) => {
    const residuals: Float32Array[] = [];
    const h = new Float32Array(ids.length * D);
    for (const [t, id] of ids.entries()) h.set(embedding.subarray(id * D, (id + 1) * D), t * D);
    const addTo = (x: Float32Array) => {
      for (let i = 0; i < x.length; i++) h[i]! += x[i]!;
    };
    for (let layer = 0; layer < LAYERS; layer++) {
      const w = (name: string) => weight(`model.layers.${layer}.${name}.weight`);
      const a = rmsNorm(h, w("input_layernorm"));
      const [q, k, v] = ["q", "k", "v"].map((name) => linear(a, w(`self_attn.${name}_proj`), D));
      addTo(linear(attention(rotate(q!, HEADS), rotate(k!, KV), v!), w("self_attn.o_proj"), D));
      const m = rmsNorm(h, w("post_attention_layernorm"));
      const up = linear(m, w("mlp.up_proj"), D);
      const gated = linear(m, w("mlp.gate_proj"), D).map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!);
      addTo(linear(gated, w("mlp.down_proj"), FF));
      residuals.push(h.slice());
    }
    const last = rmsNorm(h, weight("model.norm.weight")).subarray(-D);
    return { residuals, logits: linear(last, embedding, D) };
  };
}

/** x [rows, width] times w [out, width] transposed. */
function linear(x: Float32Array, w: Float32Array, width: number): Float32Array {
  const [rows, columns] = [x.length / width, w.length / width];
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += x[row * width + i]! * w[column * width + i]!;
      out[row * columns + column] = sum;
    }
  return out;
}

function rmsNorm(x: Float32Array, gain: Float32Array): Float32Array {
  const out = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += D) {
    let sum = 0;
    for (let i = 0; i < D; i++) sum += x[row + i]! ** 2;
    for (let i = 0; i < D; i++) out[row + i] = (x[row + i]! / Math.sqrt(sum / D + 1e-5)) * gain[i]!;
  }
  return out;
}

/** Rotary positions on [tokens, heads, 32], halves apart. */
function rotate(x: Float32Array, heads: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let t = 0; t < x.length / (heads * HEAD); t++)
    for (let head = 0; head < heads; head++)
      for (let i = 0; i < HEAD / 2; i++) {
        const at = (t * heads + head) * HEAD + i;
        const angle = t * 10000 ** (-(2 * i) / HEAD);
        const [a, b] = [x[at]!, x[at + HEAD / 2]!];
        out[at] = a * Math.cos(angle) - b * Math.sin(angle);
        out[at + HEAD / 2] = b * Math.cos(angle) + a * Math.sin(angle);
      }
  return out;
}

function attention(q: Float32Array, k: Float32Array, v: Float32Array): Float32Array {
  const tokens = q.length / D;
  const out = new Float32Array(q.length);
  for (let head = 0; head < HEADS; head++) {
    const kv = Math.floor((head * KV) / HEADS) * HEAD;
    for (let t = 0; t < tokens; t++) {
      const at = t * D + head * HEAD;
      const scores = Float64Array.from({ length: t + 1 }, (_, s) => {
        let dot = 0;
        for (let i = 0; i < HEAD; i++) dot += q[at + i]! * k[s * KV * HEAD + kv + i]!;
        return Math.exp(dot / Math.sqrt(HEAD));
      });
      const total = scores.reduce((sum, score) => sum + score, 0);
      for (const [s, score] of scores.entries())
        for (let i = 0; i < HEAD; i++) out[at + i]! += (score / total) * v[s * KV * HEAD + kv + i]!;
    }
  }
  return out;
}
