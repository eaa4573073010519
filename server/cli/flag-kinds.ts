import * as z from "zod";
import { flag } from "./flags.js";

/** A flag with a value. */
export const value = <S extends z.ZodType>(schema: S, name: string, help: string) =>
  flag(schema, { kind: "value", value: name, help });

/** A flag that may be given several times. */
export const list = (name: string, help: string) =>
  flag(z.array(z.string().min(1)).default([]), { kind: "list", value: name, help: `${help} (repeatable)` });

/** A flag without a value. */
export const toggle = (help: string) => flag(z.stringbool().default(false), { kind: "switch", help });

/** The text of a number. */
export const number = z
  .string()
  .regex(/^-?\d+(\.\d+)?$/, "expected a number")
  .transform(Number);

/** The text of a whole number. */
export const integer = (min: number, max = Number.MAX_SAFE_INTEGER) => number.pipe(z.int().min(min).max(max));
