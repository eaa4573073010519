import { VERSION } from "../library.js";
import type { CudaLibrary } from "./cuda-libraries.js";
import { type InstallCommand, installLibraries, installProvider, systemPackages } from "./cuda-packages.js";
import type { CudaProvider } from "./cuda-providers.js";

/** A sentence with the remedy, null where nothing is missing; and commands each of which brings something. */
interface Problem {
  readonly problem: string | null;
  readonly commands: readonly InstallCommand[];
}

/** The newest CUDA for which there is a provider. */
const NEWEST = 13;

/** Libraries without which CUDA cannot be used. */
export const missing = (libraries: readonly CudaLibrary[]): readonly CudaLibrary[] =>
  libraries.filter(({ path, optional }) => path === null && !optional);

/** What to say on a platform for which lambdatap knows no CUDA. */
export function unsupported(platform: string): string {
  return `CUDA cannot be used: ${reasonOn(platform)} Leave --device out, or say --device cpu.`;
}

function reasonOn(platform: string): string {
  if (platform.startsWith("darwin")) return "there is no CUDA for macOS.";
  if (platform.startsWith("win32")) return "lambdatap does not support it on Windows yet; in WSL 2 it does.";
  return `lambdatap supports it on Linux x64 only, and this is ${platform}.`;
}

/** What to say where there is no provider. */
export function withoutProvider(
  passedOver: readonly string[],
  ortLibrary: string | undefined,
  newestMajor = NEWEST,
): Problem {
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

/** What to say of libraries that a provider needs and that are not here. */
export function withoutLibraries(
  { source, cudaMajor }: CudaProvider,
  libraries: readonly CudaLibrary[],
  newestMajor = NEWEST,
): Problem {
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
