import type { TokenLogprobs } from "../../runtime/contract/generation.js";
import { toWireLogprob } from "./logprob.js";
import type { LogprobsForm } from "./logprobs-form.js";

/** A token and its log-probability in the chat API. */
export interface ChatToken {
  readonly token: string;
  readonly logprob: number;
  /** UTF-8; of a token that is part of a character, its part. */
  readonly bytes: readonly number[];
}

/** `logprobs` of a choice in the chat API. */
export interface ChatLogprobs {
  readonly content: (ChatToken & { readonly top_logprobs: readonly ChatToken[] })[];
  readonly refusal: null;
}

/** Of the chat API. The most likely tokens are listed by themselves, whether the chosen one is among them or not. */
export const chatLogprobs: LogprobsForm<ChatLogprobs> = {
  none: () => ({ content: [], refusal: null }),
  listsEnds: false,
  append: (to, { content }) => void to.content.push(...content),
  writer: (tokenTexts) => (ids, logprobs) => {
    const texts = tokenTexts(ids);
    const top = (entry: TokenLogprobs | null) => {
      const rivals = entry?.top ?? [];
      const names = tokenTexts(rivals.map(({ tokenId }) => tokenId));
      return rivals.map(({ logprob }, i) => toChatToken(names[i] ?? "", logprob));
    };
    const content = texts.map((text, i) => {
      const entry = logprobs[i] ?? null;
      return { ...toChatToken(text, entry?.logprob ?? Number.NEGATIVE_INFINITY), top_logprobs: top(entry) };
    });
    return { content, refusal: null };
  },
};

function toChatToken(token: string, logprob: number): ChatToken {
  return { token, logprob: toWireLogprob(logprob), bytes: bytesOf(token) };
}

/** The engine names a token that is no whole character by its bytes: "bytes:\xe2\x82". */
function bytesOf(text: string): number[] {
  if (!/^bytes:(?:\\x[0-9a-f]{2})+$/.test(text)) return [...new TextEncoder().encode(text)];
  return text
    .split("\\x")
    .slice(1)
    .map((digits) => Number.parseInt(digits, 16));
}
