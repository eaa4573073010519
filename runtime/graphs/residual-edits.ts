import type { CutInputs, EditInputs } from "../../models/graph-interface.js";
import type { HookName } from "../../models/hooks.js";
import { EDIT_NORMALISATIONS, EDIT_PARAMETERS } from "../../models/residual-edit.js";
import { hasCut } from "../../models/sae/edit-cut.js";
import { type EditedSae, featureTerms } from "../../models/sae/edit-terms.js";
import type { FeatureEdit } from "../contract/features.js";
import type { Tensor } from "../ort/tensor.js";
import type { GraphResources } from "./graph-resources.js";
import type { GraphTensors } from "./graph-tensors.js";

/** Where an edit's vectors come from. */
export interface EditableSae {
  readonly hook: HookName;
  readonly description: EditedSae;
  /** [dIn] of W_enc, in f32. */
  encoderColumn(feature: number): Float32Array;
  /** [dIn] of W_dec. */
  decoderRow(feature: number): Float32Array;
}

/** One edit as numbers: the columns and rows that it fills in `EditInputs`. */
interface EditTerms {
  readonly encoder: Float32Array;
  readonly decoder: Float32Array;
  readonly normalisation: readonly number[];
  readonly parameters: readonly number[];
  /** Whose cut is asked whether it keeps which of its dSae features; null: none. */
  readonly cut: { readonly sae: string; readonly feature: number } | null;
}

/** The edits of one sequence, by hook, ready to be bound. */
export type ResidualEdits = ReadonlyMap<HookName, readonly EditTerms[]>;

/** @param saeOf throws for an id that is not attached */
export function residualEdits(edits: readonly FeatureEdit[], saeOf: (id: string) => EditableSae): ResidualEdits {
  const byHook = new Map<HookName, EditTerms[]>();
  for (const edit of edits) {
    const sae = saeOf(edit.sae);
    byHook.set(sae.hook, [...(byHook.get(sae.hook) ?? []), editTerms(edit, sae)]);
  }
  return byHook;
}

/** Numbers that are computed for each token to see which edited features are kept. @param saeOf as of `residualEdits` */
export function comparisons(
  edits: readonly FeatureEdit[],
  saeOf: (id: string) => Pick<EditableSae, "hook" | "description">,
): number {
  const byHook = new Map<HookName, { count: number; widest: number }>();
  for (const edit of edits) {
    const { hook, description } = saeOf(edit.sae);
    const known = byHook.get(hook) ?? { count: 0, widest: 0 };
    const width = asksCut(edit, description) ? description.dSae : 0;
    byHook.set(hook, { count: known.count + 1, widest: Math.max(known.widest, width) });
  }
  return Math.max(0, ...[...byHook.values()].map(({ count, widest }) => count * widest));
}

/** Whether it takes the SAE's own cut to know what an edit does. */
const asksCut = ({ from, op }: FeatureEdit, { activation }: EditedSae): boolean =>
  from === "kept" && op !== "add" && hasCut(activation);

function editTerms(edit: FeatureEdit, sae: EditableSae): EditTerms {
  const { sae: id, feature, op, value } = edit;
  const terms = featureTerms(sae.description, feature, sae.encoderColumn(feature));
  const parameters = { ...terms, ...DELTA[op](value) };
  const { normalisation } = sae.description;
  const scaling = normalisation === "centre" ? "none" : normalisation;
  return {
    encoder: terms.encoder,
    decoder: sae.decoderRow(feature),
    normalisation: EDIT_NORMALISATIONS.map((kind) => (kind === scaling ? 1 : 0)),
    parameters: EDIT_PARAMETERS.map((name) => parameters[name]),
    cut: asksCut(edit, sae.description) ? { sae: id, feature } : null,
  };
}

