import { describe, expect, it } from "vitest";
import { KV_CHOICES, kvProblem, resolveKv } from "../../../models/keys-values/kv-choice.js";
import { PRECISIONS } from "../../../models/weights/block-format.js";

const setting = { precision: "f32", device: "cpu", headDim: 64 } as const;

describe("what keys and values are kept in", () => {
  it("is by itself 8 bits where weights have no more, on a CPU, for heads that its kernel takes", () => {
    for (const precision of ["int8", "q8-block", "q4"] as const) {
      expect(resolveKv("auto", { ...setting, precision })).toBe("q8");
      expect(resolveKv("auto", { ...setting, precision, headDim: 20 })).toBe("float32");
      expect(resolveKv("auto", { ...setting, precision, device: "cuda" })).toBe("float32");
    }
  });

  it("is else by itself what the activations are in", () => {
    expect(resolveKv("auto", { ...setting, precision: "f32" })).toBe("float32");
    expect(resolveKv("auto", { ...setting, precision: "f16" })).toBe("float16");
    expect(resolveKv("auto", { ...setting, precision: "bf16", device: "cuda" })).toBe("bfloat16");
  });

  it("is what is asked for, whatever weights of f32 activations are in", () => {
    for (const precision of ["f32", "int8", "q8-block", "q4"] as const)
      for (const [asked, type] of [
        ["f32", "float32"],
        ["q8", "q8"],
        ["q4", "q4"],
      ] as const) {
        expect(kvProblem(asked, { ...setting, precision })).toBeNull();
        expect(resolveKv(asked, { ...setting, precision })).toBe(type);
      }
  });

  it.each([
    [
      "f16",
      { precision: "q8-block" },
      "--kv f16 needs activations of that type, and those of --precision q8-block are f32: take --kv f32 or auto",
    ],
    [
      "f32",
      { precision: "f16" },
      "--kv f32 needs activations of that type, and those of --precision f16 are f16: take --kv f16 or auto",
    ],
    [
      "q8",
      { precision: "f16" },
      "--kv q8 needs activations in f32, and those of --precision f16 are f16: take --kv auto or another --precision",
    ],
    ["q8", { device: "cuda" }, "--kv q8 runs on a CPU only: add --device cpu, or take --kv auto"],
    ["q4", { device: "cuda" }, "--kv q4 runs on a CPU only: add --device cpu, or take --kv auto"],
    [
      "q8",
      { headDim: 20 },
      "--kv q8 needs a head size that is a multiple of 8, and this model's is 20: take --kv f32 or auto",
    ],
    [
      "q4",
      { headDim: 4 },
      "--kv q4 needs a head size that is a multiple of 8, and this model's is 4: take --kv f32 or auto",
    ],
  ] as const)("as %s is refused with %j, with what to do", (asked, more, sentence) => {
    expect(kvProblem(asked, { ...setting, ...more })).toBe(sentence);
  });

  it("is never refused where nothing was asked for", () => {
    for (const precision of PRECISIONS)
      for (const device of ["cpu", "cuda"] as const)
        for (const headDim of [6, 8]) {
          const each = { precision, device, headDim };
          expect(kvProblem("auto", each)).toBeNull();
          const found = KV_CHOICES.filter(
            (asked) => asked !== "auto" && resolveKv(asked, each) === resolveKv("auto", each),
          );
          expect(found.some((asked) => kvProblem(asked, each) === null)).toBe(true);
        }
  });
});
