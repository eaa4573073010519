import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { storedIntegers } from "../../stored-integers.js";

const FOLDER = join("test", "golden", "gguf");

/** Path of a golden GGUF file. */
export const goldenGguf = (name: string): string => join(FOLDER, name);

/** Tensors of NAME.expected.safetensors; `ids` are whole numbers of 64 bits there. */
export function expectedOf(name: string) {
  const path = join(FOLDER, `${name}.expected.safetensors`);
  const file = openSafetensors(path);
  return {
    names: [...file.tensors.keys()].filter((tensor) => tensor !== "ids"),
    values: (tensor: string) => file.readF32(tensor),
    shape: (tensor: string) => file.tensors.get(tensor)?.shape ?? [],
    ids: () => storedIntegers(path, "ids"),
    [Symbol.dispose]: () => file.close(),
  };
}

const HostileCases = z.object({
  limits: z.object({ seconds: z.number(), extra_megabytes: z.number() }),
  text: z.object({ prompt: z.string(), ids: z.array(z.int()) }),
  cases: z.array(
    z.object({
      file: z.string(),
      must: z.enum(["load", "refuse", "either", "load, refuse to render"]),
      reason_names: z.array(z.string()),
      logits: z.boolean(),
    }),
  ),
});

/** cases.json of the hostile files. */
export const hostileCases = () =>
  HostileCases.parse(JSON.parse(readFileSync(goldenGguf("hostile/cases.json"), "utf8")));
