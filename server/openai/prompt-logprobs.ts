import type { Engine, TokenLogprobs } from "../../runtime/contract/generation.js";
import { toWireLogprob } from "./logprob.js";

interface RankedLogprob {
  readonly logprob: number;
  /** Place among all tokens, 1 the likeliest. */
  readonly rank: number;
  readonly decoded_token: string;
}

/** `prompt_logprobs` of vLLM at one token of a prompt: by token id the token itself and the likeliest. null for the first. */
export type PromptLogprob = Readonly<Record<string, RankedLogprob>> | null;

/** `top`: likeliest tokens told. */
export function toPromptLogprobs(
  ids: Int32Array,
  entries: readonly (TokenLogprobs | null)[],
  top: number,
  tokenTexts: Engine["tokenTexts"],
): PromptLogprob[] {
  return entries.map((entry, i) => {
    if (entry === null) return null;
    const likeliest = entry.top.slice(0, top).map((each, place) => ({ ...each, rank: place + 1 }));
    const own = { tokenId: ids[i] ?? 0, logprob: entry.logprob, rank: entry.rank ?? 0 };
    const told = likeliest.some(({ tokenId }) => tokenId === own.tokenId) ? likeliest : [own, ...likeliest];
    const texts = tokenTexts(told.map(({ tokenId }) => tokenId));
    return Object.fromEntries(
      told.map(({ tokenId, logprob, rank }, place) => [
        tokenId,
        { logprob: toWireLogprob(logprob), rank, decoded_token: texts[place] ?? "" },
      ]),
    );
  });
}
