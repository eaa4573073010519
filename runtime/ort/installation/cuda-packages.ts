import { dirname, resolve } from "node:path";
import { libraryPath, VERSION } from "../library.js";

/** The npm package that carries the provider of our version for CUDA 13. */
export const NPM_PACKAGE = { name: "com.github.asus4.onnxruntime.linux-x64-gpu", version: "0.4.9" };

/** How a CUDA library is called, and who brings it. */
interface Package {
  /** Of its soname, before `.so.<major>`. */
  readonly stem: string;
  /** With the version for CUDA 13, as onnxruntime-gpu asks for it; for CUDA 12 the name has a suffix. */
  readonly pip: string;
  readonly pip12: string;
}

/** In an order in which each can be loaded: one needs only those before it. */
const PACKAGES: readonly Package[] = [
  { stem: "libcudart", pip: "nvidia-cuda-runtime~=13.0", pip12: "nvidia-cuda-runtime-cu12" },
  { stem: "libnvrtc", pip: "nvidia-cuda-nvrtc~=13.0", pip12: "nvidia-cuda-nvrtc-cu12" },
  { stem: "libcublasLt", pip: "nvidia-cublas~=13.0", pip12: "nvidia-cublas-cu12" },
  { stem: "libcublas", pip: "nvidia-cublas~=13.0", pip12: "nvidia-cublas-cu12" },
  { stem: "libcurand", pip: "nvidia-curand~=10.0", pip12: "nvidia-curand-cu12" },
  { stem: "libcufft", pip: "nvidia-cufft~=12.0", pip12: "nvidia-cufft-cu12" },
  { stem: "libcudnn", pip: "nvidia-cudnn-cu13~=9.0", pip12: "nvidia-cudnn-cu12~=9.0" },
];

const stemOf = (soname: string): string => soname.replace(/\.so.*$/, "");

/** Where a library stands in the order of loading; libraries that are not NVIDIA's come last. */
export function loadingOrder(soname: string): number {
  const place = PACKAGES.findIndex(({ stem }) => stem === stemOf(soname));
  return place < 0 ? PACKAGES.length : place;
}

/** A command that brings something that is missing. */
export interface InstallCommand {
  readonly command: string;
  /** What it brings, in words. */
  readonly brings: string;
}

/** Installs libraries into the Python environment that is active; null where nobody knows one of them. */
export function installLibraries(sonames: readonly string[], cudaMajor: number): InstallCommand | null {
  const packages = sonames.map((soname) => {
    const known = PACKAGES.find(({ stem }) => stem === stemOf(soname));
    return cudaMajor === 13 ? known?.pip : cudaMajor === 12 ? known?.pip12 : undefined;
  });
  if (packages.length === 0 || packages.includes(undefined)) return null;
  return { command: `pip install ${[...new Set(packages)].join(" ")}`, brings: `libraries of CUDA ${cudaMajor}` };
}

/** NVIDIA's own packages for a distribution. */
export const systemPackages = (cudaMajor: number): string =>
  `cuda-libraries-${cudaMajor}-* and libcudnn9-cuda-${cudaMajor}`;

/**
 * Commands that bring a provider of our version for one of these versions of CUDA.
 * @throws SetupError without onnxruntime-node, whose script one of them is.
 */
export function installProvider(fits: (cudaMajor: number) => boolean): InstallCommand[] {
  const script = resolve(dirname(libraryPath()), "..", "..", "..", "..", "script", "install.js");
  const providers = [
    {
      command: `npm install --no-save ${NPM_PACKAGE.name}@${NPM_PACKAGE.version}`,
      cudaMajor: 13,
      brings: "the provider for CUDA 13",
    },
    {
      command: `pip install "onnxruntime-gpu[cuda,cudnn]==${VERSION}" nvidia-cublas~=13.0`,
      cudaMajor: 13,
      brings: "the provider for CUDA 13 and all libraries, into the Python environment that is active",
    },
    {
      command: `node ${script} --onnxruntime-node-install`,
      cudaMajor: 12,
      brings: "the provider for CUDA 12, from NuGet by onnxruntime-node's own script",
    },
  ];
  return providers.filter(({ cudaMajor }) => fits(cudaMajor)).map(({ command, brings }) => ({ command, brings }));
}
