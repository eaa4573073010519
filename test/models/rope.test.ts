import { describe, expect, it } from "vitest";
import { ropeFrequencies } from "../../models/rope.js";
import { partialRotaryFactor, readRope } from "../../models/rope-config.js";

/** What the config of a model, in either spelling, makes of a head's rotated dimensions at a window. */
function frequencies(rope: object, { rotaryDim = 8, length = 128, window = 64, ...top } = {}) {
  const theta = "rope_theta" in rope ? {} : { rope_theta: 10000 };
  const config = { file: "config.json", values: { ...theta, ...top, rope_scaling: rope } };
  return ropeFrequencies(readRope(config, { rotaryDim, maxPositionEmbeddings: length }), rotaryDim, { window });
}

/** To 1e-12 relative. */
function expectClose(found: ArrayLike<number>, expected: readonly number[]) {
  expect(found).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(Math.abs(found[i]! / value - 1), `[${i}]`).toBeLessThan(1e-12);
}

// The expected numbers come from transformers 5.23.0's own modeling_rope_utils.py, run with float64 arrays instead of torch's.
describe("rotary frequencies, as transformers computes them", () => {
  it("default", () => {
    const plain = ropeFrequencies({ type: "default", theta: 10000 }, 8, { window: 64 });
    expectClose(plain.inverseFrequencies, [1, 0.1, 0.01, 0.001]);
    expect(plain.attentionFactor).toBe(1);
  });

  it("linear", () => {
    const linear = frequencies({ type: "linear", factor: 8 });
    expectClose(linear.inverseFrequencies, [0.125, 0.0125, 0.00125, 0.000125]);
    expect(linear.attentionFactor).toBe(1);
  });

  it("llama3", () => {
    const llama3 = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
    const golden = frequencies({ ...llama3, rope_theta: 5e5, original_max_position_embeddings: 32 });
    expectClose(golden.inverseFrequencies, [1, 0.004700753866357992, 0.00017677669529663688, 6.647869871181236e-6]);
    const published = frequencies(
      { ...llama3, original_max_position_embeddings: 8192 },
      { rotaryDim: 16, length: 131072, ...{ rope_theta: 5e5 } },
    );
    expectClose(
      published.inverseFrequencies,
      [
        1, 0.19392274474868576, 0.03760603093086393, 0.0072926647372171085, 0.0005248461609929547, 3.428102195952591e-5,
        6.647869871181236e-6, 1.2891731721515574e-6,
      ],
    );
    expect(published.attentionFactor).toBe(1);
  });

  it("yarn", () => {
    const golden = frequencies({ rope_type: "yarn", factor: 4, original_max_position_embeddings: 32 });
    expectClose(golden.inverseFrequencies, [1, 0.025, 0.0025, 0.00025]);
    expectClose([golden.attentionFactor], [1.138629436111989]);
    const long = { rotaryDim: 16, length: 131072, ...{ rope_theta: 1e6 } };
    expectClose(
      frequencies({ type: "yarn", factor: 4, original_max_position_embeddings: 32768 }, long).inverseFrequencies,
      [
        1, 0.17782794100389226, 0.03162277660168379, 0.004217559938927618, 0.0005, 4.445698525097307e-5,
        7.905694150420949e-6, 1.4058533129758728e-6,
      ],
    );
  });

  it("yarn without rounding the ramp's ends", () => {
    const found = frequencies(
      {
        rope_type: "yarn",
        factor: 32,
        original_max_position_embeddings: 4096,
        truncate: false,
        beta_fast: 32,
        beta_slow: 1,
      },
      { rotaryDim: 16, length: 131072, ...{ rope_theta: 150000 } },
    );
    expectClose(
      found.inverseFrequencies,
      [
        1, 0.2254180002028708, 0.050813274815461475, 0.006794959489732219, 0.00045648391922324086, 1.818833668168956e-5,
        4.0999784818029795e-6, 9.242089502428301e-7,
      ],
    );
    expectClose([found.attentionFactor], [1.3465735902799727]);
  });

  it("yarn with mscale, other betas, a given attention factor, or no factor", () => {
    const deepseek = frequencies(
      {
        type: "yarn",
        factor: 40,
        original_max_position_embeddings: 4096,
        mscale: 1,
        mscale_all_dim: 0.8,
        beta_fast: 16,
        beta_slow: 2,
      },
      { rotaryDim: 16, length: 163840 },
    );
    expectClose(
      deepseek.inverseFrequencies,
      [
        1, 0.31622776601683794, 0.1, 0.03162277660168379, 0.006750000000000002, 0.001106797181058933, 2.5e-5,
        7.905694150420947e-6,
      ],
    );
    expectClose([deepseek.attentionFactor], [1.0569662567531275]);
    const base = { rope_type: "yarn", original_max_position_embeddings: 32 };
    expect(frequencies({ ...base, factor: 4, attention_factor: 1.25 }).attentionFactor).toBe(1.25);
    const derived = frequencies({ ...base, factor: null });
    expectClose(derived.inverseFrequencies, [1, 0.025, 0.0025, 0.00025]);
    expectClose([derived.attentionFactor], [1.138629436111989]);
  });

  it("longrope, whose factors are chosen once by the window", () => {
    const factors = { short_factor: [1, 1.1, 1.3, 1.7], long_factor: [1, 2, 4, 6] };
    const phi3 = { length: 256, ...{ original_max_position_embeddings: 64 } };
    const short = frequencies({ type: "longrope", ...factors }, { ...phi3, window: 64 });
    expectClose(short.inverseFrequencies, [1, 0.09090909090909091, 0.007692307692307693, 0.000588235294117647]);
    expectClose([short.attentionFactor], [1.1547005383792517]);
    const long = frequencies({ type: "longrope", ...factors }, { ...phi3, window: 65 });
    expectClose(long.inverseFrequencies, [1, 0.05, 0.0025, 0.00016666666666666666]);
    expectClose([long.attentionFactor], [1.1547005383792517]);
    const given = frequencies({ rope_type: "longrope", ...factors, factor: 32 }, phi3);
    expectClose([given.attentionFactor], [1.3540064007726602]);
    expect(frequencies({ rope_type: "longrope", ...factors }, { ...phi3, length: 64 }).attentionFactor).toBe(1);
    expect(frequencies({ rope_type: "longrope", ...factors, attention_factor: 1.5 }, phi3).attentionFactor).toBe(1.5);
  });

  it("divided one by one", () => {
    const divided = frequencies({ rope_type: "divided", divisors: [1, 2, 4, 8] });
    expectClose(divided.inverseFrequencies, [1, 0.05, 0.0025, 0.000125]);
    expect(divided.attentionFactor).toBe(1);
    expect(() => frequencies({ rope_type: "divided", divisors: [1, 2, 4] })).toThrow(
      /divisors is \[1,2,4\], but it must/,
    );
    expect(() => frequencies({ rope_type: "divided", divisors: [1, 2, 0, 8] })).toThrow(/divisors.2 is 0/);
    expect(() => frequencies({ rope_type: "divided" })).toThrow(/divisors is absent/);
    const short = { type: "divided" as const, theta: 10000, divisors: [1] };
    expect(() => ropeFrequencies(short, 8, { window: 64 })).toThrow(RangeError);
  });

  it("refuses an odd number of dimensions", () => {
    expect(() => ropeFrequencies({ type: "default", theta: 10000 }, 7, { window: 64 })).toThrow(RangeError);
  });
});

