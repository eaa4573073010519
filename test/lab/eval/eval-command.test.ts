import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { TextDocuments } from "../../../lab/activations/text-documents.js";
import { lambdatapInProcess } from "../../server/lambdatap-in-process.js";
import { saeFolder } from "./golden-evaluation.js";

const home = mkdtempSync(join(tmpdir(), "lambdatap-eval-"));
afterAll(() => rmSync(home, { recursive: true }));
const BOOK = join("test", "data", "the-wind-in-the-willows.txt");

const run = (...args: string[]) =>
  lambdatapInProcess(["lab", "eval", "--threads", "1", ...args], { LAMBDATAP_CACHE: join(home, "cache") });
const few = ["--text", BOOK, "--tokens", "200", "--context", "64"];
const saes = (...names: string[]) => names.flatMap((name) => ["--sae", saeFolder(name)]);

function write(name: string, text: string): string {
  const path = join(home, name);
  writeFileSync(path, text);
  return path;
}

/** A copy of an SAE with other settings. */
function changed(name: string, change: (cfg: Record<string, unknown>) => object): string {
  const to = join(home, name);
  mkdirSync(to);
  cpSync(saeFolder("topk"), to, { recursive: true });
  const cfg: Record<string, unknown> = JSON.parse(readFileSync(join(to, "cfg.json"), "utf8"));
  writeFileSync(join(to, "cfg.json"), JSON.stringify({ ...cfg, ...change(cfg) }));
  return to;
}
const metadata = (change: object) => (cfg: Record<string, unknown>) => ({
  metadata: { ...Object(cfg.metadata), ...change },
});

/** The schema of SAEBench 0.6.0, evals/core/eval_output_schema_core.json: what it names, and nothing else. */
const numbers = (...names: string[]) => z.strictObject(Object.fromEntries(names.map((name) => [name, z.number()])));
const SaeBenchCore = z.strictObject({
  eval_type_id: z.literal("core"),
  eval_config: z.strictObject({
    model_name: z.string(),
    llm_dtype: z.string(),
    batch_size_prompts: z.int(),
    n_eval_reconstruction_batches: z.int(),
    n_eval_sparsity_variance_batches: z.int(),
    dataset: z.string(),
    context_size: z.int(),
    compute_kl: z.boolean(),
    compute_ce_loss: z.boolean(),
    compute_l2_norms: z.boolean(),
    compute_sparsity_metrics: z.boolean(),
    compute_variance_metrics: z.boolean(),
    compute_featurewise_density_statistics: z.boolean(),
    compute_featurewise_weight_based_metrics: z.boolean(),
    exclude_special_tokens_from_reconstruction: z.boolean(),
    verbose: z.boolean(),
  }),
  eval_id: z.uuid(),
  datetime_epoch_millis: z.int(),
  eval_result_metrics: z.strictObject({
    model_behavior_preservation: numbers("kl_div_score", "kl_div_with_ablation", "kl_div_with_sae"),
    model_performance_preservation: numbers(
      "ce_loss_score",
      "ce_loss_with_ablation",
      "ce_loss_with_sae",
      "ce_loss_without_sae",
    ),
    reconstruction_quality: numbers("explained_variance", "explained_variance_legacy", "mse", "cossim"),
    shrinkage: numbers("l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias"),
    sparsity: numbers("l0", "l1"),
    token_stats: numbers("total_tokens_eval_reconstruction", "total_tokens_eval_sparsity_variance"),
    misc_metrics: numbers(
      "freq_over_1_percent",
      "freq_over_10_percent",
      "normalized_freq_over_1_percent",
      "normalized_freq_over_10_percent",
      "average_max_encoder_cosine_sim",
      "average_max_decoder_cosine_sim",
      "frac_alive",
    ),
  }),
  eval_result_details: z.array(
    numbers(
      "index",
      "feature_density",
      "consistent_activation_heuristic",
      "encoder_bias",
      "encoder_norm",
      "encoder_decoder_cosine_sim",
      "max_decoder_cosine_sim",
      "max_encoder_cosine_sim",
    ),
  ),
  sae_bench_commit_hash: z.string(),
  sae_lens_id: z.string().nullable(),
  sae_lens_release_id: z.string().nullable(),
  sae_lens_version: z.string().nullable(),
  sae_cfg_dict: z.record(z.string(), z.unknown()),
  eval_result_unstructured: z.object({
    lambdatap: z.object({ skip_start: z.int(), contexts: z.int(), tokens: z.int(), unexplained_variance: z.number() }),
  }),
});

