import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readlinkSync, realpathSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { listEntries, prune } from "../../../../models/cache/cache-entry.js";
import { SetupError } from "../../../../runtime/contract/errors.js";
import { type CudaPlaces, installationOf, searchCuda } from "../../../../runtime/ort/installation/find-cuda.js";
import { cudaFiles, library, npmPackage, ortLibrary, providerFiles, writeFiles } from "./fake-cuda.js";

const home = realpathSync(mkdtempSync(join(tmpdir(), "lambdatap-cuda-")));
afterAll(() => rmSync(home, { recursive: true }));

let root: string;
/** Places of a machine of its own: nothing of the machine that runs the test is seen. */
let machine: CudaPlaces & { cacheRoot: string; env: Record<string, string> };
beforeEach(() => {
  root = mkdtempSync(join(home, "machine-"));
  writeFiles(root, { "ort/bin/libonnxruntime.so.1": ortLibrary("1.29.0") });
  machine = {
    cacheRoot: join(root, "cache"),
    env: { VIRTUAL_ENV: join(root, "venv") },
    workingDirectory: join(root, "project"),
    nodeLibrary: join(root, "ort/bin/libonnxruntime.so.1"),
    root: join(root, "system"),
    platform: "linux-x64",
  };
});
const write = (files: Parameters<typeof writeFiles>[1]) => writeFiles(root, files);
const find = (places: Partial<CudaPlaces> = {}) =>
  installationOf(searchCuda({ ...machine, ...places }), machine.cacheRoot);
const problem = (places: Partial<CudaPlaces> = {}) => searchCuda({ ...machine, ...places }).problem;

const SITE = "venv/lib/python3.11/site-packages";
const pip = (cudaMajor: number) => ({
  ...cudaFiles(`${SITE}/nvidia/cu${cudaMajor}/lib`, cudaMajor),
  [`${SITE}/nvidia/cudnn/lib/libcudnn.so.9`]: library("libcudnn.so.9"),
});
const names = (paths: readonly string[]) => paths.map((path) => path.slice(path.lastIndexOf("/") + 1));

