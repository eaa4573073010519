import * as z from "zod";
import { MOST_SEQUENCES } from "../../../runtime/contract/request-bounds.js";

/** One prompt of a request, and where in the body it stands ("prompt", "input[1]"). */
export type Prompt =
  | { readonly at: string; readonly text: string }
  | { readonly at: string; readonly ids: readonly number[] };

type Path = readonly number[];
type Context = { issues: { push(issue: { code: "custom"; message: string; input: unknown; path: number[] }): void } };

/**
 * A zod transform of the field that holds the prompts: string, string[], int[], int[][] (or strings and int[] mixed),
 * null for none, as OpenAI has `prompt` and `input`.
 * Written by hand because zod would make an object per token id: 100,000 ids take 1 ms here.
 */
export function readPrompts(value: unknown, ctx: Context, field: "prompt" | "input"): readonly Prompt[] {
  const refuse = (message: string, path: Path): never => {
    ctx.issues.push({ code: "custom", message, input: undefined, path: [...path] });
    return z.NEVER;
  };
  const readIds = (ids: readonly unknown[], path: Path, at: string): Prompt => {
    const isIds = (list: readonly unknown[]): list is readonly number[] => firstNonId(list) === -1;
    if (isIds(ids)) return { at, ids };
    const index = firstNonId(ids);
    return refuse(`expected a token id (an integer of at least 0), received ${nameOf(ids[index])}`, [...path, index]);
  };

  if (value === null || value === undefined) return [{ at: field, text: "" }];
  if (typeof value === "string") return [{ at: field, text: value }];
  if (!Array.isArray(value)) return refuse(`expected a string or an array, received ${nameOf(value)}`, []);
  const items: readonly unknown[] = value;
  if (items.length === 0) return refuse("expected at least one prompt", []);
  if (typeof items[0] === "number") return [readIds(items, [], field)];
  if (items.length > MOST_SEQUENCES) return refuse(`expected at most ${MOST_SEQUENCES} prompts`, []);
  return items.map((item, index) => {
    const at = `${field}[${index}]`;
    if (typeof item === "string") return { at, text: item };
    if (!Array.isArray(item))
      return refuse(`expected a string or an array of token ids, received ${nameOf(item)}`, [index]);
    if (item.length === 0) return refuse("expected at least one token id", [index]);
    return readIds(item, [index], at);
  });
}

/** Place of the first that is no token id; -1: all are. */
export function firstNonId(ids: readonly unknown[]): number {
  return ids.findIndex((id) => typeof id !== "number" || !Number.isSafeInteger(id) || id < 0);
}

function nameOf(value: unknown): string {
  if (typeof value === "number") return String(value);
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}
