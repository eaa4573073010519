import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { DeviceLost } from "../../../runtime/contract/errors.js";
import type { GenerationEvent } from "../../../runtime/contract/generation.js";
import { EngineLoop } from "../../../runtime/engine/loop.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { CudaError } from "../../../runtime/ort/cuda-runtime.js";
import { CPU, type Device } from "../../../runtime/ort/device.js";
import { gpuFailure } from "../../../runtime/ort/gpu-failure.js";
import { OrtError } from "../../../runtime/ort/library.js";
import { AttachedSaes } from "../../../runtime/saes/attached-saes.js";
import { renderError } from "../../../server/errors.js";
import { goldenFolder, goldenIds } from "../../golden-tensors.js";
import { FAR_CPU } from "../ort/far-cpu.js";
import { idsOf, ofKind, sequenceRequest } from "./requests.js";

describe("what an error says of a GPU", () => {
  const lost = [
    new CudaError(700, "computing on the GPU: an illegal memory access was encountered (cudaErrorIllegalAddress)"),
    new OrtError(
      1,
      "while running Mul node. CUDA error cudaErrorIllegalAddress:an illegal memory access was encountered",
    ),
    new OrtError(11, "Non-zero status code: cuda_call.cc:154\nCUDA failure 719: unspecified launch failure ; GPU=0"),
    new CudaError(214, "copying from the GPU: uncorrectable ECC error encountered (cudaErrorECCUncorrectable)"),
  ];
  it.each(lost)("lost: %s", (error) => {
    const failure = gpuFailure(error, FAR_CPU);
    expect(failure?.kind).toBe("device_lost");
    expect(failure?.message).toMatch(/^The GPU was lost \(.+\); start the server again$/);
  });

  const full = [
    new CudaError(2, "allocating float16[1,8]: the GPU has no 12 MB left (3 of 80,000 MB are free)"),
    new OrtError(
      6,
      "bfc_arena.cc BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 9",
    ),
    new OrtError(11, "CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; expr=cudaMalloc((void**)&p, size);"),
    new OrtError(1, "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&cublas_handle_);"),
  ];
  it.each(full)("out of memory: %s", (error) => {
    const failure = gpuFailure(error, FAR_CPU);
    expect(failure?.kind).toBe("out_of_memory");
    expect(failure?.message).toMatch(/^The GPU is out of memory \(.+\); .*--window.*--precision.*--device cuda:<n>\)$/);
  });

  it.each([new Error("CUDA failure 700"), new OrtError(2, "no such input"), new CudaError(1, "invalid argument"), 700])(
    "nothing: %s",
    (error) => expect(gpuFailure(error, FAR_CPU)).toBeNull(),
  );

  it("lost, where a library on top of CUDA has failed and so does the next wait", () => {
    const error = new OrtError(1, "CUBLAS failure 14: the internal error ; GPU=0");
    const wait = () => {
      throw new CudaError(719, "computing on the GPU: unspecified launch failure");
    };
    expect(gpuFailure(error, FAR_CPU)).toBeNull();
    expect(gpuFailure(error, { ...FAR_CPU, wait })?.kind).toBe("device_lost");
  });

  it.each([...lost, ...full])("nothing where there is none: %s", (error) => expect(gpuFailure(error, CPU)).toBeNull());
});

/** A device that begins to fail when it is told to. */
const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
const fault: { whileRunning: CudaError | null; whileAllocating: CudaError | null } = {
  whileRunning: null,
  whileAllocating: null,
};
const failing: Device = {
  ...FAR_CPU,
  runOptions: () => {
    if (fault.whileRunning !== null) throw fault.whileRunning;
    return null;
  },
  zeros: (type, shape) => {
    if (fault.whileAllocating !== null) throw fault.whileAllocating;
    return FAR_CPU.zeros(type, shape);
  },
  untouched: (type, shape) => failing.zeros(type, shape),
};
const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
const runner = new Runner(model, { window: 32, threads: 1, device: failing });
const prompt = Int32Array.from(goldenIds("lm-infinite").slice(0, 5));

function client(): { loop: EngineLoop; sent: GenerationEvent[]; submit: (id: number, maxTokens: number) => void } {
  const sent: GenerationEvent[] = [];
  const options = {
    window: 32,
    sinks: 4,
    parallel: 4,
    parking: 4,
    stallTimeoutMs: 1000,
    eosTokenIds: [],
    tokens: null,
  };
  const saes = new AttachedSaes([]);
  const loop = new EngineLoop(runner, { ...options, fullLength: 1000, saes }, (outbox) => {
    for (const { events } of outbox) sent.push(...events);
  });
  const submit = (id: number, maxTokens: number) =>
    loop.submit(id, [{ ...sequenceRequest({ maxTokens }), prompt: prompt.slice() }]);
  return { loop, sent, submit };
}

afterEach(() => {
  fault.whileRunning = null;
  fault.whileAllocating = null;
});
afterAll(() => {
  runner[Symbol.dispose]();
  rmSync(cacheRoot, { recursive: true });
});

it("a text for which the GPU has no room ends with the remedy, and the next one is generated", () => {
  const { loop, sent, submit } = client();
  fault.whileAllocating = new CudaError(
    2,
    "allocating float32[1,2,8,16]: the GPU has no 1 MB left (0 of 9 MB are free)",
  );
  submit(1, 4);
  while (loop.step());
  const [error] = ofKind(sent, "error");
  expect(error?.error).toMatchObject({ kind: "out_of_memory" });
  expect(error?.error.message).toContain("The GPU is out of memory (allocating float32[1,2,8,16]");
  fault.whileAllocating = null;
  submit(2, 4);
  while (loop.step());
  expect(idsOf(sent)).toHaveLength(4);
  loop[Symbol.dispose]();
});

it("a text that grows beyond the GPU's room ends with the remedy, and its neighbour goes on", () => {
  const { loop, sent, submit } = client();
  submit(1, 3);
  for (let i = 0; i < 3; i++) loop.step();
  const before = idsOf(sent).length;
  expect(before).toBeGreaterThan(0);
  fault.whileAllocating = new CudaError(2, "allocating: the GPU has no 1 MB left");
  submit(2, 30); // a second row is needed
  for (let i = 0; i < 2; i++) loop.step();
  fault.whileAllocating = null;
  while (loop.step());
  expect(ofKind(sent, "error").map(({ error }) => error.kind)).toEqual(["out_of_memory"]);
  expect(ofKind(sent, "end")).toHaveLength(1);
  loop[Symbol.dispose]();
});

it("a GPU that is lost ends the engine with a sentence, which requests are answered with", () => {
  const { loop, submit } = client();
  submit(1, 100);
  loop.step();
  fault.whileRunning = new CudaError(700, "computing on the GPU: an illegal memory access was encountered");
  let thrown: unknown;
  try {
    loop.step();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(DeviceLost);
  expect(renderError(thrown)).toMatchObject({
    status: 503,
    body: {
      error: { code: "device_lost", message: expect.stringMatching(/^The GPU was lost .*start the server again$/) },
    },
  });
});
