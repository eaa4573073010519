/** The model computed something that is no number, or ruled out every token. */
export class NotFiniteLogits extends Error {
  override readonly name = "NotFiniteLogits";
}

/** What a request allows and what it forbids leave no token. */
export class NoTokenLeft extends Error {
  override readonly name = "NoTokenLeft";
}

/**
 * The largest logit. -Infinity is an ordinary value (a token that is ruled out).
 * @throws NotFiniteLogits where there is a NaN or +Infinity, or nothing but -Infinity.
 */
export function finiteMaximum(logits: Float32Array): number {
  // Math.max hands NaN on, so one pass finds both; four lanes are twice as fast as one.
  let a = Number.NEGATIVE_INFINITY;
  let b = a;
  let c = a;
  let d = a;
  let i = 0;
  for (; i + 3 < logits.length; i += 4) {
    a = Math.max(a, logits[i]!);
    b = Math.max(b, logits[i + 1]!);
    c = Math.max(c, logits[i + 2]!);
    d = Math.max(d, logits[i + 3]!);
  }
  for (; i < logits.length; i++) a = Math.max(a, logits[i]!);
  const maximum = Math.max(a, b, c, d);
  if (Number.isNaN(maximum)) throw new NotFiniteLogits("the model's logits contain NaN");
  if (maximum === Number.POSITIVE_INFINITY) throw new NotFiniteLogits("the model's logits contain infinity");
  if (maximum === Number.NEGATIVE_INFINITY) throw new NotFiniteLogits("every token is ruled out");
  return maximum;
}