describe("the provider", () => {
  test("of the npm package and pip's libraries are found; links bring them together", () => {
    write({ ...npmPackage("project"), ...pip(13) });
    const cuda = find();
    expect(cuda).toMatchObject({
      source: "the npm package com.github.asus4.onnxruntime.linux-x64-gpu",
      cudaMajor: 13,
      runtime: join(root, SITE, "nvidia/cu13/lib/libcudart.so.13"),
    });
    expect(names(cuda.needed)).toEqual([
      "libcudart.so.13",
      "libnvrtc.so.13",
      "libcublasLt.so.13",
      "libcublas.so.13",
      "libcurand.so.10",
      "libcudnn.so.9",
    ]);
    expect(names([cuda.library])).toEqual(["libonnxruntime.so.1"]);
    expect(readlinkSync(cuda.library)).toBe(machine.nodeLibrary);
    const provider = join(dirname(cuda.library), "libonnxruntime_providers_cuda.so");
    expect(realpathSync(provider)).toContain("project/node_modules/com.github.asus4.onnxruntime.linux-x64-gpu/Plugins");
  });

  test("beside onnxruntime-node comes first and needs no links", () => {
    write({ ...npmPackage("project"), ...providerFiles("ort/bin", 12), ...pip(12), ...pip(13) });
    expect(find()).toMatchObject({ library: machine.nodeLibrary, cudaMajor: 12 });
  });

  test("whose libraries are here is taken, not the first that lacks some", () => {
    write({ ...providerFiles("ort/bin", 12), ...npmPackage("project"), ...pip(13) });
    expect(find().cudaMajor).toBe(13);
  });

  test("that the driver cannot run is left for one that it can", () => {
    write({ ...providerFiles("ort/bin", 13), ...pip(12), ...pip(13) });
    write({
      ...providerFiles(`${SITE}/onnxruntime/capi`, 12),
      [`${SITE}/onnxruntime_gpu-1.29.0.dist-info/METADATA`]: "",
    });
    expect(find({ newestMajor: 13 }).cudaMajor).toBe(13);
    expect(find({ newestMajor: 12 })).toMatchObject({ cudaMajor: 12, source: "pip's onnxruntime-gpu" });
  });

  test("of pip is found through the python3 on the PATH, also behind pyenv and for one user", () => {
    const site = "lib/python3.12/site-packages";
    const capi = (prefix: string) => ({
      ...providerFiles(`${prefix}/${site}/onnxruntime/capi`, 13),
      [`${prefix}/${site}/onnxruntime_gpu-1.29.0.dist-info/METADATA`]: "",
    });
    write({
      ...capi("py"),
      "py/bin/python3": "",
      ...capi("env/versions/3.12.1"),
      "env/shims/python3": "",
      ...capi("me/.local"),
    });
    const providerFor = (env: Record<string, string>) => searchCuda({ ...machine, env }).provider?.folder;
    expect(providerFor({ PATH: `/nowhere:${join(root, "py/bin")}` })).toContain("/py/lib/");
    expect(providerFor({ PATH: join(root, "env/shims") })).toContain("/env/versions/3.12.1/");
    expect(providerFor({ HOME: join(root, "me") })).toContain("/me/.local/");
    expect(providerFor({ PATH: "", HOME: "" })).toBeUndefined();
  });

  test("that is not installed is named, with a command that brings it", () => {
    expect(problem()).toMatch(
      /^CUDA cannot be used: ONNX Runtime's CUDA provider 1\.29\.0 is not installed; "npm install /,
    );
    expect(searchCuda(machine).commands.map(({ command }) => command)).toEqual([
      expect.stringMatching(/^npm install --no-save com\.github\.asus4\.onnxruntime\.linux-x64-gpu@0\.4\.9$/),
      expect.stringMatching(/^pip install "onnxruntime-gpu\[cuda,cudnn\]==1\.29\.0"/),
      expect.stringMatching(/^node .*onnxruntime-node[\\/]script[\\/]install\.js --onnxruntime-node-install$/),
    ]);
    expect(problem({ newestMajor: 12 })).toMatch(
      /install\.js --onnxruntime-node-install" brings the provider for CUDA 12/,
    );
    expect(problem({ newestMajor: 11 })).toMatch(/update the NVIDIA driver, which runs CUDA 11 only\.$/);
    expect(() => find()).toThrow(SetupError);
  });

  test("of another version is passed over and named, with both versions", () => {
    write({ ...npmPackage("project", "0.4.7"), ...providerFiles(`${SITE}/onnxruntime/capi`, 12) });
    write({ [`${SITE}/onnxruntime_gpu-1.20.1.dist-info/METADATA`]: "" });
    expect(searchCuda(machine).passedOver).toEqual([
      expect.stringMatching(/is version 0\.4\.7; ONNX Runtime 1\.29\.0 is in version 0\.4\.9$/),
      expect.stringMatching(/^onnxruntime-gpu in .*site-packages is 1\.20\.1, and lambdatap needs 1\.29\.0$/),
    ]);
    expect(problem()).toContain("1.20.1");
  });

  test("that is cut off, or has no part beside it, is passed over", () => {
    const folder = "project/node_modules/com.github.asus4.onnxruntime.linux-x64-gpu/Plugins/Linux/x64";
    write({ ...npmPackage("project"), [`${folder}/libonnxruntime_providers_cuda.so`]: "version https://git-lfs" });
    expect(problem()).toMatch(/libonnxruntime_providers_cuda\.so is no ELF file/);
    rmSync(join(root, folder, "libonnxruntime_providers_shared.so"));
    expect(problem()).toMatch(/libonnxruntime_providers_shared\.so cannot be read: ENOENT/);
  });
});

