import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Binding } from "../../../runtime/ort/binding.js";
import { OrtError } from "../../../runtime/ort/library.js";
import { mapFile } from "../../../runtime/ort/mapped-file.js";
import { PrepackedWeights, Session, type SessionOptions } from "../../../runtime/ort/session.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
import { WIDTH, writeRunningTotal } from "./running-total.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(folder, { recursive: true }));
const files = writeRunningTotal(folder);
const file = mapFile(files.weights, files.bytes);
const w = Tensor.over(file, 0, "float32", [WIDTH, WIDTH]);
const options: SessionOptions = { threads: 1, weights: new Map([["w", w]]) };
const rows = (count: number): Tensor => Tensor.zeros("float32", [count, WIDTH]);
const first = (tensor: Tensor): number | undefined => tensor.read(new Float32Array(1))[0];

/** What a call throws: an OrtError with ONNX Runtime's text, or it fails the test. */
function ortError(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof OrtError) return error.message;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("a graph", () => {
  it("runs over tensors bound once, in place where an output is bound to the memory of an input", () => {
    using session = Session.load(files.graph, options);
    expect([session.inputs, session.outputs]).toEqual([
      ["x", "total"],
      ["y", "next"],
    ]);
    using x = rows(2);
    using total = rows(2);
    using y = rows(2);
    using binding = new Binding(
      session,
      new Map([
        ["x", x],
        ["total", total],
      ]),
      new Map([
        ["y", y],
        ["next", total],
      ]),
    );
    x.fill(3);
    for (let run = 1; run <= 3; run++) {
      binding.run();
      expect([first(y), first(total)]).toEqual([6, 6 * run]);
    }
  });

  it("reads its weights where they lie, whether it packs them or not", () => {
    using prepacked = new PrepackedWeights();
    for (const more of [{}, { prepack: true }, { prepack: true, prepacked }, { prepack: true, prepacked }]) {
      using session = Session.load(files.graph, { ...options, ...more });
      using x = rows(1);
      using y = rows(1);
      x.fill(1);
      using binding = new Binding(
        session,
        new Map([
          ["x", x],
          ["total", x],
        ]),
        new Map([["y", y]]),
      );
      binding.run();
      expect(first(y)).toBe(2);
    }
  });
});

