import type { Engine, TokenLogprobs } from "../../runtime/contract/generation.js";
import { textLength } from "./echoed-text.js";
import { toWireLogprob } from "./logprob.js";
import type { LogprobsForm, LogprobsWriter } from "./logprobs-form.js";

/** `logprobs` of a choice in the completions API. */
export interface LegacyLogprobs {
  readonly tokens: string[];
  /** null for the first token of a prompt. */
  readonly token_logprobs: (number | null)[];
  /** By token text, the token itself included; null for the first token of a prompt. */
  readonly top_logprobs: (Record<string, number> | null)[];
  /** Where each token begins in the choice's text, in Unicode characters (as Python counts). */
  readonly text_offset: number[];
}

/** Of the completions API. */
export const legacyLogprobs: LogprobsForm<LegacyLogprobs> = { none: noLogprobs, listsEnds: true, writer, append };

/**
 * Writes a choice's logprobs piece by piece. Offsets add up the texts of the tokens, not the text sent so far, so they
 * are the same however stop strings or half characters hold text back, streamed or not.
 */
function writer(tokenTexts: Engine["tokenTexts"]): LogprobsWriter<LegacyLogprobs> {
  let offset = 0;
  return (ids, logprobs, inText = () => true) => {
    const piece = noLogprobs();
    const texts = tokenTexts(ids);
    for (const [i, text] of texts.entries()) {
      const entry = logprobs[i] ?? null;
      piece.tokens.push(text);
      piece.token_logprobs.push(entry && toWireLogprob(entry.logprob));
      piece.top_logprobs.push(entry && topByText(entry, text, tokenTexts));
      piece.text_offset.push(offset);
      if (inText(i)) offset += textLength(text);
    }
    return piece;
  };
}

function noLogprobs(): LegacyLogprobs {
  return { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
}

function append(to: LegacyLogprobs, piece: LegacyLogprobs): void {
  for (const token of piece.tokens) to.tokens.push(token);
  for (const logprob of piece.token_logprobs) to.token_logprobs.push(logprob);
  for (const top of piece.top_logprobs) to.top_logprobs.push(top);
  for (const offset of piece.text_offset) to.text_offset.push(offset);
}

function topByText(entry: TokenLogprobs, own: string, tokenTexts: Engine["tokenTexts"]): Record<string, number> {
  const texts = tokenTexts(entry.top.map(({ tokenId }) => tokenId));
  const byText = new Map<string, number>();
  // Two ids may have one text: the likelier stands, but the token itself always with its own value.
  for (const [i, { logprob }] of entry.top.entries()) {
    const text = texts[i] ?? "";
    if (!byText.has(text)) byText.set(text, toWireLogprob(logprob));
  }
  byText.set(own, toWireLogprob(entry.logprob));
  return Object.fromEntries(byText);
}
