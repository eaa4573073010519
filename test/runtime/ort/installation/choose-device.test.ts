import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import { type DeviceChoice, deviceName, parseDevice } from "../../../../runtime/contract/device-choice.js";
import { chooseDevice } from "../../../../runtime/ort/installation/choose-device.js";
import { askDriver } from "../../../../runtime/ort/installation/cuda-driver.js";
import { cudaFiles, fakeDriver, library, npmPackage, writeFiles } from "./fake-cuda.js";

const home = mkdtempSync(join(tmpdir(), "lambdatap-device-"));
afterAll(() => rmSync(home, { recursive: true }));
writeFiles(home, {
  "driver/libcuda.so.1": fakeDriver(),
  ...npmPackage("project"),
  ...cudaFiles("cuda", 13),
  "cuda/libcudnn.so.9": library("libcudnn.so.9"),
  "empty/readme": "",
});

/** What a choice comes to in a process that sees the driver; JSON, or the name and message of an error. */
async function choose(choice: DeviceChoice, folder: string): Promise<unknown> {
  const module = new URL("../../../../runtime/ort/installation/choose-device.js", import.meta.url).href;
  const libraries = ["driver", "cuda"].map((name) => join(home, name)).join(":");
  const places = { cacheRoot: join(home, "cache"), env: { LD_LIBRARY_PATH: libraries }, root: join(home, "none") };
  const given = JSON.stringify({ ...places, workingDirectory: join(home, folder) });
  const code = `import { chooseDevice } from ${JSON.stringify(module)};
    let answer;
    try { answer = chooseDevice(${JSON.stringify(choice)}, ${given}); }
    catch (error) { answer = { error: error.name, message: error.message }; }
    process.stdout.write(JSON.stringify(answer));`;
  const args = ["--input-type=module", "-e", code];
  const { stdout } = await promisify(execFile)(process.execPath, args, { env: { LD_LIBRARY_PATH: libraries } });
  return JSON.parse(stdout);
}

describe.skipIf(process.platform !== "linux" || process.arch !== "x64")("where there is a driver", () => {
  test("and everything else, auto is the first GPU, and a number is that one", async () => {
    const cuda = { cudaMajor: 13, runtime: join(home, "cuda/libcudart.so.13") };
    expect(await choose({ kind: "auto" }, "project")).toMatchObject({ kind: "cuda", index: 0, cuda });
    expect(await choose({ kind: "cuda", index: 0 }, "project")).toMatchObject({ kind: "cuda", index: 0, cuda });
    expect(await choose({ kind: "cuda", index: 1 }, "project")).toMatchObject({
      error: "SetupError",
      message: expect.stringContaining("there is no GPU cuda:1"),
    });
  });

  test("but no provider, auto is the CPU with a line that says why, and cuda is refused with the same reason", async () => {
    const why = /^CUDA cannot be used: ONNX Runtime's CUDA provider 1\.29\.0 is not installed; "npm install [^\n]*$/;
    expect(await choose({ kind: "auto" }, "empty")).toEqual({ kind: "cpu", notice: expect.stringMatching(why) });
    expect(await choose({ kind: "cuda", index: 0 }, "empty")).toEqual({
      error: "SetupError",
      message: expect.stringMatching(why),
    });
    expect(await choose({ kind: "cpu" }, "empty")).toEqual({ kind: "cpu", notice: null });
  });
});

test.skipIf(askDriver().status !== "absent")("where there is no driver, auto is the CPU without a word", () => {
  const places = { cacheRoot: join(home, "cache"), env: process.env };
  expect(chooseDevice({ kind: "auto" }, places)).toEqual({ kind: "cpu", notice: null });
  expect(() => chooseDevice({ kind: "cuda", index: 0 }, places)).toThrow(/there is no NVIDIA driver/);
});

test("a device is written as it is read", () => {
  for (const text of ["cpu", "auto", "cuda:0", "cuda:15"]) {
    const device = parseDevice(text);
    expect(device && deviceName(device)).toBe(text);
  }
});
