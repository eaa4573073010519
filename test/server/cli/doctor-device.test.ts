import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { askDriver } from "../../../runtime/ort/installation/cuda-driver.js";
import { goldenFolder } from "../../golden-tensors.js";
import {
  cudaFiles,
  type FakeDriver,
  fakeDriver,
  library,
  npmPackage,
  ortLibrary,
  writeFiles,
} from "../../runtime/ort/installation/fake-cuda.js";

const MAIN = fileURLToPath(new URL("../../../server/cli/main.js", import.meta.url));
const MODEL = resolve(goldenFolder("architectures/llama"));
const linuxX64 = process.platform === "linux" && process.arch === "x64";
const home = mkdtempSync(join(tmpdir(), "lambdatap-doctor-"));
afterAll(() => rmSync(home, { recursive: true }));
writeFiles(home, {
  ...npmPackage("project"),
  ...cudaFiles("cuda", 13),
  "cuda/libcudnn.so.9": library("libcudnn.so.9"),
  "none/readme": "",
  "broken/libcuda.so.1": "broken",
  "other/libcuda.so.1": library("libcuda.so.1"),
  "old/libonnxruntime.so.1.22.0": ortLibrary("1.22.0"),
});

const Report = z.object({
  refused: z.boolean(),
  device: z.object({
    runsOn: z.string(),
    problem: z.string().nullable(),
    cuda: z
      .object({
        driver: z.looseObject({ status: z.string() }),
        provider: z.object({ cuda: z.number(), version: z.string() }).nullable(),
        libraries: z.array(z.object({ name: z.string(), path: z.string().nullable() })),
        install: z.array(z.object({ command: z.string() })),
      })
      .nullable(),
  }),
});

/** Runs `doctor` in the project where the provider is; `libraries` are folders of LD_LIBRARY_PATH. */
function doctor(args: readonly string[], libraries: readonly string[], cwd = "project") {
  const env = {
    LD_LIBRARY_PATH: libraries.map((folder) => join(home, folder)).join(":"),
    LAMBDATAP_CACHE: join(home, "cache"),
  };
  return new Promise<{ code: number | null; out: string }>((ended) => {
    const child = execFile(
      process.execPath,
      [MAIN, "doctor", MODEL, "--quick", ...args],
      { env, cwd: join(home, cwd) },
      (_, out) => ended({ code: child.exitCode, out }),
    );
  });
}

async function report(args: readonly string[], libraries: readonly string[], cwd?: string) {
  const { code, out } = await doctor(["--json", ...args], libraries, cwd);
  return { code, ...Report.parse(JSON.parse(out)) };
}

let drivers = 0;
function driver(answers: FakeDriver): string {
  const folder = `driver-${drivers++}`;
  writeFiles(home, { [join(folder, "libcuda.so.1")]: fakeDriver(answers) });
  return folder;
}

describe.skipIf(askDriver().status !== "absent")("without an NVIDIA driver doctor", () => {
  test("says in a line that it runs on the CPU: exit 0", async () => {
    const { code, out } = await doctor([], []);
    expect(code).toBe(0);
    expect(out).toMatch(/^device +no NVIDIA driver: runs on the CPU\nThis model can be served\.$/m);
    expect((await report([], [])).device).toMatchObject({ runsOn: "cpu", cuda: null });
  });

  test("and with --device cuda refuses in a sentence: exit 1", async () => {
    const { code, out } = await doctor(["--device", "cuda"], []);
    expect(code).toBe(1);
    expect(out).toMatch(/^refused +CUDA cannot be used: there is no NVIDIA driver \(libcuda\.so\.1\); install it,/m);
    expect(out).toMatch(/^This model can be served, but not where it was asked for\.$/m);
  });
});

test("with --device cpu doctor looks for no driver", async () => {
  const { code, device } = await report(["--device", "cpu"], ["broken"]);
  expect([code, device]).toEqual([0, expect.objectContaining({ runsOn: "cpu", problem: null, cuda: null })]);
});