describe("--ort-library", () => {
  test("is the library, its folder, or an unpacked release; nothing else is looked at", () => {
    write({ ...npmPackage("project"), ...pip(12), ...pip(13), ...providerFiles("mine/lib", 12) });
    write({ "mine/lib/libonnxruntime.so.1.29.0": ortLibrary("1.29.0") });
    const found = join(root, "mine/lib/libonnxruntime.so.1.29.0");
    for (const ortLibrary of [found, "../mine/lib", join(root, "mine")])
      expect(find({ ortLibrary })).toMatchObject({ library: found, source: "--ort-library", cudaMajor: 12 });
  });

  test.each([
    ["absent", {}, /there is no .*mine\. Give/],
    ["an empty folder", { "mine/readme": "" }, /no libonnxruntime\.so is in .*mine\./],
    ["no library", { "mine/libonnxruntime.so": "no" }, /libonnxruntime\.so is no ELF file/],
    ["another library", { "mine/libonnxruntime.so": library("libz.so.1") }, /is not ONNX Runtime's library/],
    [
      "of another version",
      { "mine/libonnxruntime.so.1.22.0": ortLibrary("1.22.0"), ...providerFiles("mine", 12) },
      /is ONNX Runtime 1\.22\.0, and lambdatap needs 1\.29\.0/,
    ],
    ["for the CPU", { "mine/libonnxruntime.so": ortLibrary("1.29.0") }, /is a build for the CPU/],
  ])("that is %s is refused in a sentence, though a provider is elsewhere", (_, files, sentence) => {
    write({ ...npmPackage("project"), ...pip(13), ...files });
    const ortLibrary = join(root, "mine");
    expect(() => find({ ortLibrary })).toThrow(SetupError);
    expect(problem({ ortLibrary })).toMatch(sentence);
    expect(problem({ ortLibrary })).toMatch(/leave --ort-library out\.$/);
  });
});

describe("libraries", () => {
  test("that are missing are named one by one, with what brings them", () => {
    write({ ...npmPackage("project"), ...pip(13) });
    rmSync(join(root, SITE, "nvidia/cudnn"), { recursive: true });
    expect(problem()).toMatch(
      /needs libcudnn\.so\.9, which this machine does not have; "pip install nvidia-cudnn-cu13~=9\.0" or NVIDIA's packages/,
    );
    rmSync(join(root, SITE, "nvidia/cu13/lib/libcurand.so.10"));
    expect(problem()).toMatch(
      /needs libcurand\.so\.10 and libcudnn\.so\.9, which.*nvidia-curand~=10\.0 nvidia-cudnn-cu13/,
    );
    expect(() => find()).toThrow(SetupError);
    rmSync(join(root, SITE, "nvidia"), { recursive: true });
    expect(problem()).toMatch(
      /needs libcudart\.so\.13, libcublasLt\.so\.13, libcublas\.so\.13, libcurand\.so\.10 and libcudnn/,
    );
  });

  test("of nvrtc may be missing", () => {
    write({ ...npmPackage("project"), ...pip(13) });
    rmSync(join(root, SITE, "nvidia/cu13/lib/libnvrtc.so.13"));
    expect(names(find().needed)).not.toContain("libnvrtc.so.13");
    expect(searchCuda(machine).commands).toEqual([
      { command: "pip install nvidia-cuda-nvrtc~=13.0", brings: "libraries of CUDA 13" },
    ]);
  });

  test.each([
    [13, 12, /brings|libraries of CUDA 13\).*install\.js --onnxruntime-node-install" \(the provider for CUDA 12/],
    [12, 13, /nvidia-cublas-cu12.*libraries of CUDA 12\).*"npm install .*\(the provider for CUDA 13\)/],
  ])(
    "of the wrong CUDA: the provider is for %d and they are for %d; both are named, with the provider that fits",
    (built, here, remedy) => {
      write({ ...providerFiles("ort/bin", built), ...pip(here) });
      expect(problem()).toMatch(
        new RegExp(`is built for CUDA ${built}, and this machine has CUDA ${here} \\(.*so\\.${here}\\)`),
      );
      expect(problem()).toMatch(remedy);
    },
  );

  test("of cuDNN for another CUDA are not taken", () => {
    write({ ...npmPackage("project"), ...pip(13), [`${SITE}/nvidia_cudnn_cu12-9.10.0.dist-info/RECORD`]: "" });
    expect(problem()).toMatch(/libcudnn\.so\.9 \(.*libcudnn\.so\.9 is built for CUDA 12\)/);
    write({ [`${SITE}/nvidia_cudnn_cu13-9.10.0.dist-info/RECORD`]: "" });
    expect(problem()).toBeNull();
  });

  test("that are broken are not taken, but another of the name is", () => {
    write({ ...npmPackage("project"), ...pip(13), "given/libcublas.so.13": "broken" });
    machine.env.LD_LIBRARY_PATH = `:${join(root, "given")}`;
    expect(find().needed).toContain(join(root, SITE, "nvidia/cu13/lib/libcublas.so.13"));
    rmSync(join(root, SITE, "nvidia/cu13/lib/libcublas.so.13"));
    expect(problem()).toMatch(/needs libcublas\.so\.13 \(.*given\/libcublas\.so\.13 is no ELF file\), which/);
  });

  test("are looked for where the user says, where pip and conda put them, and where the system has them", () => {
    const places = {
      LD_LIBRARY_PATH: ["a", "a"],
      CUDA_PATH: ["b", "b/lib64"],
      CUDA_HOME: ["c", "c/targets/x86_64-linux/lib"],
      CONDA_PREFIX: ["d", "d/lib"],
      "": [
        "",
        "system/usr/local/cuda-13.0/lib64",
        "system/usr/local/cuda/lib64",
        "system/usr/lib/x86_64-linux-gnu",
        "system/odd",
      ],
    };
    write({ ...npmPackage("project"), "system/etc/ld.so.conf.d/odd.conf": "# comment\n/odd\n" });
    write(cudaFiles("system/usr/local/cuda-12.8/lib64", 12));
    const cudnn = (folder: string) => ({ [`${folder}/libcudnn.so.9`]: library("libcudnn.so.9") });
    const found: string[] = [];
    for (const [variable, [prefix = "", ...folders]] of Object.entries(places).reverse())
      for (const folder of folders.reverse()) {
        write({ ...cudaFiles(folder, 13), ...cudnn(folder) });
        if (variable !== "") machine.env[variable] = join(root, prefix);
        found.push(dirname(find().runtime));
      }
    expect(found).toEqual(
      [
        "system/odd",
        "system/usr/lib/x86_64-linux-gnu",
        "system/usr/local/cuda/lib64",
        "system/usr/local/cuda-13.0/lib64",
      ]
        .concat(["d/lib", "c/targets/x86_64-linux/lib", "b/lib64", "a"])
        .map((folder) => join(root, folder)),
    );
  });
});

test.each([
  ["darwin-arm64", /there is no CUDA for macOS/],
  ["win32-x64", /does not support it on Windows yet/],
  ["linux-arm64", /on Linux x64 only, and this is linux-arm64/],
])("on %s a sentence says that there is no CUDA", (platform, sentence) => {
  write({ ...npmPackage("project"), ...pip(13) });
  expect(problem({ platform })).toMatch(sentence);
  expect(() => find({ platform })).toThrow(SetupError);
});

describe("the folder of links", () => {
  beforeEach(() => write({ ...npmPackage("project"), ...pip(13) }));

  test("is made once, by whoever comes first, and again where a link is gone", async () => {
    const module = new URL("../../../../runtime/ort/installation/find-cuda.js", import.meta.url).href;
    const code = `import { installationOf, searchCuda } from ${JSON.stringify(module)};
      const machine = ${JSON.stringify(machine)};
      process.stdout.write(installationOf(searchCuda(machine), machine.cacheRoot).library);`;
    const run = () => promisify(execFile)(process.execPath, ["--input-type=module", "-e", code]);
    const all = await Promise.all(Array.from({ length: 4 }, run));
    const path = find().library;
    expect(all.map(({ stdout }) => stdout)).toEqual([path, path, path, path]);
    expect(readdirSync(machine.cacheRoot)).toEqual([dirname(path).slice(machine.cacheRoot.length + 1)]);
    unlinkSync(path);
    expect(find().library).toBe(path);
    expect(readlinkSync(path)).toBe(machine.nodeLibrary);
  });

  test("is another for another provider", () => {
    const first = find().library;
    write({ "elsewhere/libonnxruntime.so.1": ortLibrary("1.29.0") });
    expect(find({ nodeLibrary: join(root, "elsewhere/libonnxruntime.so.1") }).library).not.toBe(first);
  });

  test("is no compiled model: it is neither listed nor pruned", () => {
    const { library: path } = find();
    expect(listEntries(machine.cacheRoot)).toEqual([]);
    expect(prune(machine.cacheRoot, { all: true })).toEqual([]);
    expect(readlinkSync(path)).toBe(machine.nodeLibrary);
  });

  test("that cannot be made is a sentence about the cache folder", () => {
    write({ "a-file": "" });
    expect(() => installationOf(searchCuda(machine), join(root, "a-file"))).toThrow(
      /^The cache folder .*a-file cannot be made/,
    );
  });
});
