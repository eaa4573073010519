import { basename, resolve } from "node:path";
import type { HookName } from "../../models/hooks.js";
import { openModelSource } from "../../models/model-source.js";
import { type CompiledSae, compileSae } from "../../models/sae/compile-sae.js";
import { openSae } from "../../models/sae/formats/index.js";
import { SetupError } from "../../runtime/contract/errors.js";
import { saesBeside } from "../../runtime/saes/attached-saes.js";
import { saeCard } from "../../runtime/saes/sae-card.js";
import { SaeCoder } from "../../runtime/saes/sae-coder.js";
import { LabModel, type ModelChoice, type Onlookers } from "./lab-model.js";

/** Which SAEs are read. */
export interface SaesChoice {
  /** None: every folder in `saes/` of the model's folder. Without an id, an SAE is called as its folder. */
  readonly folders: readonly { readonly id?: string | undefined; readonly folder: string }[];
  /** Take SAEs that say they were trained on another model. */
  readonly anyModel: boolean;
}

/** An SAE, and what codes rows of its hook. */
export interface LabSae {
  readonly id: string;
  readonly hook: HookName;
  readonly folder: string;
  readonly compiled: CompiledSae;
  readonly coder: SaeCoder;
}

/** A model that taps the hooks of some SAEs, and these. */
export class ModelWithSaes implements Disposable {
  private constructor(
    readonly model: LabModel,
    readonly saes: readonly LabSae[],
  ) {}

  /**
   * @throws ModelFormatError where a file is not understood; SetupError where an SAE does not fit the model, or two have one
   * name, and as `LabModel.open`
   */
  static async open(
    choice: ModelChoice,
    { folders, anyModel }: SaesChoice,
    on: Onlookers = {},
  ): Promise<ModelWithSaes> {
    const chosen = named(folders.length > 0 ? folders : saesBeside(choice.path));
    if (chosen.length === 0) {
      openModelSource(choice.path).config(); // throws where there is no model either
      throw new SetupError(`${choice.name} has no SAEs of its own: say --sae <folder>`);
    }
    const hooks = new Set<HookName>();
    for (const { folder } of chosen) {
      const { hook } = await openSae(folder);
      if (!hook.tappable) throw new SetupError(`${folder} cannot be read: ${hook.reason}`);
      hooks.add(hook.name);
    }
    const model = await LabModel.open(choice, [...hooks], on);
    const saes: LabSae[] = [];
    const opened = new ModelWithSaes(model, saes);
    try {
      const { compiled, cacheRoot, threads, name } = model;
      const ignoresMean = compiled.shape.ignoresMean === "always";
      for (const { id, folder } of chosen) {
        const sae = await compileSae({ folder, precision: "f32", cacheRoot, ignoresMean });
        const { hook } = saeCard(sae, id, { model: compiled, names: [name], anyModel });
        saes.push({ id, hook, folder, compiled: sae, coder: new SaeCoder(sae, { threads }) });
      }
      return opened;
    } catch (error) {
      opened[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const { coder } of this.saes) coder[Symbol.dispose]();
    this.model[Symbol.dispose]();
  }
}

/** Gives SAEs without a name that of their folder, or its path where two folders have one name. */
function named(folders: SaesChoice["folders"]): { readonly id: string; readonly folder: string }[] {
  const names = folders.map(({ id, folder }) => id ?? basename(resolve(folder)));
  const isTaken = (name: string, at: number) => names.some((other, i) => i !== at && other === name);
  const saes = folders.map(({ id, folder }, i) => ({ id: id ?? (isTaken(names[i]!, i) ? folder : names[i]!), folder }));
  for (const [i, { id, folder }] of saes.entries()) {
    const other = saes.find((sae, j) => j < i && sae.id === id);
    if (other) throw new SetupError(`${other.folder} and ${folder} are both called ${id}: say --sae <name>=<folder>`);
  }
  return saes;
}
