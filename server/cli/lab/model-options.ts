import type * as z from "zod";
import type { ModelChoice } from "../../../lab/model/lab-model.js";
import { findModel } from "../../../models/hub/find-model.js";
import { engine } from "../options.js";
import { embeddedModel } from "../start-engine.js";

const { model, device, ortLibrary, precision, threads, cacheDir, debug } = engine;

/** Which model the lab works on, and how it runs: shared by all of its commands. */
export const labModel = { model, device, ortLibrary, precision, threads, cacheDir, debug };

type LabModelOptions = z.output<z.ZodObject<typeof labModel>>;

/** The model that the flags name, or the embedded one. @throws HubError as `findModel` */
export function modelChoice({ model: named, device: on, ...options }: LabModelOptions): ModelChoice {
  const { path, name } = findModel(named ?? embeddedModel(), process.env);
  return { ...options, path, name, device: on ?? { kind: "auto" } };
}