describe("lambdatap lab eval", () => {
  it("shows SAEs side by side, says the mask, warns of one that explains nothing, and draws", async () => {
    const out = join(home, "report");
    const { code, out: shown, err } = await run(...saes("afa3", "bad"), ...few, "--out", out);
    expect(err).toMatch(/The SAE bad leaves \d\.\d\d of the variance at blocks\.3\.hook_resid_post unexplained/);
    expect(err).not.toContain("The SAE afa3");
    expect(code).toBe(0);
    const [first, columns, ...lines] = shown.split("\n");
    expect(first).toBe(
      "SAEs of default on 216 tokens of 4 contexts of 64; the first 10 tokens of each are neither spliced nor counted. " +
        `CE without SAEs: ${/\d\.\d{4}/.exec(first ?? "")?.[0]} nat`,
    );
    expect(columns?.trim().split(/\s+/)).toEqual(["afa3", "bad"]);
    for (const name of ["unexplained variance", "l0", "CE recovered of zeros", "inside the ZF band 0.25"])
      expect(lines.filter((line) => line.startsWith(`  ${name}  `))).toHaveLength(1);
    expect(readdirSync(out).sort()).toEqual([
      "afa3_eval_results.json",
      "bad_eval_results.json",
      "eval-density.svg",
      "eval-eps-lbo.svg",
      "eval-zf.svg",
      "eval.json",
      "eval.md",
    ]);
    const picture = readFileSync(join(out, "eval-zf.svg"), "utf8");
    expect(picture).toContain(">afa3<");
    expect(readFileSync(join(out, "eval.md"), "utf8")).toContain("The SAE bad leaves");
    SaeBenchCore.parse(JSON.parse(readFileSync(join(out, "bad_eval_results.json"), "utf8")));
  });

  it("prints SAEBench's schema with our definitions, the same for the same evaluation, and counts what it is told to", async () => {
    const lines = async (...args: string[]) => {
      const { out } = await run("--json", ...saes("topk", "relu"), ...few, ...args);
      return out
        .trim()
        .split("\n")
        .map((line) => SaeBenchCore.parse(JSON.parse(line)));
    };
    const [topk, relu] = await lines();
    const again = await lines();
    expect(again).toEqual(
      [topk, relu].map((each, i) => ({ ...each, datetime_epoch_millis: again[i]?.datetime_epoch_millis })),
    );
    expect(topk?.eval_result_metrics.sparsity).toMatchObject({ l0: 24 });
    expect(topk?.eval_result_details).toHaveLength(256);
    expect(topk?.sae_cfg_dict).toMatchObject({ architecture: "top-k", hook_name: "blocks.3.hook_resid_post" });
    expect(relu?.sae_cfg_dict).toMatchObject({ hook_name: "blocks.4.hook_resid_pre" });
    // Both stand at one place, which is ablated once.
    const ablated = (of: typeof topk) => of?.eval_result_metrics.model_performance_preservation.ce_loss_with_ablation;
    expect(ablated(relu)).toBe(ablated(topk));
    const [bos] = await lines("--skip-start", "1");
    expect(bos?.eval_result_unstructured.lambdatap).toMatchObject({ skip_start: 1, contexts: 4, tokens: 4 * 63 });
    const [held] = await lines("--held-out");
    expect(held?.eval_result_metrics).not.toEqual(topk?.eval_result_metrics);
  });

  it("cuts held-out contexts as long as training does", async () => {
    const { out } = await run(...saes("topk"), "--text", BOOK, "--tokens", "200", "--held-out");
    expect(out).toContain("SAEs of default on 246 tokens of 1 contexts of 256;");
  });

  it("says where an SAE may have been trained on what it is judged by", async () => {
    const some = ["--text", BOOK, "--tokens", "50", "--context", "64", "--held-out"];
    const sae = changed("trained", () => ({}));
    const trained = (data: string, context: number) =>
      writeFileSync(join(sae, "training.json"), JSON.stringify({ data, context }));
    const { hash } = TextDocuments.open([BOOK]);
    trained(hash, 64);
    expect((await run("--sae", sae, ...some)).err).not.toContain("trained on");
    trained(hash, 128);
    const { err } = await run("--sae", sae, ...some);
    expect(err.match(/trained was trained on contexts of 128 tokens.*--context 128 takes/g)).toHaveLength(1);
    trained("of others", 64);
    expect((await run("--sae", sae, ...some)).err).toContain("trained was trained on other files than these");
    writeFileSync(join(sae, "training.json"), "not ours");
    expect((await run("--sae", sae, ...some)).code).toBe(0);
  });

  it("writes a file for each SAE, whatever they are called", async () => {
    const out = join(home, "named");
    const [one, two, three] = ["an SAE", "an_sae", "ä"].map((name) => changed(name, () => ({})));
    const { code } = await run("--sae", one!, "--sae", two!, "--sae", three!, ...few, "--out", out);
    expect(code).toBe(0);
    const ids = ["an_SAE", "an_sae_2", "ä"].map(
      (name) =>
        SaeBenchCore.parse(JSON.parse(readFileSync(join(out, `${name}_eval_results.json`), "utf8"))).sae_lens_id,
    );
    expect(ids).toEqual(["an SAE", "an_sae", "ä"]);
  });

  it("splices all layers at once where it is asked to", async () => {
    const { out } = await run(...saes("afa5", "afa1"), "--all-layers", ...few);
    const [, all = ""] = out.split("\n\n");
    expect(all).toMatch(/^All at once: CE \d\.\d{4}, KL \d\.\d{4}; recovered of zeros: CE 0\.\d{4}/);
    // In the order of the layers.
    expect(all.split("\n").flatMap((line) => /^ {2}(afa\d)/.exec(line)?.[1] ?? [])).toEqual(["afa1", "afa5"]);
    const { out: json } = await run(...saes("afa5", "afa1"), "--all-layers", "--json", ...few, "--skip-start", "1");
    for (const line of json.trim().split("\n"))
      expect(JSON.parse(line)).toMatchObject({
        eval_result_unstructured: {
          lambdatap: { all_layers: { ce: expect.any(Number), inside: { afa1: {}, afa5: {} } } },
        },
      });
    const { out: shown } = await run(...saes("afa1"), ...few, "--skip-start", "1");
    expect(shown).toContain("the first token of each is neither spliced nor counted");
  });

  it("says what each feature is active on, in a file beside the SAE, where it is asked to", async () => {
    const sae = changed("described", () => ({}));
    const { code, err } = await run("--sae", sae, ...few, "--features", "--feature-tokens", "500");
    expect([code, err]).toEqual([0, expect.stringContaining(join(sae, "features.jsonl"))]);
    const lines = readFileSync(join(sae, "features.jsonl"), "utf8").trim().split("\n");
    expect(lines).toHaveLength(256);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ index: 0, density: expect.any(Number), top: expect.any(Array) });
  });

  it("says where the text is shorter than was asked for", async () => {
    const some = write("some.txt", readFileSync(BOOK, "utf8").slice(0, 3000));
    const { code, err } = await run(...saes("topk"), "--text", some, "--context", "32");
    expect(err).toMatch(/the text has \d+ counted tokens, of 100000 that were asked for/);
    expect(code).toBe(0);
  });

  describe("says what is wrong", () => {
    const empty = join(home, "empty");
    mkdirSync(empty);
    it.each([
      {
        about: "no SAE, of a model that has none of its own",
        args: () => ["--model", join("test", "golden", "lm-infinite"), ...few],
        sentence: "lm-infinite has no SAEs of its own: say --sae <folder>",
      },
      {
        about: "no SAE, of a model that is not there",
        args: () => ["--model", join(home, "no-model"), ...few],
        sentence: join(home, "no-model"),
      },
      {
        about: "a report in the folder of an SAE",
        args: () => {
          const sae = changed("reported", () => ({}));
          return ["--sae", sae, ...few, "--out", sae];
        },
        sentence: "is the folder of reported",
      },
      {
        about: "a text that is not there",
        args: () => [...saes("topk"), "--text", join(home, "nowhere.txt")],
        sentence: "nowhere.txt",
      },
      {
        about: "features of so many tokens, but no features",
        args: () => [...saes("topk"), ...few, "--feature-tokens", "500"],
        sentence: "--feature-tokens goes with --features",
      },
      { about: "no text", args: () => saes("topk"), sentence: "say what SAEs are judged on: --text" },
      {
        about: "a text that is too short",
        args: () => [...saes("topk"), "--text", write("short.txt", "Only this.")],
        sentence: "no document of the text is as long as a context of 128 tokens",
      },
      {
        about: "nothing behind the start of a context",
        args: () => [...saes("topk"), ...few, "--skip-start", "63"],
        sentence: "contexts of 64 tokens have nothing to count behind the first 63",
      },
      {
        about: "contexts longer than the model reads at once",
        args: () => [...saes("topk"), "--text", BOOK, "--context", "257"],
        sentence: "--context 257 is longer than default reads at once: 256",
      },
      {
        about: "a folder that is no SAE",
        args: () => ["--sae", empty, ...few],
        sentence: "there is no SAE in this folder",
      },
      {
        about: "a transcoder",
        args: () => ["--sae", join("test", "golden", "sae", "saelens", "transcoder"), ...few],
        sentence: "This is a transcoder",
      },
      {
        about: "a hook that the model does not have",
        args: () => ["--sae", changed("layer-9", metadata({ hook_name: "blocks.9.hook_resid_post" })), ...few],
        sentence: "has no hook blocks.9.hook_resid_post",
      },
      {
        about: "a hook that cannot be tapped",
        args: () => ["--sae", changed("pattern", metadata({ hook_name: "blocks.3.attn.hook_pattern" })), ...few],
        sentence: "hook_pattern",
      },
      {
        about: "an SAE of another width",
        args: () => ["--sae", join("test", "golden", "sae", "saelens", "topk"), "--sae-any-model", ...few],
        sentence: "it reads 32 numbers, and blocks.1.hook_resid_post has 192",
      },
      {
        about: "an SAE of another model",
        args: () => ["--sae", changed("other", metadata({ model_name: "gpt2" })), ...few],
        sentence: "it was trained on gpt2 (--sae-any-model attaches it nevertheless)",
      },
      {
        about: "two SAEs of one place at once",
        args: () => [...saes("afa3", "relu"), "--all-layers", ...few],
        sentence: "all layers at once take one SAE of each place",
      },
      {
        about: "a folder that cannot be written to",
        args: () => [...saes("topk"), ...few, "--out", join(write("file", ""), "out")],
        sentence: "cannot be written to",
      },
    ])("of $about", async ({ args, sentence }) => {
      const { code, out, err } = await run(...args());
      expect(err).toContain(sentence);
      expect(err).not.toContain("unexpected error");
      expect(code).toBeGreaterThan(0);
      expect(out).toBe("");
    });
  });

  it("takes an SAE of another model where it is told to", async () => {
    const other = changed("any", metadata({ model_name: "gpt2" }));
    expect((await run("--sae", other, "--sae-any-model", ...few)).code).toBe(0);
  });
});
