import { TargetFailure } from "./failure.js";

/** The JSON in an answer's body. @throws TargetFailure (nonsense) where it is none. */
export function parseJson(address: string, text: string, status: number): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const message = `${address} answers what is no JSON: ${text.slice(0, 80)}`;
    throw new TargetFailure("nonsense", message, status, { cause: error });
  }
}