describe("the spellings of rotary positions", () => {
  const read = (values: object) =>
    readRope({ file: "config.json", values: { ...values } }, { rotaryDim: 8, maxPositionEmbeddings: 128 });

  it("agree on where theta and the original length stand", () => {
    const scaling = { rope_type: "yarn", factor: 4 };
    const before = read({ rope_theta: 5e5, rope_scaling: { ...scaling, original_max_position_embeddings: 32 } });
    const now = read({ rope_parameters: { ...scaling, rope_theta: 5e5, original_max_position_embeddings: 32 } });
    expect(before).toEqual(now);
    expect(before).toMatchObject({ theta: 5e5, originalLength: 32 });
    expect(read({ original_max_position_embeddings: 64, rope_scaling: scaling })).toMatchObject({ originalLength: 64 });
    const both = { ...scaling, original_max_position_embeddings: 32 };
    expect(read({ rope_theta: 5e5, rope_scaling: both, rope_parameters: { ...both, rope_theta: 5e5 } })).toEqual(now);
    expect(read({ rope_scaling: scaling })).toMatchObject({ originalLength: 128, theta: 10000 });
  });

  it("agree on the share of a head that is rotated", () => {
    const share = (values: object) => partialRotaryFactor({ file: "config.json", values: { ...values } });
    expect(share({})).toBe(1);
    expect(share({ partial_rotary_factor: 0.25 })).toBe(0.25);
    expect(share({ rope_parameters: { partial_rotary_factor: 0.5 } })).toBe(0.5);
    expect(() => share({ partial_rotary_factor: 2 })).toThrow(/partial_rotary_factor is 2/);
    const twice = { partial_rotary_factor: 0.25, rope_parameters: { partial_rotary_factor: 0.5 } };
    expect(() => share(twice)).toThrow(
      /partial_rotary_factor is 0.25, but rope_parameters.partial_rotary_factor is 0.5/,
    );
  });

  const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
  it.each([
    [
      { rope_theta: 1e4, rope_parameters: { rope_theta: 5e5 } },
      /rope_theta is 10000, but rope_parameters.rope_theta is/,
    ],
    [
      { rope_parameters: { rope_type: "linear", type: "yarn", factor: 2 } },
      /type is "yarn", but rope_parameters.rope_ty/,
    ],
    [
      { rope_scaling: { type: "linear", factor: 2 }, rope_parameters: { rope_type: "linear", factor: 4 } },
      /rope_scaling is .*, but rope_parameters says otherwise/,
    ],
    [
      {
        original_max_position_embeddings: 64,
        rope_scaling: { ...llama3, type: "llama3", original_max_position_embeddings: 32 },
      },
      /original_max_position_embeddings is 64, but rope_scaling.original_max_position_embeddings is 32/,
    ],
    [
      { rope_parameters: { rope_type: "default", factor: 8 } },
      /factor is 8, but positions of the type default have no/,
    ],
    [
      { rope_scaling: { ...llama3, type: "linear" } },
      /low_freq_factor|high_freq_factor is 4, but positions of the type linear/,
    ],
    [
      { rope_scaling: { type: "yarn", factor: 2, ext_factor: 0.5 } },
      /ext_factor is 0.5, but positions of the type yarn/,
    ],
  ])("that contradict each other or mean nothing are refused, by name: %j", (values, reason) => {
    expect(() => read(values)).toThrow(reason);
  });

  it("may have what changes nothing", () => {
    const yarn = { type: "yarn", factor: 2, finetuned: true, ext_factor: 1, attn_factor: null };
    expect(read({ rope_scaling: yarn })).toMatchObject({ type: "yarn", factor: 2 });
    expect(read({ rope_scaling: null, rope_parameters: {} })).toEqual({ type: "default", theta: 10_000 });
  });
});
