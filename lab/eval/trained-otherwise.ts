import { existsSync } from "node:fs";
import { join } from "node:path";
import type * as z from "zod";
import { ModelFormatError } from "../../models/errors.js";
import { readJsonObject } from "../../models/model-file.js";
import type { LabSae } from "../model/open-saes.js";
import { TrainingConfig } from "../train/training-config.js";

/** What decides which contexts are held out: the text and the length of contexts. */
const Cut = TrainingConfig.pick({ data: true, context: true });
type Cut = z.infer<typeof Cut>;

/**
 * A sentence for each SAE whose training held out other contexts than those that are held out here, as far as the training.json
 * beside it says so: it may have been trained on what it is judged by.
 */
export function trainedOtherwise(saes: readonly Pick<LabSae, "id" | "folder">[], cut: Cut): string[] {
  return saes.flatMap(({ id, folder }) => {
    const trained = cutOf(folder);
    // Of prompts nothing is held out.
    if (trained === null || trained.context === null) return [];
    if (trained.data !== cut.data)
      return [
        `${id} was trained on other files than these: which contexts are held out depends on all of them, so it may have been trained on some that it is judged by`,
      ];
    if (trained.context === cut.context) return [];
    return [
      `${id} was trained on contexts of ${trained.context} tokens, so it may have been trained on some that it is judged by; --context ${trained.context} takes those that were held out`,
    ];
  });
}

function cutOf(folder: string): Cut | null {
  const path = join(folder, "training.json");
  if (!existsSync(path)) return null;
  try {
    return Cut.safeParse(readJsonObject(path)).data ?? null;
  } catch (error) {
    if (error instanceof ModelFormatError) return null; // a file of somebody else
    throw error;
  }
}
