import { complete } from "../target/completion.js";
import { TargetFailure } from "../target/failure.js";
import { openTarget, type Target, type TargetOptions } from "../target/target.js";
import { chatPrompt } from "./prompts.js";

/** A server under load. */
export interface LoadTarget {
  readonly target: Target;
  /** How it is called in the report. */
  readonly label: string;
  /** Whether it takes `ignore_eos`, so that all answers are of one length. */
  readonly ignoresEos: boolean;
}

/**
 * Opens a server and warms it with one short answer.
 * @throws TargetFailure as openTarget does. How it fails at answering is left to the scenarios to count.
 */
export async function openLoadTarget(options: TargetOptions, label: string, signal: AbortSignal): Promise<LoadTarget> {
  const target = await openTarget(options, signal);
  return { target, label, ignoresEos: await knowsIgnoreEos(target, signal) };
}

/** lambdatap and vLLM know the field, most ignore what they do not know, OpenAI's own refuses it. */
async function knowsIgnoreEos(target: Target, signal: AbortSignal): Promise<boolean> {
  try {
    await complete(target, { prompt: chatPrompt(0), max_tokens: 2, ignore_eos: true }, signal);
    return true;
  } catch (error) {
    if (!(error instanceof TargetFailure)) throw error;
    return !(error.status === 400 && error.message.includes("ignore_eos"));
  }
}
