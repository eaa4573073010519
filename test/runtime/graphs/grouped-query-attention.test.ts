import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { GroupedQueryAttention } from "../../../models/attention/grouped-query-attention.js";
import { BATCH } from "../../../models/graph-interface.js";
import { codeLimits, type KvFormat, kvScales, kvType } from "../../../models/keys-values/kv-format.js";
import type { Positions } from "../../../models/model-shape.js";
import { GraphBuilder } from "../../../models/onnx/graph.js";
import { ropeFrequencies } from "../../../models/rope.js";
import { LambdaCache } from "../../../runtime/cache/lambda-cache.js";
import { slotDistances } from "../../../runtime/graphs/chunk.js";
import { GraphTensors } from "../../../runtime/graphs/graph-tensors.js";
import { RotaryTable } from "../../../runtime/graphs/rotary-table.js";
import { CPU } from "../../../runtime/ort/device.js";
import { Session } from "../../../runtime/ort/session.js";
import { randomWeights } from "../../models/random-model.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Case {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly positions: Positions;
  readonly bits: 8 | 4;
  readonly softcap?: number;
  /** W; 6 where it is left out. */
  readonly window?: number;
  /** Queries, keys and values reach attention one by one, as where heads are normed. */
  readonly apart?: true;
}

const rope = { type: "default", theta: 100 } as const;
const rotary = (rotaryDim: number, interleaved?: true): Positions => ({
  kind: "rotary",
  rope,
  rotaryDim,
  ...(interleaved ? { interleaved } : {}),
});
const SINKS = 3;
/** Tokens of each row. */
const LENGTHS = [25, 4, 13];
const LARGEST = 2.5;

const CASES: readonly Case[] = [
  { heads: 4, kvHeads: 2, headDim: 16, positions: rotary(16), bits: 8 },
  { heads: 4, kvHeads: 2, headDim: 16, positions: rotary(16), bits: 4 },
  { heads: 4, kvHeads: 2, headDim: 16, positions: rotary(16), bits: 8, window: 1 },
  { heads: 4, kvHeads: 1, headDim: 32, positions: rotary(16), bits: 8 },
  { heads: 2, kvHeads: 2, headDim: 16, positions: rotary(16, true), bits: 8 },
  { heads: 4, kvHeads: 2, headDim: 8, positions: rotary(8), bits: 8 },
  { heads: 4, kvHeads: 2, headDim: 24, positions: rotary(12, true), bits: 4 },
  { heads: 4, kvHeads: 2, headDim: 16, positions: rotary(16), bits: 8, apart: true },
  { heads: 4, kvHeads: 2, headDim: 16, positions: rotary(16), bits: 8, softcap: 2 },
  { heads: 4, kvHeads: 4, headDim: 16, positions: { kind: "alibi", slopes: [0.5, 0.25, 0.125, 0.0625] }, bits: 8 },
  { heads: 4, kvHeads: 2, headDim: 16, positions: { kind: "none" }, bits: 8 },
];

const named = CASES.map((each) => ({ name: JSON.stringify(each), ...each }));

