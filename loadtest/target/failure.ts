/** How a server can fail a client, as reports count it. */
export type FailureKind =
  /** There is no connection: nobody listens, the name is unknown, it was closed before an answer began. */
  | "unreachable"
  /** Somebody answers who does not speak OpenAI's protocol. */
  | "foreign"
  /** An HTTP status of 400 or more, or an error on the stream. */
  | "refused"
  /** An answer of the protocol's form that cannot be: not JSON, fields missing, more tokens than asked for. */
  | "nonsense"
  /** The answer began and did not end. */
  | "broken off"
  /** Nothing came for too long. */
  | "timed out";

/** A request that a server did not answer as it should. */
export class TargetFailure extends Error {
  override readonly name = "TargetFailure";
  constructor(
    readonly kind: FailureKind,
    message: string,
    /** HTTP status, where there was one. */
    readonly status: number | null = null,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Failures by kind, and the first message of each. */
export interface FailureCounts {
  readonly total: number;
  readonly kinds: readonly { readonly kind: FailureKind; readonly count: number; readonly example: string }[];
}

export function countFailures(failures: readonly TargetFailure[]): FailureCounts {
  const kinds = new Map<FailureKind, { count: number; readonly example: string }>();
  for (const { kind, message } of failures) {
    const known = kinds.get(kind) ?? { count: 0, example: message };
    known.count += 1;
    kinds.set(kind, known);
  }
  return { total: failures.length, kinds: [...kinds].map(([kind, counted]) => ({ kind, ...counted })) };
}
