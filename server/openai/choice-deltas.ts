import type { Engine, GenerationEvent, TokenLogprobs } from "../../runtime/contract/generation.js";
import { GenerationFailed } from "../errors.js";
import { cutText, textLength } from "./echoed-text.js";
import { type TokenFeatures, toTokenFeatures } from "./features.js";
import type { LogprobsForm } from "./logprobs-form.js";
import { type PromptLogprob, toPromptLogprobs } from "./prompt-logprobs.js";
import type { GenerationRequest } from "./request/generation-fields.js";
import type { CompletionWork } from "./sequences.js";

/** What one engine event adds to a choice. A whole answer is the sum of its deltas, so streamed and whole agree. */
export interface ChoiceDelta<L> {
  readonly index: number;
  readonly text: string;
  readonly logprobs: L | null;
  /** With prompt_logprobs. */
  readonly promptLogprobs: readonly PromptLogprob[];
  readonly tokenIds: readonly number[];
  /** Of prompt tokens as of generated ones. */
  readonly features: readonly TokenFeatures[];
  readonly finishReason: "stop" | "length" | null;
  readonly stopReason: string | number | null;
}

/** Tokens of a request so far; every prompt counts once, however many choices it has. */
export interface Tally {
  promptTokens: number;
  completionTokens: number;
  /** Prompt tokens of choices that have ended which were not computed for this request. */
  cachedTokens: number;
}

/**
 * Turns engine events into deltas, and counts into `tally`. With `echo` a choice's prompt comes before its first token:
 * with `logprobs` in pieces, as the engine reads it, else as one delta after the readings of the prompt.
 * @throws GenerationFailed at the first sequence that fails; leaving the loop stops the others.
 */
export async function* choiceDeltas<L>(
  events: AsyncIterable<GenerationEvent>,
  request: GenerationRequest,
  work: CompletionWork,
  engine: Engine,
  form: LogprobsForm<L>,
  tally: Tally,
): AsyncGenerator<ChoiceDelta<L>, void> {
  const choices = work.sequences.map((_, index) => startChoice(index, request, work, engine, form));
  let open = choices.length;
  if (request.echo && request.logprobs === null && !request.features?.prompt) {
    for (const choice of choices) yield* choice.prompt();
  }
  for await (const event of events) {
    const choice = choices[event.index];
    if (choice === undefined)
      throw new RangeError(`the engine speaks of sequence ${event.index}, of ${choices.length}`);
    if (event.type === "error") throw new GenerationFailed(event.error);
    if (event.type === "prompt") {
      yield choice.piece(event);
      continue;
    }
    if (event.type === "features") {
      yield choice.readings(event);
      continue;
    }
    if (request.echo) yield* choice.prompt();
    if (event.type === "token") {
      tally.completionTokens += 1;
      yield choice.token(event);
    } else {
      open -= 1;
      // The first choice of a prompt reads it for the others.
      if (event.index % (request.n ?? 1) === 0) tally.cachedTokens += event.cachedTokens;
      yield {
        ...nothing(event.index),
        text: event.text,
        finishReason: event.finishReason,
        stopReason: event.stopReason,
      };
    }
  }
  if (open > 0) throw new Error(`the engine fell silent with ${open} sequences open`);
}

function startChoice<L>(
  index: number,
  request: GenerationRequest,
  work: CompletionWork,
  engine: Engine,
  form: LogprobsForm<L>,
) {
  const { ids, text, frame } = work.promptOf(index);
  const { stopTokenIds = [], ignoreEos = false } = work.sequences[index] ?? {};
  const ends = (id: number) => stopTokenIds.includes(id) || (!ignoreEos && engine.card.eosTokenIds.includes(id));
  const { logprobs: most, prompt_logprobs: asked = null } = request;
  const tokenTexts = (tokens: ArrayLike<number>) => engine.tokenTexts(tokens);
  const write = form.writer(tokenTexts);
  const echoed = request.echo ? cutText(text) : null;
  return {
    /** Prompt tokens with their log-probabilities, and about the text up to their end (it has no control tokens; they have names). */
    piece({ start, logprobs }: Extract<GenerationEvent, { type: "prompt" }>): ChoiceDelta<L> {
      const tokens = ids.slice(start, start + logprobs.length);
      const textEnd = ids.length - frame.after.length;
      const inText = (i: number) => start + i >= frame.before.length && start + i < textEnd;
      const texts = engine.tokenTexts(tokens.filter((_, i) => inText(i)));
      const characters = texts.reduce((sum, token) => sum + textLength(token), 0);
      return {
        ...nothing(index),
        text: echoed?.next(characters) ?? "",
        logprobs: echoed && most !== null ? write(tokens, logprobs.map(upTo(most)), inText) : null,
        promptLogprobs: asked === null ? [] : toPromptLogprobs(tokens, logprobs, asked, tokenTexts),
      };
    },
    readings(event: Extract<GenerationEvent, { type: "features" }>): ChoiceDelta<L> {
      const features = event.readings.map((readings, i) => {
        const pos = event.start + i;
        return toTokenFeatures(pos, ids[pos] ?? 0, readings);
      });
      return { ...nothing(index), features };
    },
    /** What is left of the echoed prompt, once. */
    *prompt(): Generator<ChoiceDelta<L>, void> {
      const rest = echoed?.rest() ?? "";
      if (rest !== "") yield { ...nothing(index), text: rest };
    },
    token(event: Extract<GenerationEvent, { type: "token" }>): ChoiceDelta<L> {
      const { text, tokenId } = event;
      const listed = request.logprobs !== null && (form.listsEnds || text !== "" || !ends(tokenId));
      const logprobs = listed ? write([tokenId], [event.logprobs]) : null;
      const features = event.features ? [toTokenFeatures(event.pos, tokenId, event.features)] : [];
      return { ...nothing(index), text, logprobs, tokenIds: [tokenId], features };
    },
  };
}

/** What changes nothing about a choice. */
export function nothing(index: number) {
  return {
    index,
    text: "",
    logprobs: null,
    promptLogprobs: [],
    tokenIds: [],
    features: [],
    finishReason: null,
    stopReason: null,
  };
}

/** The `most` likeliest alternatives of an entry that may have more. */
const upTo =
  (most: number) =>
  (entry: TokenLogprobs | null): TokenLogprobs | null =>
    entry && { ...entry, top: entry.top.slice(0, most) };
