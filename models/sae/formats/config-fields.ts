import { type ConfigFields, fieldError } from "../../config.js";

/**
 * Refuses a field of an SAE's config that nobody here has heard of, as it may change what the SAE computes. A field that is
 * null, false, 0 or empty asks for nothing.
 * @param known fields that are read, and those that only tell how the SAE was trained
 * @throws ModelFormatError naming the field
 */
export function refuseUnknownFields(fields: ConfigFields, known: ReadonlySet<string>): void {
  for (const [name, value] of Object.entries(fields.values))
    if (!known.has(name) && asks(value))
      throw fieldError(fields, [name], "it is not known here whether this field changes what the SAE computes");
}

const asks = (value: unknown): boolean =>
  typeof value === "object" && value !== null
    ? Object.values(value).some(asks)
    : ![null, undefined, false, 0, "", "none"].some((nothing) => nothing === value);
