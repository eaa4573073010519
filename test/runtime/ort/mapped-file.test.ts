import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import koffi from "koffi";
import { afterAll, expect, it } from "vitest";
import { SetupError } from "../../../runtime/contract/errors.js";
import { mapFile } from "../../../runtime/ort/mapped-file.js";
import { Tensor } from "../../../runtime/ort/tensor.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "weights.bin");
const values = Float32Array.from({ length: 5000 }, (_, i) => i);
writeFileSync(path, values);

it("a file's bytes are a tensor's, wherever they lie, and come back after their pages were given up", () => {
  using file = mapFile(path, values.byteLength);
  using all = Tensor.over(file, 0, "float32", [5000]);
  using some = Tensor.over(file, 40, "float32", [2, 3]);
  file.forgetPages();
  expect(all.read(new Float32Array(5000))).toEqual(values);
  expect([...some.read(new Float32Array(6))]).toEqual([10, 11, 12, 13, 14, 15]);
});

it("it is read-only: writing throws instead of ending the process", () => {
  using file = mapFile(path, values.byteLength);
  using tensor = Tensor.over(file, 0, "float32", [4]);
  using part = tensor.alias([2], 1);
  using other = Tensor.zeros("float32", [4]);
  for (const each of [tensor, part]) {
    expect(() => each.write([1])).toThrow("is read-only");
    expect(() => each.fill(0)).toThrow("is read-only");
    expect(() => each.fill(1)).toThrow("is read-only");
    expect(() => each.copyFrom(other, 0, 0, 1)).toThrow("is read-only");
  }
});

it("tensors outlive the file they lie in, and a file that is gone cannot be used", () => {
  const file = mapFile(path, values.byteLength);
  const tensor = Tensor.over(file, 4, "float32", [1]);
  file[Symbol.dispose]();
  expect(tensor.read(new Float32Array(1))[0]).toBe(1);
  tensor[Symbol.dispose]();
  expect(() => Tensor.over(file, 0, "float32", [1])).toThrow("was used after it was disposed");
  expect(() => file.forgetPages()).toThrow("was used after it was disposed");
});

it("a file of another size than expected is refused with its name, and a place outside of it", () => {
  for (const bytes of [0, values.byteLength - 1, values.byteLength + 1]) {
    expect(() => mapFile(path, bytes)).toThrow(SetupError);
    expect(() => mapFile(path, bytes)).toThrow(path);
  }
  expect(() => mapFile(join(folder, "missing"), 4)).toThrow("missing");
  using file = mapFile(path, values.byteLength);
  for (const [offset, length] of [
    [values.byteLength, 1],
    [-4, 1],
    [0, 5001],
    [2, 1],
    [0.5, 1],
  ] as const) {
    expect(() => Tensor.over(file, offset, "float32", [length])).toThrow(/float32\[\d+\] at byte/);
  }
});

it("native code has the stack that ONNX Runtime needs, whatever is opened first", () => {
  mapFile(path, values.byteLength)[Symbol.dispose]();
  expect(koffi.config().sync_stack_size).toBe(8 << 20);
});
