import * as z from "zod";
import { streamCompletion } from "../target/completion.js";
import { TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";
import { firstInteger } from "./answer.js";
import type { Filler } from "./filler.js";
import { inMode, MODES, type Mode, type ModeSettings } from "./modes.js";
import { passkeyText, placeKey } from "./prompt.js";
import { fillersWithin, type PromptTokens, tokenIds } from "./token-counts.js";
import type { Trial } from "./trials.js";

/** What came of a trial in a mode. */
export const Outcome = z.object({
  mode: z.enum(MODES),
  /** Of the prompt, in windows. */
  length: z.number(),
  depth: z.number(),
  repetition: z.int(),
  key: z.int(),
  /** Before it was cut, where the mode cuts it. */
  promptTokens: z.int(),
  /** Tokens from the end of the key sentence to the end of the prompt. */
  distance: z.int(),
  answer: z.string(),
  found: z.number().nullable(),
  hit: z.boolean(),
  seconds: z.number(),
});
export type Outcome = z.output<typeof Outcome>;

/** A prompt of a trial, ready for every mode. */
export interface HiddenKey {
  readonly trial: Trial;
  readonly text: string;
  /** null: the target takes no ids. */
  readonly ids: readonly number[] | null;
  /** Tokens from the end of the key sentence to the end of the prompt. */
  readonly distance: number;
}

export interface KeySettings extends ModeSettings {
  readonly question: string;
  readonly filler: Filler;
  readonly tokens: PromptTokens;
}

/** Settings as reports and journals have them: a book by its name. */
export const namedSettings = ({ filler, ...settings }: KeySettings) => ({ ...settings, filler: filler.name });

/** Writes the prompt of a trial: about as many fillers as its length has room for, never more. @throws TargetFailure */
export async function hideKey(
  target: Target,
  trial: Trial,
  { window, question, filler, tokens }: KeySettings,
  signal?: AbortSignal,
): Promise<HiddenKey> {
  const longest = Math.floor(trial.length * window);
  let fillers = fillersWithin(longest, tokens);
  let tooMany = Number.POSITIVE_INFINITY;
  for (;;) {
    const { before, after } = placeKey(fillers, trial.depth);
    const hidden = { key: trial.key, filler, before };
    const text = passkeyText({ ...hidden, after, question });
    if (target.lambdatap === null)
      return { trial, text, ids: null, distance: Math.round(after * tokens.filler) + tokens.question };
    const ids = await tokenIds(target, text, signal);
    const room = longest - ids.length;
    if (room < 0) tooMany = fillers;
    const next = Math.min(fillers + Math.floor(room / tokens.filler), tooMany - 1);
    if (fillers === 0 || (room >= 0 && next <= fillers)) {
      const toKey = await tokenIds(target, passkeyText({ ...hidden, after: 0, question: "" }), signal);
      return { trial, text, ids, distance: ids.length - toKey.length };
    }
    fillers = Math.max(0, next);
  }
}

/** Asks for a hidden key. @throws TargetFailure; the signal's reason when it aborts. */
export async function tryKey(
  target: Target,
  { trial, text, ids, distance }: HiddenKey,
  mode: Mode,
  settings: KeySettings,
  signal?: AbortSignal,
): Promise<Outcome> {
  const begun = performance.now();
  const asked = mode === "served" || ids === null ? { prompt: text } : inMode(mode, ids, settings);
  const body = { ...asked, max_tokens: settings.answer, temperature: 0 };
  let answer = "";
  let promptTokens = ids?.length;
  let written: number | null = null;
  for await (const { choice, usage } of streamCompletion(target, body, signal)) {
    answer += choice?.text ?? "";
    written = usage?.completion_tokens ?? written;
    promptTokens ??= usage?.prompt_tokens;
  }
  if (written === null || written > settings.answer || promptTokens === undefined) {
    const said = written === null ? "no usage" : `${written} tokens where ${settings.answer} were asked for`;
    throw new TargetFailure("nonsense", `${target.url} answers with ${said}`, 200);
  }
  const found = firstInteger(answer);
  const seconds = Number(((performance.now() - begun) / 1000).toFixed(3));
  return { mode, ...trial, promptTokens, distance, answer, found, hit: found === trial.key, seconds };
}
