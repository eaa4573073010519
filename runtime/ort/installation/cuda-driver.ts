import type { LibraryHandle } from "koffi";
import { keepLoaded, openLibrary } from "../c-library.js";

/** A GPU that the driver offers to this process (CUDA_VISIBLE_DEVICES hides some). */
export interface Gpu {
  readonly name: string;
  /** Its memory. */
  readonly bytes: number;
  /** For example "9.0". */
  readonly computeCapability: string;
}

/** What NVIDIA's driver says. */
export type CudaDriver =
  | { readonly status: "absent" }
  /** It is there, but gives no GPU; `reason` is the end of a sentence, with the remedy. */
  | { readonly status: "failed"; readonly reason: string }
  /** `cuda`: the newest CUDA that it runs, for example "13.0". */
  | { readonly status: "ready"; readonly cuda: string; readonly gpus: readonly Gpu[] };

/** The driver's library, by the name under which every loader finds it. */
const DRIVER = "libcuda.so.1";

const NO_DEVICE = 100;
/** Error numbers of cuda.h that have a remedy of their own. */
const REMEDIES: Readonly<Record<number, string>> = {
  34: `${DRIVER} is the toolkit's stub: take the folder "stubs" out of LD_LIBRARY_PATH`,
  [NO_DEVICE]: "NVIDIA's driver sees no GPU: in a container, start it with --gpus all; see CUDA_VISIBLE_DEVICES",
  803: "NVIDIA's driver and its library are of different versions: restart the machine",
  999: "NVIDIA's driver does not answer: restart the machine",
};

const COMPUTE_CAPABILITY = { major: 75, minor: 76 };
const NAME_BYTES = 256;

/** A call that returns a CUresult: 0, or the number of an error. */
type Call = (...args: unknown[]) => number;

/** A failed call of the driver's. */
class DriverError extends Error {
  constructor(readonly code: number) {
    super(`error ${code}`);
  }
}

/** Asks NVIDIA's driver for its version and GPUs. A machine without one is an answer, not an exception. */
export function askDriver(): CudaDriver {
  if (process.platform !== "linux") return { status: "absent" };
  let library: LibraryHandle;
  try {
    library = openLibrary(DRIVER);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (reason.includes("No such file")) return { status: "absent" };
    return { status: "failed", reason: `NVIDIA's driver cannot be loaded: ${reason}. Install it again.` };
  }
  try {
    const call = (name: string, ...args: string[]): Call => library.func(name, "int", args);
    check(call("cuInit", "uint")(0));
    keepLoaded(DRIVER); // it has threads of its own by now
    return describe({
      cuDriverGetVersion: call("cuDriverGetVersion", "void *"),
      cuDeviceGetCount: call("cuDeviceGetCount", "void *"),
      cuDeviceGet: call("cuDeviceGet", "void *", "int"),
      cuDeviceGetName: call("cuDeviceGetName", "void *", "int", "int"),
      cuDeviceTotalMem: call("cuDeviceTotalMem_v2", "void *", "int"),
      cuDeviceGetAttribute: call("cuDeviceGetAttribute", "void *", "int", "int"),
    });
  } catch (error) {
    return { status: "failed", reason: `${reasonOf(error)}.` };
  }
}

type Functions = Readonly<
  Record<
    | "cuDriverGetVersion"
    | "cuDeviceGetCount"
    | "cuDeviceGet"
    | "cuDeviceGetName"
    | "cuDeviceTotalMem"
    | "cuDeviceGetAttribute",
    Call
  >
>;

function describe(driver: Functions): CudaDriver {
  const version = intOf((out) => driver.cuDriverGetVersion(out)); // 13000 is 13.0
  const count = intOf((out) => driver.cuDeviceGetCount(out));
  if (count === 0) throw new DriverError(NO_DEVICE);
  const gpus = Array.from({ length: count }, (_, ordinal) => {
    const device = intOf((out) => driver.cuDeviceGet(out, ordinal));
    const name = Buffer.alloc(NAME_BYTES);
    check(driver.cuDeviceGetName(name, NAME_BYTES, device));
    const bytes = new BigUint64Array(1);
    check(driver.cuDeviceTotalMem(bytes, device));
    const { major, minor } = COMPUTE_CAPABILITY;
    const [first, second] = [major, minor].map((of) => intOf((out) => driver.cuDeviceGetAttribute(out, of, device)));
    return {
      name: name.toString("utf8", 0, Math.max(0, name.indexOf(0))),
      bytes: Number(bytes[0]),
      computeCapability: `${first}.${second}`,
    };
  });
  return { status: "ready", cuda: `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`, gpus };
}

function intOf(call: (out: Int32Array) => number): number {
  const out = new Int32Array(1);
  check(call(out));
  return out[0] ?? 0;
}

function check(code: number): void {
  if (code !== 0) throw new DriverError(code);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof DriverError))
    return `${DRIVER} is not NVIDIA's driver: ${error instanceof Error ? error.message : error}`;
  return REMEDIES[error.code] ?? `NVIDIA's driver reports error ${error.code}: see nvidia-smi, or restart the machine`;
}
