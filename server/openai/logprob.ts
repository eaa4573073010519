/** A log-probability as every wire format has it. JSON has no -Infinity; vLLM writes -9999 too. */
export function toWireLogprob(logprob: number): number {
  return Math.max(logprob, -9999);
}
