import type { FeatureRequest, SaeCard } from "../../../runtime/contract/features.js";
import { LEVELS, MARKS, type Palette } from "./palette.js";
import { printable } from "./printable.js";
import type { Scale } from "./scale.js";
import type { Trace, TraceEnding } from "./view.js";

const HOOK = /^blocks\.(\d+)\.hook_(\w+)((?:\.[\w-]+)?)$/;

/** Short names of SAEs that are named after their hooks: L3 or L3.sparse, or L3.resid_post among other kinds; else their ids. */
export function saeLabels(ids: readonly string[]): ReadonlyMap<string, string> {
  const hooks = ids.map((id) => HOOK.exec(id));
  const [kind, ...others] = new Set(hooks.map((hook) => hook?.[2]));
  const label = (id: string, [, layer, own, more]: readonly string[] = []) => {
    if (kind === undefined || others.includes(undefined)) return printable(id);
    return others.length === 0 ? `L${layer}${more}` : `L${layer}.${own}${more}`;
  };
  return new Map(ids.map((id, i) => [id, label(id, hooks[i] ?? [])]));
}

/** What a table begins with, in lines behind a #: the model, what reads it and what is changed. */
export function header({ card, prompt, sequence }: Trace, palette: Palette): string {
  const { features, edits, editsFrom } = sequence;
  const read = features?.saes ?? [];
  const labels = saeLabels(read);
  const wide = Math.max(0, ...[...labels.values()].map((label) => label.length));
  const lines = [
    `${printable(card.id)}, ${card.precision}, window ${card.window}, ${card.sinks} sinks`,
    ...read.flatMap((id) => {
      const sae = card.saes.find((other) => other.id === id);
      return sae === undefined ? [] : [`${(labels.get(id) ?? "").padEnd(wide)}  ${about(sae, features)}`];
    }),
    ...edits.map(({ sae, feature, op, value, from }) => {
      const what = `${op}${op === "ablate" ? "" : ` ${value}`}${from === "pre" ? " before the cut" : ""}`;
      return printable(`edit    ${sae}:${feature} ${what}, from ${editsFrom}`);
    }),
    ...(features?.prompt ? [] : [`prompt  ${printable(prompt)}`]),
  ];
  return lines.map((line) => `${palette.dim(`# ${line}`)}\n`).join("");
}

/** What the colours stand for. */
export function legend({ color }: Trace, palette: Palette, scale: Scale): string {
  const { low, high } = scale.range();
  const steps = Array.from({ length: LEVELS }, (_, i) => (palette.colored ? palette.shade("  ", i + 1) : MARKS[i + 1]));
  const what = typeof color.of === "number" ? `feature ${color.of}` : color.of;
  const [from, to] = [low, high].map((end) => (Number.isInteger(end) ? end : short(end)));
  const range = `${from} ${steps.join("")} ${to}${scale.grows ? "  (largest so far)" : ""}`;
  return `# colour  ${what} of ${printable(color.sae)}  ${range}\n`;
}

/** How many tokens there were, and why no more; nothing where the trace broke off. */
export function closing(ending: TraceEnding | null, palette: Palette): string {
  if (ending === null) return "";
  const { completionTokens: tokens } = ending;
  return `${palette.dim(`# ${tokens} token${tokens === 1 ? "" : "s"}, ${reason(ending)}`)}\n`;
}

/** Three significant digits in 7 columns at most; "-" for no number. */
export function short(value: number | null): string {
  if (value === null) return "-";
  const rounded = Number(value.toPrecision(3));
  const size = Math.abs(rounded);
  if (size === 0) return "0";
  if (size < 0.01 || size >= 1e4) return rounded.toExponential(1).replace("+", "");
  return rounded.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

function about({ id, hook, dSae, dIn, activation, k }: SaeCard, features: FeatureRequest | null): string {
  const chosen = features?.activation ?? { kind: "native" };
  const own = `${activation}${k === null ? "" : ` ${k}`}`;
  const kept = chosen.kind === "native" ? own : chosen.kind === "top-k" ? `top-k ${chosen.k}` : chosen.kind;
  return `${printable(id)}${id === hook || id.startsWith(`${hook}.`) ? "" : ` at ${hook}`}, ${dSae} features of ${dIn}, ${kept}`;
}

function reason({ finishReason, stopReason }: TraceEnding): string {
  if (finishReason === "cancelled") return "interrupted";
  if (finishReason === "length") return "as many as were asked for";
  return stopReason === null ? "ended by the model" : `ended by ${printable(JSON.stringify(stopReason))}`;
}