describe("a graph that cannot be loaded says why, and the process lives", () => {
  const broken = (name: string, bytes: Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };
  it.each<[string, string, RegExp]>([
    ["a missing file", join(folder, "missing.onnx"), /missing\.onnx.*(doesn't exist|No such file)/s],
    ["an empty file", broken("empty.onnx", new Uint8Array()), /empty\.onnx: ./],
    [
      "a file of noise",
      broken(
        "noise.onnx",
        Uint8Array.from({ length: 999 }, (_, i) => i * i),
      ),
      /noise\.onnx: .*[Pp]rotobuf/,
    ],
    ["a folder", folder, /./],
  ])("%s", (_, path, text) => {
    expect(ortError(() => Session.load(path, options))).toMatch(text);
  });

  it("a weight of memory that ONNX Runtime owns", () => {
    using owned = rows(WIDTH);
    const weights = new Map([["w", owned]]);
    expect(ortError(() => Session.load(files.graph, { threads: 1, weights }))).toMatch(/^w: .*owned by the user/);
  });

  it.each([0, -1, 1.5, Number.NaN])("%d threads", (threads) => {
    expect(() => Session.load(files.graph, { ...options, threads })).toThrow("a session needs 1 thread or more");
  });

  it("a name that native code would cut at a NUL", () => {
    expect(() => Session.load(`${files.graph}\0.txt`, options)).toThrow("NUL");
    expect(() => Session.load(files.graph, { threads: 1, weights: new Map([["w\0", w]]) })).toThrow("NUL");
  });

  it("and what it was given is free again", () => {
    const weight = w.alias([2, 2]);
    ortError(() => Session.load(join(folder, "missing.onnx"), { threads: 1, weights: new Map([["w", weight]]) }));
    weight[Symbol.dispose]();
    expect(() => Session.load(files.graph, { threads: 1, weights: new Map([["w", weight]]) })).toThrow("disposed");
  });
});

describe("tensors that do not fit a graph are named, and the process lives", () => {
  const session = Session.load(files.graph, options);
  const bind = (inputs: Record<string, Tensor>, outputs: Record<string, Tensor>): Binding =>
    new Binding(session, new Map(Object.entries(inputs)), new Map(Object.entries(outputs)));
  const run = (inputs: Record<string, Tensor>, outputs: Record<string, Tensor>): string =>
    ortError(() => {
      using binding = bind(inputs, outputs);
      binding.run();
    });
  const [x, y] = [rows(1), rows(1)];

  it("a name that the graph does not have", () => {
    expect(ortError(() => bind({ nowhere: x }, {}))).toContain("nowhere");
    expect(run({ x, total: x }, { nowhere: y })).toContain("nowhere");
    expect(() => bind({ "x\0": x }, {})).toThrow("NUL");
    expect(() => x.letGo()).toThrow("let go of more often");
  });

  it("an input or all outputs left out", () => {
    expect(run({ x }, { y })).toContain("total");
    expect(run({ x, total: x }, {})).toContain("output");
  });

  it("another type, rank or shape", () => {
    expect(run({ x: Tensor.zeros("int64", [1, WIDTH]), total: x }, { y })).toContain("x");
    expect(run({ x: Tensor.zeros("float32", [WIDTH]), total: x }, { y })).toContain("x");
    expect(run({ x: Tensor.zeros("float32", [1, WIDTH + 1]), total: x }, { y })).toContain("x");
    expect(run({ x: Tensor.zeros("float32", [1, 0]), total: x }, { y })).toContain("x");
    expect(run({ x, total: x }, { y: rows(2) })).toContain("hape");
  });

  it("a weight of another shape", () => {
    using part = w.alias([2, 2]);
    using wrong = Session.load(files.graph, { threads: 1, weights: new Map([["w", part]]) });
    using binding = new Binding(
      wrong,
      new Map([
        ["x", x],
        ["total", x],
      ]),
      new Map([["y", y]]),
    );
    expect(ortError(() => binding.run())).toContain("MatMul");
  });

  it("read-only memory as an output", () => {
    using weights = Tensor.over(file, 0, "float32", [1, WIDTH]);
    using part = weights.alias([1, WIDTH]);
    for (const readOnly of [weights, part]) expect(() => bind({ x, total: x }, { y: readOnly })).toThrow("read-only");
  });

  it("a disposed one; those bound beside it are free again", () => {
    const [gone, beside] = [rows(1), rows(1)];
    gone[Symbol.dispose]();
    expect(() => bind({ x: beside, total: gone }, { y })).toThrow("disposed");
    expect(() => beside.letGo()).toThrow("let go of more often");
  });

  it("and the next run is right", () => {
    x.fill(1);
    using binding = bind({ x, total: x }, { y });
    binding.run();
    expect(first(y)).toBe(2);
  });
});

describe("what is in use outlives its owner", () => {
  it("a bound tensor, and the one whose memory it shares", () => {
    using session = Session.load(files.graph, options);
    const whole = rows(2);
    const x = whole.alias([1, WIDTH], WIDTH);
    const y = rows(1);
    using kept = y.alias([1, WIDTH]);
    whole.fill(1);
    using binding = new Binding(session, new Map(Object.entries({ x, total: x })), new Map([["y", y]]));
    for (const tensor of [x, y, whole]) tensor[Symbol.dispose]();
    // Had the memory been freed, one of these would have it.
    const others = Array.from({ length: 20 }, () => rows(2));
    for (const other of others) other.fill(5);
    binding.run();
    expect(first(kept)).toBe(2);
    for (const other of others) other[Symbol.dispose]();
  });

  it("a session's weights, and the file they lie in", () => {
    const own = mapFile(files.weights, files.bytes);
    const weight = Tensor.over(own, 0, "float32", [WIDTH, WIDTH]);
    using session = Session.load(files.graph, { threads: 1, weights: new Map([["w", weight]]) });
    for (const each of [own, weight]) each[Symbol.dispose]();
    using x = rows(1);
    using y = rows(1);
    x.fill(1);
    using binding = new Binding(session, new Map(Object.entries({ x, total: x })), new Map([["y", y]]));
    binding.run();
    expect(first(y)).toBe(2);
  });

  it("but is not used by whom it was disposed for", () => {
    const session = Session.load(files.graph, options);
    using x = rows(1);
    using y = rows(1);
    const binding = new Binding(session, new Map(Object.entries({ x, total: x })), new Map([["y", y]]));
    session[Symbol.dispose]();
    expect(() => binding.run()).toThrow("session was used after it was disposed");
    binding[Symbol.dispose]();
    expect(() => binding.run()).toThrow("disposed");
  });
});