/** delta = slope * a + shift. */
const DELTA: Record<FeatureEdit["op"], (value: number) => { readonly slope: number; readonly shift: number }> = {
  ablate: () => ({ slope: -1, shift: 0 }),
  add: (value) => ({ slope: 0, shift: value }),
  scale: (value) => ({ slope: value - 1, shift: 0 }),
  clamp: (value) => ({ slope: -1, shift: value }),
};

/**
 * Binds the edit inputs of a run over rows that each have edits or none; missing edits are zeros.
 * @throws RangeError where an edit asks for the cut of an SAE that the graph does not know
 */
export function bindEdits(
  tensors: GraphTensors,
  inputs: readonly EditInputs[],
  rows: readonly (ResidualEdits | null)[],
  { cuttingSaes }: Pick<GraphResources, "cuttingSaes">,
): void {
  for (const [place, hooks] of byPlace(inputs)) {
    const edits = rows.map((row) => hooks.flatMap((hook) => row?.get(hook) ?? []));
    const count = Math.max(1, ...edits.map(({ length }) => length));
    tensors.sizes.set(place.count, count);
    const columns = (name: string, of: (edit: EditTerms) => ArrayLike<number>) =>
      fill(tensors.once(name), (row, i, at) => numberOf(edits[row]?.[at], of, i));
    columns(place.encoder, ({ encoder }) => encoder);
    columns(place.normalisation, ({ normalisation }) => normalisation);
    columns(place.parameters, ({ parameters }) => parameters);
    fill(tensors.once(place.decoder), (row, at, i) => numberOf(edits[row]?.[at], ({ decoder }) => decoder, i));
    for (const cut of place.cuts) bindCut(tensors, cut, edits, count, cuttingSaes);
    const known = new Set(place.cuts.map(({ sae }) => sae));
    const unknown = edits.flat().find(({ cut }) => cut !== null && !known.has(cut.sae))?.cut;
    if (unknown) throw new RangeError(`the graph does not know what ${unknown.sae} keeps`);
  }
}

function bindCut(
  tensors: GraphTensors,
  { sae, asked, features, weights }: CutInputs,
  edits: readonly (readonly EditTerms[])[],
  count: number,
  cuttingSaes: GraphResources["cuttingSaes"],
): void {
  const placed = cuttingSaes.find(({ id }) => id === sae);
  if (placed === undefined) throw new RangeError(`there are no weights of ${sae}`);
  const asking = (cut: EditTerms["cut"] | undefined) => (cut?.sae === sae ? cut.feature : -1);
  const isAsked = edits.some((row) => row.some(({ cut }) => asking(cut) >= 0));
  tensors.once(asked).write([isAsked ? 1 : 0]);
  const chosen = edits.flatMap((row) => Array.from({ length: count }, (_, at) => asking(row[at]?.cut)));
  tensors.once(features).write(chosen);
  for (const [name, input] of weights) {
    const weight = placed.weight(name);
    tensors.bind(input, weight.alias(weight.shape));
  }
}

const numberOf = (edit: EditTerms | undefined, of: (edit: EditTerms) => ArrayLike<number>, i: number): number =>
  edit === undefined ? 0 : (of(edit)[i] ?? 0);

/** Writes a tensor of three axes. */
function fill(tensor: Tensor, value: (a: number, b: number, c: number) => number): void {
  const [, height = 1, width = 1] = tensor.shape;
  const values = Float32Array.from({ length: tensor.size }, (_, at) =>
    value(Math.floor(at / (height * width)), Math.floor(at / width) % height, at % width),
  );
  tensor.write(values);
}

/** Hooks that are one tensor come together. */
function byPlace(inputs: readonly EditInputs[]): Map<EditInputs, HookName[]> {
  const places = new Map<string, EditInputs>();
  const hooks = new Map<EditInputs, HookName[]>();
  for (const each of inputs) {
    const place = places.get(each.encoder) ?? each;
    places.set(each.encoder, place);
    hooks.set(place, [...(hooks.get(place) ?? []), each.hook]);
  }
  return hooks;
}
