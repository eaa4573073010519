import { isDeepStrictEqual, toUSVString } from "node:util";
import { InvalidRequest } from "../../../runtime/contract/errors.js";
import { HARMLESS_FIELDS, REFUSED_FIELDS, type RefusedField } from "./known-fields.js";

/** What is done about fields that nobody knows. */
export interface FieldRules {
  /** They are refused. */
  readonly strict: boolean;
  /** Told their names, as many as make a header of 1 kB, where there are any and they are not refused. */
  readonly ignored?: (names: readonly string[]) => void;
}

type Body = Readonly<Record<string, unknown>>;

/** Longest list of ignored fields, bytes in a header; of a longer name its beginning is told. */
const MOST_BYTES = 1024;
const LONGEST_NAME = 100;

/**
 * Looks at the fields of a body that its schema does not have. Fields that change nothing are taken; those that would
 * change the answer only with values that ask for nothing.
 * @param shape the schema's fields
 * @throws InvalidRequest naming the first field that cannot be obeyed.
 */
export function checkFields(body: unknown, shape: object, { strict, ignored }: FieldRules): void {
  if (typeof body !== "object" || body === null || Array.isArray(body)) return;
  const fields: Body = { ...body };
  const unknown: string[] = [];
  let room = MOST_BYTES;
  for (const [name, value] of Object.entries(fields)) {
    if (Object.hasOwn(shape, name) || HARMLESS_FIELDS.has(name)) continue;
    const refused = REFUSED_FIELDS.get(name);
    if (refused !== undefined) {
      if (!asksNothing(name, value, refused, fields)) throw new InvalidRequest(`${refused.asks}; leave it out`, name);
      continue;
    }
    if (room <= 0) continue;
    const told = toUSVString(name.slice(0, LONGEST_NAME));
    if (strict) throw new InvalidRequest("unknown field", told);
    room -= encodeURIComponent(told).length + 1;
    if (room >= 0) unknown.push(told);
  }
  if (unknown.length > 0) ignored?.(unknown);
  if (strict && fields.stream_options && fields.stream !== true)
    throw new InvalidRequest("expected only with stream: true", "stream_options");
}

/** The names as a header holds them: separated by commas, each with the characters of a URI's component. */
export const ignoredFieldsHeader = (names: readonly string[]): string => names.map(encodeURIComponent).join(",");

function asksNothing(name: string, value: unknown, { nothing, partOf }: RefusedField, body: Body): boolean {
  if (value === null) return true;
  if (name === "best_of" && value === (body.n ?? 1)) return true;
  return nothing.some((each) => isDeepStrictEqual(value, each)) || partOf.some((other) => Object.hasOwn(body, other));
}