describe.skipIf(!linuxX64)("with a driver doctor", () => {
  test("lists GPUs, the provider and each library, and says that it runs on the GPU", async () => {
    const folders = [driver({ gpus: 2 }), "cuda"];
    const { code, out } = await doctor(["--device", "cuda:1"], folders);
    expect(code).toBe(0);
    expect(out).toMatch(/^device +cuda:1, a GPU$/m);
    expect(out).toMatch(/^driver +NVIDIA's, for CUDA up to 13\.0$/m);
    expect(out).toMatch(/^GPU +cuda:1, H100, 85\.00 GB, compute capability 9\.0$/m);
    expect(out).toMatch(/^provider ONNX Runtime 1\.29\.0 for CUDA 13: the npm package .*x64$/m);
    expect(out).toMatch(/^ok +libcudnn\.so\.9: .*cuda\/libcudnn\.so\.9$/m);
    expect(readdirSync(home)).not.toContain("cache");
    expect((await report([], folders)).device).toMatchObject({
      runsOn: "cuda",
      problem: null,
      cuda: { driver: { status: "ready", cuda: "13.0", gpus: [{ name: "H100" }, { name: "H100" }] } },
    });
  });

  test("but no provider says which commands bring one; only --device cuda is refused", async () => {
    const folders = [driver({}), "cuda"];
    const { code, out } = await doctor([], folders, "none");
    expect(code).toBe(0);
    expect(out).toMatch(/^device +the CPU$/m);
    expect(out).toMatch(/^install +npm install --no-save com\.github\.asus4.* # the provider for CUDA 13$/m);
    expect(out).toMatch(/^install +node .*install\.js --onnxruntime-node-install +# the provider for CUDA 12/m);
    expect((await report(["--device", "cuda"], folders, "none")).code).toBe(1);
  });

  test.each<[string, FakeDriver | string, readonly string[], RegExp]>([
    [
      "that is too old",
      { cuda: 12040 },
      [],
      /built for CUDA 13, and the NVIDIA driver runs CUDA up to 12\.4; update the driver, or "node .*CUDA 12/,
    ],
    [
      "whose GPU is too old",
      { name: "V100", computeCapability: [7, 0] },
      [],
      /cuda:0 \(V100\) has compute capability 7\.0, and CUDA 13 needs 7\.5/,
    ],
    [
      "with fewer GPUs",
      { gpus: 2 },
      ["--device=cuda:9"],
      /there is no GPU cuda:9; the driver offers cuda:0 \(H100\), cuda:1 \(H100\)\.$/,
    ],
    ["that sees no GPU", { init: 100 }, [], /sees no GPU: in a container, start it with --gpus all/],
    ["that is a stub", { init: 34 }, [], /is the toolkit's stub: take the folder/],
    ["of another version than its library", { init: 803 }, [], /of different versions: restart the machine/],
    ["that fails otherwise", { init: 802 }, [], /NVIDIA's driver reports error 802: see nvidia-smi/],
    ["that counts none", { gpus: 0 }, [], /sees no GPU/],
    ["that cannot be loaded", "broken", [], /NVIDIA's driver cannot be loaded: .*Install it again\.$/],
    ["that is something else", "other", [], /libcuda\.so\.1 is not NVIDIA's driver/],
    [
      "and a library of another version",
      {},
      ["--ort-library", "../old"],
      /is ONNX Runtime 1\.22\.0, and lambdatap needs 1\.29\.0/,
    ],
  ])("%s says so in a sentence", async (_, answers, args, sentence) => {
    const folder = typeof answers === "string" ? answers : driver(answers);
    const { code, refused, device } = await report(["--device=cuda", ...args], [folder, "cuda"]);
    expect([code, refused, device.runsOn]).toEqual([1, true, "cpu"]);
    expect(device.problem).toMatch(/^CUDA cannot be used: /);
    expect(device.problem).toMatch(sentence);
  });
});
