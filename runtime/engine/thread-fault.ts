import { CacheError } from "../../models/cache/cache-error.js";
import { ModelFormatError } from "../../models/errors.js";
import { OutOfMemory, SetupError } from "../contract/errors.js";

/** An error on its way to another thread, which would otherwise lose its class. */
export type Fault =
  | { readonly name: "ModelFormatError"; readonly file: string; readonly reason: string }
  | {
      readonly name: "CacheError" | "SetupError" | "OutOfMemory" | "Error";
      readonly message: string;
      readonly stack: string | undefined;
    };

const CLASSES = { CacheError, SetupError, OutOfMemory, Error };

export function toFault(error: unknown): Fault {
  if (error instanceof ModelFormatError) return { name: "ModelFormatError", file: error.file, reason: error.reason };
  if (!(error instanceof Error)) return { name: "Error", message: String(error), stack: undefined };
  const name = (["CacheError", "SetupError", "OutOfMemory"] as const).find((each) => error instanceof CLASSES[each]);
  return { name: name ?? "Error", message: error.message, stack: error.stack };
}

export function fromFault(fault: Fault): Error {
  if (fault.name === "ModelFormatError") return new ModelFormatError(fault.file, fault.reason);
  const error = new CLASSES[fault.name](fault.message);
  if (fault.stack !== undefined) error.stack = fault.stack;
  return error;
}