describe("attention over codes is that of what they stand for, in rows of different lengths", () => {
  it.each(named)("$name", ({ heads, kvHeads, headDim, positions, bits, softcap = null, window = 6, apart = false }) => {
    const width = (heads + 2 * kvHeads) * headDim;
    const ranges = (seed: number) => [randomWeights(kvHeads * headDim, seed, 0.5).map((x) => LARGEST + x)];
    const kv: KvFormat = { bits, ranges: { keys: ranges(1), values: ranges(2) } };
    const shape = { ...SHAPE, heads, kvHeads, headDim, geometries: [{ window: "lambda" as const, positions }] };
    const graph = new GraphBuilder();
    const attention = new GroupedQueryAttention(graph, { ...shape, sinks: SINKS, kv });
    const input = graph.input("projected", "float32", [BATCH, 1, width]);
    const [query = "", key = "", value = ""] = attention.splitHeads(
      graph.op("Identity", [input]),
      [heads, kvHeads, kvHeads],
      headDim,
    );
    const scale = 1 / Math.sqrt(headDim);
    const normed = apart ? graph.op("Identity", [query]) : query;
    const out = attention.attend(0, { heads, kvHeads, headDim, scale, softcap }, { query: normed, key, value });
    graph.output(out, "float32", [BATCH, 1, heads * headDim]);
    const path = join(folder, "attention.onnx");
    writeFileSync(path, graph.serialize("attention"));
    using session = Session.load(path, { threads: 1, spin: false });
    using cache = new LambdaCache(shape, { window, sinks: SINKS }, kvType(kv, "float32"));
    const rows = LENGTHS.map(() => ({ row: cache.allocate(), raw: [] as Float32Array[], values: [] as number[][] }));
    const table = positions.kind === "rotary" ? new RotaryTable(positions.rope, positions.rotaryDim, window) : null;
    const scales = { keys: kvScales(kv, "keys", 0), values: kvScales(kv, "values", 0) };
    const coded = (x: number, channel: number, of: "keys" | "values"): number => {
      const [least, most] = codeLimits(kv);
      return Math.min(most, Math.max(least, evenly(x / scales[of][channel]!))) * scales[of][channel]!;
    };
    let worst = 0;
    for (let step = 0; step < Math.max(...LENGTHS); step++) {
      // Rows that are done wait: they compute along and stay as they are.
      for (const { row } of rows) cache.reserve(row, 1);
      for (const { row } of rows) cache.scribble(row);
      const [names] = attention.geometries;
      const [layer] = attention.layers;
      if (!names || !layer) throw new RangeError("nothing was built");
      const slots = cache.slots(0);
      using tensors = new GraphTensors(CPU, graph.signature, [
        [BATCH, rows.length],
        [names.slots, slots],
        [names.appended.rotations?.size ?? "unused", slots],
      ]);
      tensors.bindRows(layer.keys.input, cache.keys[0], 0, layer.keys.outputs);
      tensors.bindRows(layer.values.input, cache.values[0], 0, layer.values.outputs);
      if (names.sinks) tensors.bindRows(names.sinks.keys, cache.sinkKeys[0], 0);
      tensors.complete();
      tensors.write(names.appended.slots, [slots]);
      if (names.appended.rotations) tensors.write(names.appended.rotations.rows, [...rows.keys()]);
      const given = rows.map((_, i) => randomWeights(width, 100 * step + i + 1, 2));
      for (const [i, { row }] of rows.entries()) {
        const n = cache.count(row);
        const ring = cache.ring(row, 0);
        tensors.write(input, given[i]!, i * width);
        tensors.write(names.appended.past, [ring.writtenTo(n)], i);
        if (names.distances) tensors.write(names.distances, slotDistances(ring, slots, n), i * slots);
        if (names.rotary) table?.write(tensors.input(names.rotary.cos), tensors.input(names.rotary.sin), i, [n]);
        if (names.sinks) {
          const standing = Array.from({ length: SINKS }, (_, s) => Math.max(s, n - window));
          table?.write(tensors.input(names.sinks.rotary.cos), tensors.input(names.sinks.rotary.sin), i, standing);
        }
      }
      using binding = tensors.binding(session);
      binding.run();
      const got = tensors.output(out).read(new Float32Array(rows.length * heads * headDim));
      for (const [i, { row, raw, values }] of rows.entries()) {
        const n = cache.count(row);
        if (n === LENGTHS[i]) continue;
        const own = given[i]!;
        raw.push(own.slice(heads * headDim, (heads + kvHeads) * headDim));
        values.push([...own.slice((heads + kvHeads) * headDim)].map((x, channel) => coded(x, channel, "values")));
        if (n < SINKS && layer.rawKey) {
          const output = tensors.output(layer.rawKey.output);
          using rawKey = output.alias([1, kvHeads, 1, headDim], (i * output.size) / rows.length + layer.rawKey.at);
          cache.keepSink(row, [rawKey]);
        }
        cache.advance(row);
        const seen = [...raw.keys()].filter((s) => s < SINKS || n - s < window);
        for (let head = 0; head < heads; head++) {
          const group = Math.floor((head * kvHeads) / heads);
          const at = group * headDim;
          const q = rotated([...own.slice(head * headDim, (head + 1) * headDim)], positions, n);
          const scores = seen.map((s) => {
            const place = s < SINKS ? Math.max(s, n - window) : s;
            const k = rotated([...raw[s]!.slice(at, at + headDim)], positions, place);
            const score = scale * q.reduce((sum, x, d) => sum + x * coded(k[d]!, at + d, "keys"), 0);
            const limited = softcap === null ? score : softcap * Math.tanh(score / softcap);
            return positions.kind === "alibi" ? limited - positions.slopes[head]! * Math.min(n - s, window) : limited;
          });
          const most = Math.max(...scores);
          const weights = scores.map((score) => Math.exp(score - most));
          const total = weights.reduce((a, b) => a + b, 0);
          for (let d = 0; d < headDim; d++) {
            const want = seen.reduce((sum, s, j) => sum + (weights[j]! / total) * values[s]![at + d]!, 0);
            worst = Math.max(worst, Math.abs(want - got[(i * heads + head) * headDim + d]!));
          }
        }
      }
    }
    // A key that is rounded to the other of two codes moves a score by a few thousandths; nothing else comes near.
    expect(worst).toBeLessThan(2e-5);
  });
});

const SHAPE = {
  vocabSize: 8,
  hiddenSize: 8,
  layers: 1,
  trainedLength: 64,
  bosTokenId: null,
  eosTokenIds: [],
  layerGeometries: [0],
  learnedPositions: null,
  postNorm: false,
  ignoresMean: "never",
} as const;

/** Rounded to nearest, ties to even. */
function evenly(x: number): number {
  const rounded = Math.round(x);
  return Math.abs(x % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** A head rotated to a position (Su et al. 2021, arXiv 2104.09864). */
function rotated(x: number[], positions: Positions, position: number): number[] {
  if (positions.kind !== "rotary") return x;
  const { rotaryDim, interleaved } = positions;
  const { inverseFrequencies } = ropeFrequencies(positions.rope, rotaryDim, { window: 1 });
  const out = [...x];
  for (let i = 0; i < rotaryDim / 2; i++) {
    const [a, b] = interleaved ? [2 * i, 2 * i + 1] : [i, i + rotaryDim / 2];
    const angle = position * inverseFrequencies[i]!;
    out[a] = x[a]! * Math.cos(angle) - x[b]! * Math.sin(angle);
    out[b] = x[b]! * Math.cos(angle) + x[a]! * Math.sin(angle);
  }
  return out;
}
