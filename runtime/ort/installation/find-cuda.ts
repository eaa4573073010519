import { SetupError } from "../../contract/errors.js";
import { libraryPath } from "../library.js";
import { type CudaLibrary, findLibraries } from "./cuda-libraries.js";
import type { InstallCommand } from "./cuda-packages.js";
import { missing, unsupported, withoutLibraries, withoutProvider } from "./cuda-problem.js";
import { type CudaProvider, findProviders } from "./cuda-providers.js";
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
  if (platform !== "linux-x64") return { ...nothing, unsupported: true, problem: unsupported(platform) };
  const nodeLibrary = places.nodeLibrary ?? libraryPath();
  const { found, passedOver } = findProviders({ ortLibrary, nodeLibrary, workingDirectory, env });
  const searches = found.map((provider) => ({ provider, libraries: findLibraries(provider, env, root) }));
  const newest = places.newestMajor ?? Number.POSITIVE_INFINITY;
  const best =
    searches.find(({ provider, libraries }) => provider.cudaMajor <= newest && missing(libraries).length === 0) ??
    searches.find(({ provider }) => provider.cudaMajor <= newest) ??
    searches[0];
  if (best === undefined)
    return { ...nothing, passedOver, ...withoutProvider(passedOver, ortLibrary, places.newestMajor) };
  return { ...nothing, ...best, passedOver, ...withoutLibraries(best.provider, best.libraries, places.newestMajor) };
}

/**
 * What a search has found, ready to be loaded; makes a folder of links in the cache where ONNX Runtime needs one to find the
 * provider.
 * @throws SetupError with what is missing and what brings it; CacheError where the cache folder cannot be written.
 */
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
