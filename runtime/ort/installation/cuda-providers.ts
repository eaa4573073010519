import { existsSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { z } from "zod";
import { namesIn } from "../../../models/cache/cache-owner.js";
import { VERSION } from "../library.js";
import { NPM_PACKAGE } from "./cuda-packages.js";
import { ElfError, type ElfLibrary, readElfLibrary } from "./elf-library.js";
import { sitePackages } from "./python-folders.js";

export const PROVIDER = "libonnxruntime_providers_cuda.so";
export const SHARED = "libonnxruntime_providers_shared.so";

/** ONNX Runtime's CUDA provider on this machine. */
export interface CudaProvider {
  /** Where it comes from, in words. */
  readonly source: string;
  /** Folder of the two libraries of the provider. */
  readonly folder: string;
  /** ONNX Runtime itself, of the same version. */
  readonly core: string;
  readonly cudaMajor: number;
  /** Sonames that the provider is linked against. */
  readonly needed: readonly string[];
}

export interface ProviderSearch {
  readonly found: readonly CudaProvider[];
  /** What was there and cannot be used, each with the reason. */
  readonly passedOver: readonly string[];
}

export interface ProviderPlaces {
  /** A libonnxruntime.so*, or a folder with one: then nothing else is looked at. */
  readonly ortLibrary: string | undefined;
  /** onnxruntime-node's own library. */
  readonly nodeLibrary: string;
  readonly workingDirectory: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The providers of our version, in the order in which they are tried. Reads headers; loads nothing. */
export function findProviders(places: ProviderPlaces): ProviderSearch {
  const found: CudaProvider[] = [];
  const passedOver: string[] = [];
  for (const candidate of candidates(places)) {
    const provider = typeof candidate === "string" ? candidate : inspect(candidate);
    if (typeof provider === "string") passedOver.push(provider);
    else found.push(provider);
  }
  return { found, passedOver };
}

type Candidate = Pick<CudaProvider, "source" | "folder" | "core">;

/** What may be a provider; text where something is there that is none. */
function candidates({ ortLibrary, nodeLibrary, workingDirectory, env }: ProviderPlaces): (Candidate | string)[] {
  if (ortLibrary !== undefined) return [chosen(resolve(workingDirectory, ortLibrary))];
  const beside = { source: "onnxruntime-node's own folder", folder: dirname(nodeLibrary), core: nodeLibrary };
  return [
    ...(existsSync(join(beside.folder, PROVIDER)) ? [beside] : []),
    ...npmPackages(nodeLibrary, workingDirectory),
    ...pipPackages(nodeLibrary, env),
  ];
}

function chosen(path: string): Candidate | string {
  const core = coreAt(path);
  if (core === null) {
    const what = existsSync(path) ? "no libonnxruntime.so is in" : "there is no";
    return `--ort-library: ${what} ${path}`;
  }
  const library = elfOrReason(core);
  if (typeof library === "string") return `--ort-library: ${library}`;
  const version = library.versions.map((name) => /^VERS_(\d+\.\d+\.\d+)$/.exec(name)?.[1]).find((each) => each);
  if (version === undefined) return `--ort-library: ${core} is not ONNX Runtime's library`;
  if (version !== VERSION) return `--ort-library: ${core} is ONNX Runtime ${version}, and lambdatap needs ${VERSION}`;
  const folder = dirname(core);
  if (!existsSync(join(folder, PROVIDER)))
    return `--ort-library: ${core} is a build for the CPU, ${PROVIDER} is not beside it`;
  return { source: `--ort-library`, folder, core };
}

/** The library itself, or the one in a folder. */
function coreAt(path: string): string | null {
  if (!existsSync(path)) return null;
  if (!statSync(path).isDirectory()) return path;
  for (const folder of [path, join(path, "lib")]) {
    const [name] = namesIn(folder)
      .filter((each) => /^libonnxruntime\.so(\.\d+)*$/.test(each))
      .sort();
    if (name !== undefined) return join(folder, name);
  }
  return null;
}

const Package = z.object({ version: z.string() });

/** Found as Node finds packages, beside onnxruntime-node and from where lambdatap was started. */
function npmPackages(core: string, workingDirectory: string): (Candidate | string)[] {
  const { name, version } = NPM_PACKAGE;
  const manifests = [core, join(workingDirectory, "package.json")].flatMap((from) => {
    try {
      return [createRequire(from).resolve(`${name}/package.json`)];
    } catch {
      return [];
    }
  });
  return [...new Set(manifests)].map((manifest) => {
    const root = dirname(manifest);
    const installed = Package.safeParse(createRequire(manifest)(manifest)).data?.version ?? "unknown";
    if (installed !== version)
      return `${root} is version ${installed}; ONNX Runtime ${VERSION} is in version ${version}`;
    return { source: `the npm package ${name}`, folder: join(root, "Plugins", "Linux", "x64"), core };
  });
}

function pipPackages(core: string, env: ProviderPlaces["env"]): (Candidate | string)[] {
  return sitePackages(env).flatMap((site): (Candidate | string)[] => {
    const folder = join(site, "onnxruntime", "capi");
    if (!existsSync(join(folder, PROVIDER))) return [];
    const versions = namesIn(site).flatMap((name) => /^onnxruntime_gpu-(.+)\.dist-info$/.exec(name)?.[1] ?? []);
    if (versions.includes(VERSION)) return [{ source: "pip's onnxruntime-gpu", folder, core }];
    return [`onnxruntime-gpu in ${site} is ${versions[0] ?? "an unknown version"}, and lambdatap needs ${VERSION}`];
  });
}

function inspect(candidate: Candidate): CudaProvider | string {
  const shared = elfOrReason(join(candidate.folder, SHARED));
  if (typeof shared === "string") return shared;
  const provider = elfOrReason(join(candidate.folder, PROVIDER));
  if (typeof provider === "string") return provider;
  const major = provider.needed.map((name) => /^libcudart\.so\.(\d+)$/.exec(name)?.[1]).find((each) => each);
  if (major === undefined) return `${join(candidate.folder, PROVIDER)} does not say for which CUDA it is built`;
  return { ...candidate, cudaMajor: Number(major), needed: provider.needed };
}

function elfOrReason(path: string): ElfLibrary | string {
  try {
    return readElfLibrary(path);
  } catch (error) {
    if (error instanceof ElfError) return error.message;
    throw error;
  }
}
