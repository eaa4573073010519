import * as z from "zod";
import type { SaesChoice } from "../../../lab/model/open-saes.js";
import { toggle } from "../flag-kinds.js";
import { flag } from "../flags.js";
import { SaeFolder } from "../options.js";

/** Which SAEs a command of the lab reads. */
export const labSaes = {
  sae: flag(z.array(SaeFolder).default([]), {
    kind: "list",
    value: "[name=]folder",
    help: "sparse autoencoder (repeatable); default: those in the model's folder saes",
  }),
  saeAnyModel: toggle("take SAEs that say they were trained on another model"),
};

type LabSaeOptions = z.output<z.ZodObject<typeof labSaes>>;

export const saesChoice = ({ sae, saeAnyModel }: LabSaeOptions): SaesChoice => ({
  folders: sae,
  anyModel: saeAnyModel,
});
