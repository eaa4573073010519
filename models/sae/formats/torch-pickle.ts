import { z } from "zod";
import { ModelFormatError } from "../../errors.js";
import { PickleDict, PickleTuple, type PickleValue, type Refuse, unpickle } from "./pickle.js";
import type { NumberFormat } from "./stored-numbers.js";

/** Numbers in the member `data/<key>` of the archive. */
interface Storage {
  readonly kind: "storage";
  readonly key: string;
  readonly format: NumberFormat;
  readonly length: number;
}

/** A view of a storage: element [i, j] stands at offset + i * strides[0] + j * strides[1]. Checked to lie within it. */
export interface TorchTensor {
  readonly kind: "tensor";
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

type Leaf =
  | Storage
  | TorchTensor
  | { readonly kind: "storage type"; readonly format: NumberFormat }
  | { readonly kind: "rebuild tensor" }
  | { readonly kind: "ordered dict" };

/** Every name that a pickle of tensors may hold; what they stand for is made below, nothing is called. */
const GLOBALS: ReadonlyMap<string, Leaf> = new Map<string, Leaf>([
  ["torch._utils _rebuild_tensor_v2", { kind: "rebuild tensor" }],
  ["collections OrderedDict", { kind: "ordered dict" }],
  ["torch DoubleStorage", { kind: "storage type", format: "f64" }],
  ["torch FloatStorage", { kind: "storage type", format: "f32" }],
  ["torch HalfStorage", { kind: "storage type", format: "f16" }],
  ["torch BFloat16Storage", { kind: "storage type", format: "bf16" }],
  ["torch LongStorage", { kind: "storage type", format: "i64" }],
  ["torch IntStorage", { kind: "storage type", format: "i32" }],
]);

/** An SAE has a dozen tensors, of two axes at most. */
const MAX_TENSORS = 100;
const MAX_AXES = 8;

/**
 * The state dict that torch.save (1.6 and later) wrote as `data.pkl`. Whatever is not needed for one is refused.
 * @throws ModelFormatError naming the opcode, the name, or the tensor that does not lie within its storage.
 */
export function unpickleStateDict(bytes: Uint8Array, path: string): ReadonlyMap<string, TorchTensor> {
  const refuse = (reason: string) => new ModelFormatError(path, `its pickle ${reason}`);
  const root = unpickle<Leaf>(
    bytes,
    {
      global(name) {
        const leaf = GLOBALS.get(name);
        if (leaf) return leaf;
        throw refuse(`names ${JSON.stringify(name.slice(0, 80))}, which no file of tensors needs`);
      },
      reduce(callable, args) {
        const { kind } = leafOf(callable) ?? {};
        if (kind === "rebuild tensor") return rebuildTensor(args, refuse);
        if (kind === "ordered dict" && args.items.length === 0) return new PickleDict();
        throw refuse("calls something that is not a constructor of tensors");
      },
      persistent: (id) => storage(id, refuse),
    },
    refuse,
  );
  if (!(root instanceof PickleDict)) throw refuse("holds no dictionary of tensors");
  if (root.entries.size > MAX_TENSORS) throw refuse(`has ${root.entries.size} entries`);
  const tensors = new Map<string, TorchTensor>();
  for (const [name, value] of root.entries) {
    const leaf = leafOf(value);
    if (leaf?.kind !== "tensor") throw refuse(`has an entry "${name}" that is not a tensor`);
    checkBounds(name, leaf, refuse);
    tensors.set(name, leaf);
  }
  return tensors;
}

const leafOf = (value: PickleValue<Leaf> | undefined): Leaf | undefined =>
  typeof value === "object" && value !== null && !(value instanceof PickleDict) && !(value instanceof PickleTuple)
    ? value
    : undefined;

const natural = z.int().nonnegative();
const Naturals = z.array(natural);

/** ("storage", type, key, device, number of elements) */
function storage(id: PickleValue<Leaf>, refuse: Refuse): Storage {
  const [tag, type, key, , length] = id instanceof PickleTuple ? id.items : [];
  const leaf = leafOf(type);
  const elements = natural.safeParse(length);
  if (tag !== "storage" || leaf?.kind !== "storage type" || typeof key !== "string" || !elements.success)
    throw refuse("names a storage in a way that is not known");
  return { kind: "storage", key, format: leaf.format, length: elements.data };
}

/** (storage, offset, shape, strides, requires_grad, hooks) */
function rebuildTensor({ items }: PickleTuple<Leaf>, refuse: Refuse): TorchTensor {
  const [source, at, sizes, steps] = items;
  const leaf = leafOf(source);
  const offset = natural.safeParse(at);
  const shape = Naturals.safeParse(sizes instanceof PickleTuple ? sizes.items : null);
  const strides = Naturals.safeParse(steps instanceof PickleTuple ? steps.items : null);
  if (leaf?.kind !== "storage" || !offset.success || !shape.success || !strides.success)
    throw refuse("makes a tensor in a way that is not known");
  return { kind: "tensor", storage: leaf, offset: offset.data, shape: shape.data, strides: strides.data };
}

function checkBounds(name: string, { storage, offset, shape, strides }: TorchTensor, refuse: Refuse): void {
  if (shape.length > MAX_AXES) throw refuse(`has a tensor "${name}" of ${shape.length} axes`);
  const elements = shape.reduce((product, size) => product * size, 1);
  const last = shape.reduce((at, size, axis) => at + (size - 1) * (strides[axis] ?? Number.NaN), offset);
  const within = elements === 0 || last < storage.length;
  // A tensor of more elements than its storage has would be made of repetitions, however small the file.
  if (shape.length !== strides.length || !within || elements > storage.length)
    throw refuse(
      `has a tensor "${name}" of shape [${shape}] and strides [${strides}] that does not fit its storage of ${storage.length}`,
    );
}
