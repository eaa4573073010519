import type * as z from "zod";
import { InvalidRequest } from "../../../runtime/contract/errors.js";

/**
 * A body as its schema has it.
 * @throws InvalidRequest naming the first field that is wrong, as a path: "lm_infinite.window", "prompt[1]".
 */
export function parseBody<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = [...(issue?.path ?? []), ...(issue?.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [])];
  const param = path.length === 0 ? null : fieldPath(path);
  const wrong = issue?.message.replace(/^Invalid input: /, "").replace(/received undefined$/, "received nothing");
  const reason = issue?.code === "unrecognized_keys" ? "unknown field" : wrong;
  throw new InvalidRequest(param === null ? `The body is wrong: ${reason}` : `${reason}`, param);
}

function fieldPath(path: readonly PropertyKey[]): string {
  return path
    .map((key, depth) => (typeof key === "number" ? `[${key}]` : `${depth > 0 ? "." : ""}${String(key)}`))
    .join("");
}
