import type { CutInputs, EditInputs } from "../../models/graph-interface.js";
import type { HookName } from "../../models/hooks.js";
import { EDIT_NORMALISATIONS, EDIT_PARAMETERS } from "../../models/residual-edit.js";
import { hasCut } from "../../models/sae/edit-cut.js";
import { type EditedSae, featureTerms } from "../../models/sae/edit-terms.js";
import type { FeatureEdit } from "../contract/features.js";
import type { Device } from "../ort/device.js";
import { Tensor } from "../ort/tensor.js";
import type { GraphResources } from "./graph-resources.js";

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

type Resources = Pick<GraphResources, "model" | "device" | "cuttingSaes">;

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

/** Tensors for the edit inputs of a run over rows that each have edits or none; missing edits are zeros. */
export function editTensors(
  inputs: readonly EditInputs[],
  rows: readonly (ResidualEdits | null)[],
  resources: Resources,
): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  try {
    fill(tensors, inputs, rows, resources);
    return tensors;
  } catch (error) {
    for (const tensor of tensors.values()) tensor[Symbol.dispose]();
    throw error;
  }
}

function fill(
  tensors: Map<string, Tensor>,
  inputs: readonly EditInputs[],
  rows: readonly (ResidualEdits | null)[],
  resources: Resources,
): void {
  const { device } = resources;
  const width = resources.model.shape.hiddenSize;
  for (const [place, hooks] of byPlace(inputs)) {
    const edits = rows.map((row) => hooks.flatMap((hook) => row?.get(hook) ?? []));
    const count = Math.max(1, ...edits.map(({ length }) => length));
    const columns = (name: string, height: number, of: (edit: EditTerms) => ArrayLike<number>) =>
      tensors.set(
        name,
        filled(device, [rows.length, height, count], (row, i, at) => numberOf(edits[row]?.[at], of, i)),
      );
    columns(place.encoder, width, ({ encoder }) => encoder);
    columns(place.normalisation, EDIT_NORMALISATIONS.length, ({ normalisation }) => normalisation);
    columns(place.parameters, EDIT_PARAMETERS.length, ({ parameters }) => parameters);
    tensors.set(
      place.decoder,
      filled(device, [rows.length, count, width], (row, at, i) =>
        numberOf(edits[row]?.[at], ({ decoder }) => decoder, i),
      ),
    );
    for (const cut of place.cuts) bindCut(tensors, cut, edits, count, resources);
    const known = new Set(place.cuts.map(({ sae }) => sae));
    const unknown = edits.flat().find(({ cut }) => cut !== null && !known.has(cut.sae))?.cut;
    if (unknown) throw new RangeError(`the graph does not know what ${unknown.sae} keeps`);
  }
}

function bindCut(
  tensors: Map<string, Tensor>,
  { sae, asked, features, weights }: CutInputs,
  edits: readonly (readonly EditTerms[])[],
  count: number,
  { device, cuttingSaes }: Resources,
): void {
  const placed = cuttingSaes.find(({ id }) => id === sae);
  if (placed === undefined) throw new RangeError(`there are no weights of ${sae}`);
  const asking = (cut: EditTerms["cut"] | undefined) => (cut?.sae === sae ? cut.feature : -1);
  const isAsked = edits.some((row) => row.some(({ cut }) => asking(cut) >= 0));
  // Which branch is run is read by the host, wherever the graph runs.
  const flag = Tensor.zeros("bool", [1]);
  tensors.set(asked, flag);
  flag.write([isAsked ? 1 : 0]);
  const chosen = device.zeros("int64", [edits.length, 1, count]);
  tensors.set(features, chosen);
  chosen.write(edits.flatMap((row) => Array.from({ length: count }, (_, at) => asking(row[at]?.cut))));
  for (const [name, input] of weights) {
    const weight = placed.weight(name);
    tensors.set(input, weight.alias(weight.shape));
  }
}

const numberOf = (edit: EditTerms | undefined, of: (edit: EditTerms) => ArrayLike<number>, i: number): number =>
  edit === undefined ? 0 : (of(edit)[i] ?? 0);

function filled(
  device: Device,
  shape: readonly [number, number, number],
  value: (a: number, b: number, c: number) => number,
): Tensor {
  const [rows, height, width] = shape;
  const values = Float32Array.from({ length: rows * height * width }, (_, at) =>
    value(Math.floor(at / (height * width)), Math.floor(at / width) % height, at % width),
  );
  const tensor = device.zeros("float32", shape);
  tensor.write(values);
  return tensor;
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
