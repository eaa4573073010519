import { hook } from "../../models/hooks.js";
import type { LambdaCache } from "../../runtime/cache/lambda-cache.js";
import type { FeatureRequest } from "../../runtime/contract/features.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { type Residuals, runTapped, type TapRows } from "../../runtime/graphs/tap-outputs.js";
import { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { randomSaeFolder } from "../bench/random-sae-folder.js";
import { fullCache } from "./full-cache.js";
import { randomCompiledModel } from "./random-compiled-model.js";
import type { Bench } from "./section.js";
import { small } from "./shapes.js";

export const GEOMETRY = { window: 1024, sinks: 10 };
/** Widths of a model that an SAE has features. */
export const WIDTHS = 16;
const LAYERS = [4, 8, 12, 16, 20, 24];

/** The 135M shape in f16 with random SAEs on the same GPU, its window full. */
export class TappedModel implements Disposable {
  readonly runner: Runner;
  readonly cache: LambdaCache;

  private constructor(
    bench: Bench,
    readonly saes: AttachedSaes,
    model: ReturnType<typeof randomCompiledModel>,
    replays: boolean,
  ) {
    const { device } = bench;
    this.runner = new Runner(model, { window: GEOMETRY.window, threads: 1, device, replays, taps: saes.hooks });
    this.cache = fullCache(this.runner, GEOMETRY, 1, GEOMETRY.window + GEOMETRY.sinks + 1);
  }

  static async open(bench: Bench, count: number, replays: boolean): Promise<TappedModel> {
    const shape = small(bench.tiny);
    const model = randomCompiledModel(shape, "f16", bench.scratch);
    const { hidden } = shape.sizes;
    const layers = LAYERS.slice(0, count).map((layer) => (bench.tiny ? layer / 4 - 1 : layer));
    const folders = layers.map((layer) => ({
      folder: randomSaeFolder(hook.residPost(layer), hidden, (bench.tiny ? 1 : WIDTHS) * hidden),
    }));
    const saes = await AttachedSaes.attach({
      choice: { folders, precision: "f32", anyModel: false },
      model,
      folder: shape.name,
      names: ["verify"],
      cacheRoot: bench.cacheRoot,
      threads: 1,
      spin: true,
      device: bench.device,
      replays,
    });
    return new TappedModel(bench, saes, model, replays);
  }

  /** One decode step, read by the first `count` SAEs; 0: not tapped. */
  decode(token: number, count: number): void {
    this.#read(count, (options) => this.runner.decode(this.cache, 0, [token], options));
  }

  /** Prefills a chunk, every token of it read by the first `count` SAEs. */
  prefill(ids: readonly number[], count: number): void {
    this.#read(count, (options) => this.runner.prefill(this.cache, 0, ids, [], options));
  }

  [Symbol.dispose](): void {
    this.runner.closeCache(this.cache);
    this.runner[Symbol.dispose]();
    this.saes[Symbol.dispose]();
  }

  #read(count: number, run: (options: { readonly residuals?: Residuals | TapRows }) => Float32Array): void {
    if (count === 0) {
      run({});
      return;
    }
    const saes = this.saes.cards.slice(0, count).map(({ id }) => id);
    const request: FeatureRequest = { saes, top: 8, activation: { kind: "native" }, prompt: false };
    runTapped(
      this.runner.device,
      (residuals) => run({ residuals }),
      (residuals) => this.saes.read(request, residuals),
    );
  }
}
