import { toUsage } from "../../openai/usage.js";
import { jsonLine } from "./printable.js";
import type { Trace, TraceView } from "./view.js";

/** NDJSON: the frames of /v1/traces with [feature, activation] pairs; a trace that broke off has no `end`. */
export function jsonView({ card, sequence }: Trace): TraceView {
  const promptTokens = sequence.prompt.length;
  return {
    start: () =>
      jsonLine({ type: "start", model: card.id, prompt_tokens: promptTokens, saes: sequence.features?.saes }),
    token({ seq, pos, tokenId, name, text, logprob, saes }) {
      if (seq === null) return jsonLine({ type: "prompt", pos, token_id: tokenId, text: name, saes });
      return jsonLine({ type: "token", seq, pos, token_id: tokenId, text, logprob, saes });
    },
    end(ending) {
      if (ending === null) return "";
      const { finishReason, stopReason, text, completionTokens } = ending;
      const usage = toUsage({ promptTokens, completionTokens, cachedTokens: 0 });
      return jsonLine({ type: "end", finish_reason: finishReason, stop_reason: stopReason, text, usage });
    },
  };
}
