import { cpSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { listEntries } from "../../../models/cache/cache-entry.js";
import { CacheError } from "../../../models/cache/cache-error.js";
import { type CompiledSae, compileSae } from "../../../models/sae/compile-sae.js";
import { rowNorms } from "../../../models/sae/folding.js";
import { openSae } from "../../../models/sae/formats/index.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { temporaryFolder } from "../weights/write-safetensors.js";
import { GOLDEN, goldenSaes, writeF32 } from "./golden-sae.js";

const TOP_AFA = join("test", "golden", "top-afa", "general-unit-norm", "checkpoints");
const folders = [
  ...["saelens", "sparsify", "dictionary_learning", "gemma-scope"]
    .flatMap((format) => goldenSaes(join(GOLDEN, format)))
    .filter((folder) => !folder.includes("AutoEncoder-legacy-file")),
  ...readdirSync(TOP_AFA).map((name) => join(TOP_AFA, name)),
];
const JUMPRELU = join(GOLDEN, "saelens", "jumprelu-layer_norm");
const GEMMA = join(GOLDEN, "gemma-scope", "plain", "layer_1", "width_128", "average_l0_40");

const stamp = ({ weights }: CompiledSae) => [weights.path, statSync(weights.path).ino, statSync(weights.path).mtimeMs];

/** Numbers in the compiled weights file. */
function stored({ weights: { path, places } }: CompiledSae, name: string): Float32Array {
  const { offset = 0, bytes = 0 } = places.get(name) ?? {};
  return new Float32Array(Uint8Array.from(readFileSync(path).subarray(offset, offset + bytes)).buffer);
}

describe("a compiled SAE", () => {
  it.each(folders)("is what was published, from the cache as well (%s)", async (folder) => {
    const cacheRoot = temporaryFolder();
    const { wEnc, wDec, wSkip: _, ...outline } = await openSae(folder);
    for (let start = 0; start < 2; start++) {
      const sae = await compileSae({ folder, precision: start === 0 ? "f32" : "q8", cacheRoot });
      expect({ ...sae.description, file: outline.file }).toEqual(outline);
      expect(sae.description.file.endsWith(outline.file)).toBe(true);
      expect(sae.decoderNorms).toEqual(Float32Array.from(rowNorms(wDec, outline.dSae)));
      expect(stored(sae, "W_enc")).toEqual(wEnc.slice());
      expect(stored(sae, "W_dec")).toEqual(wDec.slice());
    }
  });

  it("is written once for each precision", async () => {
    const cacheRoot = temporaryFolder();
    const compile = (precision: "f32" | "q8") => compileSae({ folder: JUMPRELU, precision, cacheRoot });
    const first = await compile("f32");
    expect(stamp(await compile("f32"))).toEqual(stamp(first));
    expect((await compile("f32")).description).toEqual(first.description);
    expect((await compile("q8")).weights.path).not.toBe(first.weights.path);
    expect(listEntries(cacheRoot).map(({ model, precision }) => [model.endsWith(JUMPRELU), precision])).toEqual(
      expect.arrayContaining([
        [true, "f32"],
        [true, "q8"],
      ]),
    );
  });

  it("is called by its content, wherever its files lie", async () => {
    const [cacheRoot, copy] = [temporaryFolder(), temporaryFolder()];
    cpSync(JUMPRELU, copy, { recursive: true });
    const content = async (folder: string) => (await compileSae({ folder, precision: "f32", cacheRoot })).content;
    expect(await content(copy)).toBe(await content(JUMPRELU));
    writeFileSync(join(copy, "cfg.json"), `${readFileSync(join(copy, "cfg.json"))}\n`);
    expect(await content(copy)).not.toBe(await content(JUMPRELU));
  });

  it("is another one when a weight or its config changes", async () => {
    const [cacheRoot, folder] = [temporaryFolder(), temporaryFolder()];
    cpSync(JUMPRELU, folder, { recursive: true });
    const paths = new Set<string>();
    const compile = async () => {
      const { weights, description } = await compileSae({ folder, precision: "f32", cacheRoot });
      paths.add(weights.path);
      return description;
    };
    await compile();
    const weights = join(folder, "sae_weights.safetensors");
    const bytes = readFileSync(weights);
    bytes[bytes.length - 2]! ^= 1;
    writeFileSync(weights, bytes);
    await compile();
    const cfg = JSON.parse(readFileSync(join(folder, "cfg.json"), "utf8"));
    writeFileSync(
      join(folder, "cfg.json"),
      JSON.stringify({ ...cfg, apply_b_dec_to_input: !cfg.apply_b_dec_to_input }),
    );
    const { subtractsBDec } = await compile();
    expect(subtractsBDec).toBe(!cfg.apply_b_dec_to_input);
    expect(paths.size).toBe(3);
  });

  it("is read where it lies now, if its path says what it taps", async () => {
    const [cacheRoot, elsewhere] = [temporaryFolder(), join(temporaryFolder(), "gemma-scope-2b-pt-mlp", "layer_1")];
    cpSync(GEMMA, elsewhere, { recursive: true });
    const hookOf = async (folder: string) =>
      (await compileSae({ folder, precision: "f32", cacheRoot })).description.hook;
    expect(await hookOf(GEMMA)).toMatchObject({ tappable: false });
    expect(await hookOf(elsewhere)).toEqual((await openSae(elsewhere)).hook);
  });

  it("can come from memory", async () => {
    const cacheRoot = temporaryFolder();
    const description = await openSae(JUMPRELU);
    const sae = await compileSae({ description, precision: "f32", cacheRoot });
    expect(stamp(await compileSae({ description, precision: "f32", cacheRoot }))).toEqual(stamp(sae));
    const other = { ...description, wDec: description.wDec.map((value) => 2 * value) };
    const changed = await compileSae({ description: other, precision: "f32", cacheRoot });
    expect(changed.weights.path).not.toBe(sae.weights.path);
    expect(changed.decoderNorms[3]).toBeCloseTo(2 * (sae.decoderNorms[3] ?? 0), 5);
  });
});

describe("an SAE that cannot be compiled", () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY])(
    "has %f in a tensor, which is named; nothing is left",
    async (value) => {
      const cacheRoot = temporaryFolder();
      const description = await openSae(JUMPRELU);
      const broken = (values: Float32Array) => values.map((each, i) => (i === 77 ? value : each));
      const refused = async (changes: Partial<typeof description>) =>
        compileSae({ description: { ...description, ...changes }, precision: "q8", cacheRoot }).catch(
          (error: unknown) => String(error),
        );
      expect(await refused({ wEnc: broken(description.wEnc) })).toMatch(/ModelFormatError.*"W_enc" holds/);
      expect(await refused({ wDec: broken(description.wDec) })).toMatch(/ModelFormatError.*"W_dec" holds/);
      expect(await refused({ activation: { kind: "jumprelu", threshold: broken(new Float32Array(128)) } })).toMatch(
        /ModelFormatError.*"threshold" holds/,
      );
      expect(listEntries(cacheRoot)).toEqual([]);
    },
  );

  it("has NaN in its file", async () => {
    const folder = temporaryFolder();
    cpSync(JUMPRELU, folder, { recursive: true });
    const file = join(folder, "sae_weights.safetensors");
    using weights = openSafetensors(file);
    const tensors: Parameters<typeof writeF32>[1] = Object.fromEntries(
      [...weights.tensors].map(([name, { shape }]) => [name, [[...shape], weights.readF32(name)]]),
    );
    tensors.W_dec?.[1].fill(Number.NaN, 5, 6);
    writeF32(file, tensors);
    await expect(compileSae({ folder, precision: "f32", cacheRoot: temporaryFolder() })).rejects.toThrow(
      /"W_dec" holds values that are not finite numbers/,
    );
  });

  it("is not there", async () => {
    const cacheRoot = temporaryFolder();
    const missing = join(cacheRoot, "nothing");
    await expect(compileSae({ folder: missing, precision: "f32", cacheRoot })).rejects.toThrow(
      "there is no such folder",
    );
    await expect(compileSae({ folder: temporaryFolder(), precision: "f32", cacheRoot })).rejects.toThrow(
      "there is no SAE in this folder",
    );
  });

  it("is damaged in the cache, which says what to do", async () => {
    const cacheRoot = temporaryFolder();
    const { weights } = await compileSae({ folder: JUMPRELU, precision: "f32", cacheRoot });
    const outline = join(weights.path, "..", "sae.json");
    writeFileSync(outline, " ".repeat(statSync(outline).size));
    const again = compileSae({ folder: JUMPRELU, precision: "f32", cacheRoot });
    await expect(again).rejects.toThrow(CacheError);
    await expect(again).rejects.toThrow(/sae.json is damaged: remove its folder/);
  });
});
