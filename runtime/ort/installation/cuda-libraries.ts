import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { namesIn } from "../../../models/cache/cache-owner.js";
import { loadingOrder } from "./cuda-packages.js";
import type { CudaProvider } from "./cuda-providers.js";
import { ElfError, readElfLibrary } from "./elf-library.js";
import { sitePackages } from "./python-folders.js";

type Environment = Readonly<Record<string, string | undefined>>;

/** One library that CUDA needs. */
export interface CudaLibrary {
  /** As the provider asks for it. */
  readonly name: string;
  /** Where it is; null where it is not. */
  readonly path: string | null;
  /** Whether CUDA works without it; then some kernels are not there. */
  readonly optional: boolean;
  /** Where it is not: the same library of another major version, and other files that stand in its place. */
  readonly instead: readonly string[];
}

/** Parts of every Linux, and the driver. */
const OF_THE_SYSTEM = /^(ld-linux.*|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|z|cuda))\.so\.\d+$/;
/** Opened by the provider when it first uses it. */
const CUDNN = "libcudnn.so.9";

/**
 * The libraries that a provider needs, in an order in which they can be loaded. They are looked for in LD_LIBRARY_PATH, in
 * CUDA_PATH and CUDA_HOME, where the system has them, and where pip and conda install them.
 * @param root of the file system, "/"
 */
export function findLibraries(provider: CudaProvider, env: Environment, root: string): CudaLibrary[] {
  const { cudaMajor } = provider;
  const folders = libraryFolders(cudaMajor, env, root);
  const linked = provider.needed.filter((name) => !OF_THE_SYSTEM.test(name));
  const required = linked.includes(CUDNN) ? linked : [...linked, CUDNN];
  const compiler = `libnvrtc.so.${cudaMajor}`;
  const optional = required.includes(compiler) ? [] : [compiler];
  return [...required, ...optional]
    .sort((a, b) => loadingOrder(a) - loadingOrder(b))
    .map((name) => find(name, folders, cudaMajor, optional.includes(name)));
}

function find(name: string, folders: readonly string[], cudaMajor: number, optional: boolean): CudaLibrary {
  const instead: string[] = [];
  for (const folder of folders) {
    const path = join(folder, name);
    if (!existsSync(path)) continue;
    const reason = unfit(path, folder, cudaMajor);
    if (reason === null) return { name, path, optional, instead: [] };
    instead.push(reason);
  }
  const stem = name.replace(/\d+$/, "");
  const others = folders.flatMap((folder) =>
    namesIn(folder)
      .filter((each) => each.startsWith(stem) && /^\d+$/.test(each.slice(stem.length)) && each !== name)
      .map((each) => join(folder, each)),
  );
  return { name, path: null, optional, instead: [...instead, ...others] };
}

function unfit(path: string, folder: string, cudaMajor: number): string | null {
  try {
    readElfLibrary(path);
  } catch (error) {
    if (error instanceof ElfError) return error.message;
    throw error;
  }
  // cuDNN has one name for every CUDA; pip's packages for two of them share a folder.
  const site = /^(.*)[\\/]nvidia[\\/]cudnn[\\/]lib$/.exec(folder)?.[1];
  const majors = namesIn(site ?? "").flatMap((name) => /^nvidia_cudnn_cu(\d+)-.*\.dist-info$/.exec(name)?.[1] ?? []);
  if (majors.length === 0 || majors.includes(String(cudaMajor))) return null;
  return `${path} is built for CUDA ${majors.join(" and ")}`;
}

/** What the user has chosen comes first; then what is installed together, so that parts of two installations do not mix. */
function libraryFolders(cudaMajor: number, env: Environment, root: string): string[] {
  const given = (env.LD_LIBRARY_PATH ?? "").split(delimiter);
  const chosen = [env.CUDA_PATH, env.CUDA_HOME].flatMap(toolkitFolders);
  const pip = sitePackages(env).flatMap((site) => {
    const packages = namesIn(join(site, "nvidia")).filter((name) => name !== `cu${cudaMajor}`);
    return [`cu${cudaMajor}`, ...packages].map((name) => join(site, "nvidia", name, "lib"));
  });
  const conda = toolkitFolders(env.CONDA_PREFIX);
  const toolkits = installedToolkits(cudaMajor, root).flatMap(toolkitFolders);
  const system = ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib", "lib64"].map((folder) => join(root, folder));
  return [...new Set([...given, ...chosen, ...pip, ...conda, ...toolkits, ...system, ...configured(root)])].filter(
    (folder) => folder !== "" && existsSync(folder),
  );
}

const toolkitFolders = (toolkit: string | undefined): string[] =>
  toolkit ? ["lib64", "lib", join("targets", "x86_64-linux", "lib")].map((folder) => join(toolkit, folder)) : [];

/** /usr/local/cuda is a link to the one in use; those of the right version come first. */
function installedToolkits(cudaMajor: number, root: string): string[] {
  const local = join(root, "usr", "local");
  const names = namesIn(local).filter((name) => /^cuda(-[\d.]+)?$/.test(name));
  const right = names
    .filter((name) => name.startsWith(`cuda-${cudaMajor}`))
    .sort()
    .reverse();
  const others = names.filter((name) => !right.includes(name)).sort();
  return [
    ...right.map((name) => join(local, name)),
    ...others.map((name) => join(local, name)),
    join(root, "opt", "cuda"),
  ];
}

/** Folders that the system's loader is told of (ld.so.conf). */
function configured(root: string): string[] {
  const folder = join(root, "etc", "ld.so.conf.d");
  return namesIn(folder).flatMap((name) =>
    linesOf(join(folder, name))
      .filter((line) => line.startsWith("/"))
      .map((line) => join(root, line)),
  );
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, "utf8")
      .split("\n")
      .map((line) => line.trim());
  } catch {
    return [];
  }
}
