/** A classifier: positive where weights . values + intercept > 0. */
export interface LogisticModel {
  readonly weights: Float64Array;
  readonly intercept: number;
}

export interface LogisticProblem {
  /** [samples][features] */
  readonly samples: readonly Float64Array[];
  /** [samples] */
  readonly isPositive: readonly boolean[];
  /** Weight of the loss against |w|^2 / 2. */
  readonly c: number;
}

const MOST_STEPS = 200;
const MOST_HALVINGS = 40;

/**
 * Logistic regression with an L2 penalty: the one minimum of |w|^2 / 2 + C sum log(1 + exp(-s (w . v + b))), s = +-1, where the
 * intercept b is not penalised. Newton's method, each step halved until the gradient gets shorter, until rounding lets it get
 * no shorter.
 * @throws RangeError where the samples are all of one class: then there is no minimum
 */
export function fitLogistic(problem: LogisticProblem): LogisticModel {
  const { samples, isPositive } = problem;
  const positives = isPositive.filter(Boolean).length;
  if (positives === 0 || positives === samples.length) throw new RangeError("the samples are all of one class");
  const width = samples[0]!.length;
  // [width + 1]: the weights, then the intercept.
  const start = new Float64Array(width + 1);
  start[width] = Math.log(positives / (samples.length - positives));
  let best = slopeAt(problem, start);
  for (let step = 0; step < MOST_STEPS; step++) {
    const next = shorter(problem, best);
    if (next === null) break;
    best = next;
  }
  return { weights: best.point.slice(0, width), intercept: best.point[width]! };
}

interface Slope {
  /** [width + 1] */
  readonly point: Float64Array;
  /** [width + 1] */
  readonly gradient: Float64Array;
  /** [width + 1][width + 1] */
  readonly hessian: readonly Float64Array[];
  /** Of the gradient. */
  readonly length: number;
}

/** Where a step of Newton's leads; null where none of its fractions shortens the gradient. */
function shorter(problem: LogisticProblem, { point, gradient, hessian, length }: Slope): Slope | null {
  const step = solve(hessian, gradient);
  for (let halvings = 0; halvings < MOST_HALVINGS; halvings++) {
    const next = slopeAt(
      problem,
      point.map((value, i) => value - step[i]! / 2 ** halvings),
    );
    if (next.length < length) return next;
  }
  return null;
}

function slopeAt({ samples, isPositive, c }: LogisticProblem, point: Float64Array): Slope {
  const width = point.length - 1;
  const gradient = Float64Array.from(point, (value, i) => (i < width ? value : 0));
  const hessian = Array.from(point, (_, i) => new Float64Array(point.length).fill(i < width ? 1 : 0, i, i + 1));
  for (const [n, sample] of samples.entries()) {
    let logit = point[width]!;
    for (let i = 0; i < width; i++) logit += point[i]! * sample[i]!;
    const error = isPositive[n] ? -c / (1 + Math.exp(logit)) : c / (1 + Math.exp(-logit));
    const curvature = c / (1 + Math.exp(logit)) / (1 + Math.exp(-logit));
    for (let i = 0; i <= width; i++) {
      const value = sample[i] ?? 1;
      gradient[i]! += error * value;
      for (let j = 0; j <= width; j++) hessian[i]![j]! += curvature * value * (sample[j] ?? 1);
    }
  }
  return { point, gradient, hessian, length: Math.hypot(...gradient) };
}

/** x of A x = b for a positive definite A, by Cholesky's factors. */
function solve(a: readonly Float64Array[], b: Float64Array): Float64Array {
  const n = b.length;
  const lower = a.map((row) => row.slice());
  const x = b.slice();
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = lower[i]![j]!;
      for (let k = 0; k < j; k++) sum -= lower[i]![k]! * lower[j]![k]!;
      lower[i]![j] = i === j ? Math.sqrt(sum) : sum / lower[j]![j]!;
    }
    for (let k = 0; k < i; k++) x[i]! -= lower[i]![k]! * x[k]!;
    x[i]! /= lower[i]![i]!;
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i]! -= lower[k]![i]! * x[k]!;
    x[i]! /= lower[i]![i]!;
  }
  return x;
}
