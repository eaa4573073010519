import { SetupError } from "../errors.js";
import { type CudaLibrary, findLibraries } from "./cuda-libraries.js";
import { installLibraries, PROVIDER_COMMANDS, systemPackages } from "./cuda-packages.js";
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
  readonly provider: CudaProvider | null;
  /** What `provider` needs, in the order of loading. */
  readonly libraries: readonly CudaLibrary[];
  /** Providers that were there and cannot be used, each with the reason. */
  readonly passedOver: readonly string[];
  /** Why CUDA cannot be used, a sentence with the remedy; null where nothing is missing. */
  readonly problem: string | null;
  /** Commands each of which brings what is missing. */
  readonly commands: readonly string[];
}

/** Looks for the provider and its libraries, reads their headers, and loads nothing. @throws SetupError without onnxruntime-node. */
export function searchCuda(places: CudaPlaces): CudaSearch {
  const { env, ortLibrary, workingDirectory = process.cwd(), root = "/" } = places;
  const platform = places.platform ?? `${process.platform}-${process.arch}`;
  const nothing = { provider: null, libraries: [], passedOver: [], commands: [] };
  if (platform !== "linux-x64") return { ...nothing, problem: `CUDA cannot be used: ${unsupported(platform)}` };
  const nodeLibrary = places.nodeLibrary ?? libraryPath();
  const { found, passedOver } = findProviders({ ortLibrary, nodeLibrary, workingDirectory, env });
  const searches = found.map((provider) => ({ provider, libraries: findLibraries(provider, env, root) }));
  const best = searches.find(({ libraries }) => missing(libraries).length === 0) ?? searches[0];
  if (best === undefined) return { ...nothing, passedOver, ...withoutProvider(passedOver, ortLibrary) };
  return { ...best, passedOver, ...problemOf(best.provider, best.libraries) };
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

function withoutProvider(passedOver: readonly string[], ortLibrary: string | undefined) {
  if (ortLibrary !== undefined) {
    const remedy = `Give the folder of a build of ONNX Runtime ${VERSION} for CUDA, or leave --ort-library out.`;
    return { problem: `CUDA cannot be used: ${passedOver.join("; ")}. ${remedy}`, commands: [] };
  }
  const commands = PROVIDER_COMMANDS.map(({ command }) => command);
  const found = passedOver.length > 0 ? ` (${passedOver.join("; ")})` : "";
  return {
    problem: `CUDA cannot be used: ONNX Runtime's CUDA provider ${VERSION} is not installed${found}; "${commands[0]}" brings it for CUDA 13, and lambdatap doctor lists other ways.`,
    commands,
  };
}

function problemOf({ source, cudaMajor }: CudaProvider, libraries: readonly CudaLibrary[]) {
  const absent = missing(libraries);
  if (absent.length === 0) return { problem: null, commands: [] };
  const install = installLibraries(
    libraries.filter(({ path }) => path === null).map(({ name }) => name),
    cudaMajor,
  );
  const others = otherMajor(absent, cudaMajor);
  const switching = PROVIDER_COMMANDS.filter((each) => others !== null && each.cudaMajor === others.major);
  const commands = [...(install === null ? [] : [install]), ...switching.map(({ command }) => command)];
  const bring =
    install === null ? "install them" : `"${install}" or NVIDIA's packages ${systemPackages(cudaMajor)} bring them`;
  if (others !== null) {
    const instead =
      switching[0] === undefined ? "" : `, or "${switching[0].command}" the provider for CUDA ${others.major}`;
    return {
      problem: `CUDA cannot be used: the provider (${source}) is built for CUDA ${cudaMajor}, and this machine has the libraries of CUDA ${others.major} (${others.path}); ${install === null ? `install those of CUDA ${cudaMajor}` : `"${install}" brings those of CUDA ${cudaMajor}`}${instead}.`,
      commands,
    };
  }
  const each = absent.map(({ name, instead }) => (instead[0] === undefined ? name : `${name} (${instead[0]})`));
  return {
    problem: `CUDA cannot be used: the provider (${source}) needs ${list(each)}, which ${each.length > 1 ? "are" : "is"} not on this machine; ${bring}.`,
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
