import { SetupError } from "../errors.js";
import { type CudaLibrary, findLibraries } from "./cuda-libraries.js";
import { type InstallCommand, installLibraries, installProvider, systemPackages } from "./cuda-packages.js";
import { type CudaProvider, findProviders } from "./cuda-providers.js";
import { libraryPath, VERSION } from "./library.js";
import { libraryWithProvider } from "./provider-folder.js";

/** Everything that CUDA needs besides the driver, found on this machine. */
export interface CudaInstallation {
  /** libonnxruntime, to be opened by this path: the provider is found beside it. */
  readonly library: string;
  /** Where the provider comes from, in words. */
  readonly source: string;
  readonly cudaMajor: number;
  /** Absolute paths of libraries to load first, in this order; with them loaded no LD_LIBRARY_PATH is needed. */
  readonly needed: readonly string[];
  /** Path of libcudart, one of `needed`. */
  readonly runtime: string;
}

export interface CudaPlaces {
  /** A libonnxruntime.so*, or a folder with one, that the user chose. */
  readonly ortLibrary?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The newest CUDA that the driver runs; left out: any. */
  readonly newestMajor?: number;
  /** Default: the process's. */
  readonly workingDirectory?: string;
  /** onnxruntime-node's own library; default: where it is installed. */
  readonly nodeLibrary?: string;
  /** Root of the file system. */
  readonly root?: string;
  readonly platform?: string;
}

/** What was found of CUDA, and what is missing. */
export interface CudaSearch {
  /** Whether lambdatap knows no CUDA on this platform. */
  readonly unsupported: boolean;
  readonly provider: CudaProvider | null;
  /** What `provider` needs, in the order of loading. */
  readonly libraries: readonly CudaLibrary[];
  /** Providers that were there and cannot be used, each with the reason. */
  readonly passedOver: readonly string[];
  /** Why CUDA cannot be used, a sentence with the remedy; null where nothing is missing. */
  readonly problem: string | null;
  /** Each brings something that is missing. */
  readonly commands: readonly InstallCommand[];
}

/** Looks for the provider and its libraries, reads their headers, and loads nothing. @throws SetupError without onnxruntime-node. */
export function searchCuda(places: CudaPlaces): CudaSearch {
  const { env, ortLibrary, workingDirectory = process.cwd(), root = "/" } = places;
  const platform = places.platform ?? `${process.platform}-${process.arch}`;
  const nothing = { unsupported: false, provider: null, libraries: [], passedOver: [], commands: [] };
  if (platform !== "linux-x64")
    return { ...nothing, unsupported: true, problem: `CUDA cannot be used: ${unsupported(platform)}` };
  const nodeLibrary = places.nodeLibrary ?? libraryPath();
  const { found, passedOver } = findProviders({ ortLibrary, nodeLibrary, workingDirectory, env });
  const searches = found.map((provider) => ({ provider, libraries: findLibraries(provider, env, root) }));
  const newest = places.newestMajor ?? Number.POSITIVE_INFINITY;
  const best =
    searches.find(({ provider, libraries }) => provider.cudaMajor <= newest && missing(libraries).length === 0) ??
    searches.find(({ provider }) => provider.cudaMajor <= newest) ??
    searches[0];
  if (best === undefined) return { ...nothing, passedOver, ...withoutProvider(passedOver, places) };
  return { ...nothing, ...best, passedOver, ...problemOf(best.provider, best.libraries, places.newestMajor) };
}

/**
 * The provider and its libraries; makes a folder of links in the cache where ONNX Runtime needs one to find the provider.
 * @throws SetupError with what is missing and what brings it; CacheError where the cache folder cannot be written.
 */
export function findCuda({ cacheRoot, ...places }: CudaPlaces & { readonly cacheRoot: string }): CudaInstallation {
  return installationOf(searchCuda(places), cacheRoot);
}

