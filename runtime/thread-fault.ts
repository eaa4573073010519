import { CacheError } from "../models/cache/cache-error.js";
import { ModelFormatError } from "../models/errors.js";
import { SetupError } from "./errors.js";

/** An error on its way to another thread, which would otherwise lose its class. */
export type Fault =
  | { readonly name: "ModelFormatError"; readonly file: string; readonly reason: string }
  | {
      readonly name: "CacheError" | "SetupError" | "Error";
      readonly message: string;
      readonly stack: string | undefined;
    };

export function toFault(error: unknown): Fault {
  if (error instanceof ModelFormatError) return { name: "ModelFormatError", file: error.file, reason: error.reason };
  if (!(error instanceof Error)) return { name: "Error", message: String(error), stack: undefined };
  const name = error instanceof CacheError ? "CacheError" : error instanceof SetupError ? "SetupError" : "Error";
  return { name, message: error.message, stack: error.stack };
}

export function fromFault(fault: Fault): Error {
  if (fault.name === "ModelFormatError") return new ModelFormatError(fault.file, fault.reason);
  const error =
    fault.name === "CacheError"
      ? new CacheError(fault.message)
      : fault.name === "SetupError"
        ? new SetupError(fault.message)
        : new Error(fault.message);
  if (fault.stack !== undefined) error.stack = fault.stack;
  return error;
}
