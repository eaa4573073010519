import { closeSync, mkdirSync, openSync, renameSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import type { ElementType, WeightPlace } from "../../models/onnx/graph.js";
import { narrowBF16, narrowF16 } from "../../models/weights/half-precision.js";
import { randomWeights } from "../models/random-model.js";

/** Numbers drawn for each type; no width of a matrix divides it, so that rows differ. */
const DRAWN = 4_194_301;
const SPREAD = 0.03;

/**
 * A weights file with random numbers, matrices in [-0.03, 0.03) and vectors near 1, made where there is none of that size.
 * Numbers repeat after 4 million, so that gigabytes are written as fast as the disk takes them.
 */
export function writeRandomWeights(path: string, bytes: number, places: Iterable<WeightPlace>): void {
  if (statSync(path, { throwIfNoEntry: false })?.size === bytes) return;
  mkdirSync(dirname(path), { recursive: true });
  const fd = openSync(`${path}.part`, "w");
  try {
    for (const { type, shape, offset, bytes: length } of places)
      writeRepeated(fd, shape.length === 1 ? gains(type) : matrix(type), offset, length);
    writeSync(fd, new Uint8Array(1), 0, 1, bytes - 1); // behind the last place there may be room for its alignment
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.part`, path);
}

function writeRepeated(fd: number, numbers: Uint8Array, offset: number, length: number): void {
  for (let done = 0; done < length; )
    done += writeSync(fd, numbers, 0, Math.min(numbers.length, length - done), offset + done);
}

const blocks = new Map<string, Uint8Array>();

const matrix = (type: ElementType): Uint8Array => remembered(`${type} matrix`, () => inType(type, 0));
const gains = (type: ElementType): Uint8Array => remembered(`${type} gains`, () => inType(type, 1));

function remembered(name: string, make: () => Uint8Array): Uint8Array {
  const known = blocks.get(name);
  if (known !== undefined) return known;
  const made = make();
  blocks.set(name, made);
  return made;
}

/** Random numbers around `centre`. */
function inType(type: ElementType, centre: number): Uint8Array {
  const numbers = randomWeights(DRAWN, 7, SPREAD).map((value) => value + centre);
  if (type === "float32") return new Uint8Array(numbers.buffer);
  if (type !== "float16" && type !== "bfloat16") throw new TypeError(`there are no random weights of ${type}`);
  const halves = new Uint16Array(DRAWN);
  (type === "float16" ? narrowF16 : narrowBF16)(numbers, halves);
  return new Uint8Array(halves.buffer);
}
