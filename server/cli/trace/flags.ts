import * as z from "zod";

/** Readings that a token can be coloured by, beside a feature: the scalars of a reading. */
export const SCALARS = ["l0", "z", "f", "eps_lbo", "mse"] as const;
export type Scalar = (typeof SCALARS)[number];

const isScalar = (text: string): text is Scalar => SCALARS.some((scalar) => scalar === text);

/** `l0`, `412`, `blocks.3.hook_resid_post:412`: a scalar or a feature, of the first SAE that is read or a named one. */
export const ColorBy = z.string().transform((text, ctx) => {
  const colon = text.lastIndexOf(":");
  const sae = colon > 0 ? text.slice(0, colon) : null;
  const of = text.slice(colon + 1);
  if (isScalar(of)) return { sae, of };
  if (/^\d{1,9}$/.test(of)) return { sae, of: Number(of) };
  ctx.issues.push({
    code: "custom",
    message: `expected ${SCALARS.join(", ")} or the number of a feature`,
    input: text,
  });
  return z.NEVER;
});
export type ColorBy = z.output<typeof ColorBy>;

/** `0:12` */
export const ColorRange = z.string().transform((text, ctx) => {
  const [low, high, ...rest] = text.split(":").map((end) => (end.trim() === "" ? Number.NaN : Number(end)));
  if (low !== undefined && high !== undefined && rest.length === 0 && low < high) return { low, high };
  ctx.issues.push({ code: "custom", message: "expected low:high", input: text });
  return z.NEVER;
});
export type ColorRange = z.output<typeof ColorRange>;

/** `native`, `top-afa` or `top-k:32`, as `features.activation` of a request. */
export const Activation = z
  .string()
  .regex(/^(native|top-afa|top-k:[1-9]\d{0,8})$/, "expected native, top-afa or top-k:<k>")
  .transform((text) => (text.startsWith("top-k:") ? { top_k: Number(text.slice("top-k:".length)) } : text));

const EDIT =
  /^(?<sae>.+):(?<feature>\d{1,9}):(?:(?<op>add|scale|clamp):(?<value>[-+\d.eE]+)|ablate)(?::(?<from>kept|pre))?$/;

/** `<sae>:<feature>:clamp:5`, `<sae>:<feature>:ablate:pre`, as one of `edits` of a request. */
export const Edit = z.string().transform((text, ctx) => {
  const found = EDIT.exec(text)?.groups;
  const value = found?.value === undefined ? undefined : Number(found.value);
  if (found !== undefined && !Number.isNaN(value) && !(found.op === "add" && found.from)) {
    return { sae: found.sae, feature: Number(found.feature), op: found.op ?? "ablate", value, from: found.from };
  }
  const message =
    "expected <sae>:<feature>:add:<value>, or scale:<value>, clamp:<value> or ablate, with or without :kept or :pre";
  ctx.issues.push({ code: "custom", message, input: text });
  return z.NEVER;
});
