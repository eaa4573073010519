import { once } from "node:events";
import type { GenerationEvent } from "../../runtime/contract/generation.js";
import { GenerationFailed } from "../errors.js";
import { parseCompletionRequest } from "../openai/request/completion-request.js";
import { toSequences } from "../openai/sequences.js";
import { toCompletionBody } from "./completion-body.js";
import { memoryLine } from "./memory.js";
import type { GenerateOptions } from "./options.js";
import { startEngine } from "./start-engine.js";

/** Streams one completion to stdout, and says at the end on stderr how fast it was and what it took. */
export async function generate(prompt: string, options: GenerateOptions): Promise<number> {
  const engine = await startEngine(options);
  try {
    const request = parseCompletionRequest(toCompletionBody(prompt, options));
    const { sequences } = await toSequences(request, engine);
    const interrupted = new AbortController();
    process.once("SIGINT", () => interrupted.abort());
    process.stdout.once("error", () => interrupted.abort()); // the reader of a pipe has gone

    const began = performance.now();
    process.stdout.write(prompt);
    const { tokens, first, last } = await show(engine.generate(sequences, interrupted.signal), interrupted.signal);
    process.stdout.write("\n");
    process.stderr.write(`${rateLine(tokens, first - began, last - first)}\n${memoryLine()}\n`);
    return interrupted.signal.aborted ? 130 : 0;
  } finally {
    await engine.close();
  }
}

async function show(events: AsyncIterable<GenerationEvent>, signal: AbortSignal) {
  let tokens = 0;
  let first = Number.NaN;
  let last = Number.NaN;
  try {
    for await (const event of events) {
      if (event.type === "error") throw new GenerationFailed(event.error);
      if (event.type === "prompt" || event.type === "features") continue;
      if (event.type === "token") {
        tokens += 1;
        last = performance.now();
        if (tokens === 1) first = last;
      }
      if (!process.stdout.write(event.text)) await once(process.stdout, "drain", { signal });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return { tokens, first, last };
}

function rateLine(tokens: number, toFirstMs: number, decodeMs: number): string {
  if (tokens === 0) return "0 tokens";
  const rate = tokens > 1 ? `, then ${((1000 * (tokens - 1)) / decodeMs).toFixed(1)} tokens/s` : "";
  return `${tokens} tokens; first after ${Math.round(toFirstMs)} ms${rate}`;
}
