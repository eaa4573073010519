import { complete } from "../target/completion.js";
import { TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";
import type { Filler } from "./filler.js";
import { passkeyText } from "./prompt.js";

/**
 * Token ids of a text as a lambdatap server itself reads it, a beginning-of-text token included. Nothing is computed.
 * @throws TargetFailure
 */
export async function tokenIds(target: Target, text: string, signal?: AbortSignal): Promise<readonly number[]> {
  const { prompt_token_ids: ids } = await complete(
    target,
    { prompt: text, max_tokens: 0, return_token_ids: true },
    signal,
  );
  if (ids) return ids;
  throw new TargetFailure("nonsense", `${target.url} leaves out the prompt_token_ids that it was asked for`, 200);
}

/** Tokens of a text; another server than lambdatap has to read it, and write one token, to say so. @throws TargetFailure */
async function countTokens(target: Target, text: string, signal?: AbortSignal): Promise<number> {
  if (target.lambdatap !== null) return (await tokenIds(target, text, signal)).length;
  const { usage } = await complete(target, { prompt: text, max_tokens: 1, temperature: 0 }, signal);
  return usage.prompt_tokens;
}

/** How many tokens the parts of a prompt take on a target. */
export interface PromptTokens {
  /** A prompt without fillers, around the longest key. */
  readonly bare: number;
  /** A filler, on average; not whole where a tokenizer joins fillers. */
  readonly filler: number;
  readonly question: number;
  /** Room for the longest key, and 2 more. */
  readonly answer: number;
}

const SPARE = 2;
/** Fillers that are counted together: of equal ones one, and several, for a tokenizer may join them; of others many. */
const COUNTED = { equal: [1, 9], different: [64] };

/** Counts them. @throws TargetFailure, also where the counts cannot be. */
export async function countPromptTokens(
  target: Target,
  longestKey: number,
  question: string,
  filler: Filler,
  signal?: AbortSignal,
): Promise<PromptTokens> {
  const count = (text: string) => countTokens(target, text, signal);
  const withFillers = (after: number) => passkeyText({ key: longestKey, filler, before: 0, after, question });
  const bare = await count(withFillers(0));
  const each: number[] = [];
  for (const fillers of filler.pieces.length === 1 ? COUNTED.equal : COUNTED.different)
    each.push(((await count(withFillers(fillers))) - bare) / fillers);
  const unasked = await count(passkeyText({ key: longestKey, filler, before: 0, after: 0, question: "" }));
  const asking = question === "" ? "The pass key is" : question;
  const key = (await count(`${asking} ${longestKey}`)) - (await count(asking));
  if (each.some((tokens) => tokens < 1) || bare < unasked || key < 1) {
    const counts = `${bare} without fillers, ${each.join(" or ")} for a filler, ${key} for the key`;
    throw new TargetFailure("nonsense", `${target.url} counts tokens that cannot be: ${counts}`, 200);
  }
  return { bare, filler: Math.max(...each), question: bare - unasked, answer: key + SPARE };
}

/**
 * Most fillers that a prompt of at most `length` tokens has room for.
 * @throws RangeError where not even the key and the question fit.
 */
export function fillersWithin(length: number, { bare, filler }: PromptTokens): number {
  if (length < bare)
    throw new RangeError(`a prompt without fillers has ${bare} tokens, more than ${length}; say longer --lengths`);
  return Math.floor((length - bare) / filler);
}
