import type { Pointer } from "./api.js";
import { check, library, made } from "./library.js";

/** Threads that work on one operator together, the calling one included; `spin`: whether idle ones wait busily. */
export interface Threads {
  readonly threads: number;
  readonly spin: boolean;
}

/** What sessions live in, and the threads that they share. */
export interface Environment extends Threads {
  readonly pointer: Pointer;
}

let environment: Environment | undefined;

/**
 * The environment of this process, made for the first session that is loaded, with the threads which that asks for. Threads
 * of several sessions would spin against each other: on 2 cores a model's step and three SAEs take 10 % longer than with
 * threads in common. ONNX Runtime has one environment in a process; another JavaScript thread that asks later gets the first.
 */
export function theEnvironment({ threads, spin }: Threads): Environment {
  environment ??= { pointer: create({ threads, spin }), threads, spin };
  return environment;
}

function create({ threads, spin }: Threads): Pointer {
  const { api } = library();
  const options = made((a, out) => a.CreateThreadingOptions(out));
  try {
    check(api.SetGlobalIntraOpNumThreads(options, threads));
    check(api.SetGlobalInterOpNumThreads(options, 1));
    check(api.SetGlobalSpinControl(options, spin ? 1 : 0));
    const pointer = made((a, out) => a.CreateEnvWithGlobalThreadPools(4, "lambdatap", options, out));
    // Windows' tracing. Elsewhere telemetry was never started: see `disableTelemetry` of the library.
    if (process.platform === "win32") check(api.DisableTelemetryEvents(pointer));
    return pointer;
  } finally {
    api.ReleaseThreadingOptions(options);
  }
}
