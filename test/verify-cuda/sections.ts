import { architectures } from "./architectures.js";
import { blocks } from "./blocks.js";
import { decode } from "./decode.js";
import { endurance } from "./endurance.js";
import { features } from "./features.js";
import { goldens } from "./goldens.js";
import { machine } from "./machine.js";
import { perplexity } from "./perplexity.js";
import { placement } from "./placement.js";
import { prefill } from "./prefill.js";
import type { Section } from "./section.js";
import { taps } from "./taps.js";
import { traffic } from "./traffic.js";

/** In the order in which they run: what must not be missing from an interrupted run first. */
const SECTIONS: readonly Section[] = [
  machine,
  goldens,
  decode,
  placement,
  perplexity,
  blocks,
  prefill,
  traffic,
  features,
  taps,
  endurance,
  architectures,
];

/** Those of the given names, in their own order; all where none are given. @throws Error naming one that is not there. */
export function chooseSections(names: readonly string[] | undefined): readonly Section[] {
  const known = SECTIONS.map(({ name }) => name);
  const unknown = names?.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`--only: there is no section '${unknown}'; there are ${known.join(", ")}`);
  return SECTIONS.filter(({ name }) => names?.includes(name) ?? true);
}