/** What a search has found, ready to be loaded. @throws as `findCuda`. */
export function installationOf({ provider, libraries, problem }: CudaSearch, cacheRoot: string): CudaInstallation {
  if (provider === null || problem !== null)
    throw new SetupError(problem ?? "CUDA cannot be used: there is no provider.");
  const needed = libraries.flatMap(({ path }) => path ?? []);
  const runtime = libraries.find(({ name }) => name.startsWith("libcudart.so."))?.path;
  if (!runtime) throw new SetupError(`CUDA cannot be used: ${provider.folder} does not need libcudart.`);
  return {
    library: libraryWithProvider(provider, cacheRoot),
    source: provider.source,
    cudaMajor: provider.cudaMajor,
    needed,
    runtime,
  };
}

function unsupported(platform: string): string {
  if (platform.startsWith("darwin")) return "there is no CUDA for macOS. Leave --device out, or say --device cpu.";
  if (platform.startsWith("win32"))
    return "lambdatap does not support it on Windows yet; in WSL 2 it does. Leave --device out, or say --device cpu.";
  return `lambdatap supports it on Linux x64 only, and this is ${platform}. Leave --device out, or say --device cpu.`;
}

const missing = (libraries: readonly CudaLibrary[]): readonly CudaLibrary[] =>
  libraries.filter(({ path, optional }) => path === null && !optional);

function withoutProvider(passedOver: readonly string[], { ortLibrary, newestMajor = 13 }: CudaPlaces) {
  if (ortLibrary !== undefined) {
    const remedy = `Give a build of ONNX Runtime ${VERSION} for CUDA, or leave --ort-library out.`;
    return { problem: `CUDA cannot be used: ${passedOver.join("; ")}. ${remedy}`, commands: [] };
  }
  const commands = installProvider((cudaMajor) => cudaMajor <= newestMajor);
  const there = passedOver.length > 0 ? ` (${passedOver.join("; ")})` : "";
  const [first] = commands;
  const remedy =
    first === undefined
      ? `update the NVIDIA driver, which runs CUDA ${newestMajor} only`
      : `"${first.command}" brings ${first.brings}, and lambdatap doctor lists other ways`;
  return {
    problem: `CUDA cannot be used: ONNX Runtime's CUDA provider ${VERSION} is not installed${there}; ${remedy}.`,
    commands,
  };
}

function problemOf({ source, cudaMajor }: CudaProvider, libraries: readonly CudaLibrary[], newestMajor = 13) {
  const absent = missing(libraries);
  const names = libraries.filter(({ path }) => path === null).map(({ name }) => name);
  const install = installLibraries(names, cudaMajor);
  if (absent.length === 0) return { problem: null, commands: install === null ? [] : [install] };
  const about = `CUDA cannot be used: the provider (${source})`;
  const other = otherMajor(absent, cudaMajor);
  if (other === null) {
    const each = absent.map(({ name, instead }) => (instead[0] === undefined ? name : `${name} (${instead[0]})`));
    const bring = `${install === null ? "" : `"${install.command}" or `}NVIDIA's packages ${systemPackages(cudaMajor)} bring`;
    return {
      problem: `${about} needs ${list(each)}, which this machine does not have; ${bring} what is missing.`,
      commands: install === null ? [] : [install],
    };
  }
  const providers = installProvider((major) => major === other.major && major <= newestMajor);
  const commands = [...(install === null ? [] : [install]), ...providers];
  const remedies = commands.slice(0, 2).map(({ command, brings }) => `"${command}" (${brings})`);
  const remedy = remedies.length === 0 ? `install CUDA ${cudaMajor}` : `run ${remedies.join(" or ")}`;
  return {
    problem: `${about} is built for CUDA ${cudaMajor}, and this machine has CUDA ${other.major} (${other.path}); ${remedy}.`,
    commands,
  };
}

/** Another CUDA whose runtime or cuBLAS is here in place of the one that is needed. */
function otherMajor(absent: readonly CudaLibrary[], cudaMajor: number): { major: number; path: string } | null {
  for (const { name, instead } of absent) {
    if (!/^lib(cudart|cublas|cublasLt)\.so\./.test(name)) continue;
    for (const path of instead) {
      const major = Number(/\.so\.(\d+)$/.exec(path)?.[1] ?? cudaMajor);
      if (major !== cudaMajor) return { major, path };
    }
  }
  return null;
}

const list = (words: readonly string[]): string =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
