import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { elfFile } from "./elf-file.js";

/** Writes files below a folder; text is made a library of that soname. */
export function writeFiles(root: string, files: Readonly<Record<string, Buffer | string>>): void {
  for (const [name, contents] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), contents);
  }
}

/** A library that only has a name. */
export const library = (soname: string): Buffer => elfFile({ soname, needed: ["libc.so.6"] });

/** The libraries of a provider for one version of CUDA. */
export function providerFiles(folder: string, cudaMajor: number): Record<string, Buffer> {
  const needed = ["libcublasLt", "libcublas", "libcudart"].map((stem) => `${stem}.so.${cudaMajor}`);
  return {
    [join(folder, "libonnxruntime_providers_shared.so")]: library("libonnxruntime_providers_shared.so"),
    [join(folder, "libonnxruntime_providers_cuda.so")]: elfFile({
      needed: [...needed, "libcurand.so.10", "libcuda.so.1", "libc.so.6"],
    }),
  };
}

/** ONNX Runtime's library of a version. */
export const ortLibrary = (version: string): Buffer =>
  elfFile({ soname: "libonnxruntime.so.1", versions: [`VERS_${version}`] });

/** The npm package with the provider for CUDA 13. */
export function npmPackage(root: string, version = "0.4.9"): Record<string, Buffer | string> {
  const name = "com.github.asus4.onnxruntime.linux-x64-gpu";
  const folder = join(root, "node_modules", name);
  return {
    [join(folder, "package.json")]: JSON.stringify({ name, version }),
    ...providerFiles(join(folder, "Plugins", "Linux", "x64"), 13),
  };
}

/** Libraries of CUDA in one folder. */
export const cudaFiles = (folder: string, cudaMajor: number): Record<string, Buffer> =>
  Object.fromEntries(
    [
      ...["libcudart", "libcublasLt", "libcublas", "libnvrtc"].map((stem) => `${stem}.so.${cudaMajor}`),
      "libcurand.so.10",
    ].map((name) => [join(folder, name), library(name)]),
  );

/** What the driver answers. */
export interface FakeDriver {
  /** Result of cuInit. */
  readonly init?: number;
  /** 13000 is 13.0. */
  readonly cuda?: number;
  readonly gpus?: number;
  /** At most 7 letters. */
  readonly name?: string;
  readonly bytes?: number;
  readonly computeCapability?: readonly [major: number, minor: number];
}

const code = (...parts: (readonly number[] | Buffer)[]): Buffer =>
  Buffer.concat(parts.map((part) => Buffer.from(part)));
const ZERO_AND_RETURN = [0x31, 0xc0, 0xc3];
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const writesInt = (value: number): Buffer => code([0xc7, 0x07], u32(value), ZERO_AND_RETURN);
const writesWord = (value: Buffer): Buffer => code([0x48, 0xb8], value, [0x48, 0x89, 0x07], ZERO_AND_RETURN);

/** A libcuda.so.1 for x64 that answers what it is told: a few instructions for each of the functions that are asked for. */
export function fakeDriver(driver: FakeDriver = {}): Buffer {
  const { init = 0, cuda = 13000, gpus = 1, name = "H100", bytes = 85e9, computeCapability = [9, 0] } = driver;
  const word = Buffer.alloc(8);
  word.write(name, "latin1");
  const memory = Buffer.alloc(8);
  memory.writeBigUInt64LE(BigInt(bytes));
  const [major, minor] = computeCapability;
  return elfFile({
    soname: "libcuda.so.1",
    functions: {
      cuInit: code([0xb8], u32(init), [0xc3]),
      cuDriverGetVersion: writesInt(cuda),
      cuDeviceGetCount: writesInt(gpus),
      cuDeviceGet: code([0x89, 0x37], ZERO_AND_RETURN), // the device of a number is that number
      cuDeviceGetName: writesWord(word),
      cuDeviceTotalMem_v2: writesWord(memory),
      // cmp esi, 75; eax = minor; ecx = major; if equal eax = ecx; *rdi = eax
      cuDeviceGetAttribute: code(
        [0x83, 0xfe, 75, 0xb8],
        u32(minor),
        [0xb9],
        u32(major),
        [0x0f, 0x44, 0xc1, 0x89, 0x07],
        ZERO_AND_RETURN,
      ),
    },
  });
}
