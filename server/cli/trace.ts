import { once } from "node:events";
import { parseCompletionRequest } from "../openai/request/completion-request.js";
import { toSequences } from "../openai/sequences.js";
import { toCompletionBody } from "./completion-body.js";
import type { TraceOptions } from "./options.js";
import { startEngine } from "./start-engine.js";
import { jsonView } from "./trace/json.js";
import { colorDepth, createPalette } from "./trace/palette.js";
import { chooseColor, createScale } from "./trace/scale.js";
import { tableView } from "./trace/table.js";
import { tableThenTextView, textView } from "./trace/text.js";
import { renderTrace, type Trace, type TraceView } from "./trace/view.js";

/** Writes on from a prompt, and shows on stdout what the attached SAEs read at every token. */
export async function trace(prompt: string, options: TraceOptions): Promise<number> {
  const engine = await startEngine(options);
  try {
    const { card } = engine;
    const { sequences } = await toSequences(parseCompletionRequest(toBody(prompt, options)), engine);
    const [sequence] = sequences;
    if (!sequence?.features) throw new Error("no sequence with features came of a prompt and features");
    const { color, dSae } = chooseColor(options.colorBy ?? { sae: null, of: "l0" }, sequence.features.saes, card);
    const wanted = typeof color.of === "number" && !options.json ? dSae : options.top;
    const features = { ...sequence.features, top: Math.max(options.top, wanted) };
    const shown: Trace = { card, prompt, sequence: { ...sequence, features }, color, top: options.top };

    const interrupted = new AbortController();
    const { signal } = interrupted;
    process.once("SIGINT", () => interrupted.abort());
    process.stdout.on("error", () => interrupted.abort()); // the reader of a pipe has gone
    for await (const piece of renderTrace(shown, chooseView(shown, options), engine, signal))
      await write(piece, signal);
    return signal.aborted ? 130 : 0;
  } finally {
    await engine.close();
  }
}

function chooseView(trace: Trace, options: TraceOptions): TraceView {
  if (options.json) return jsonView(trace);
  const { isTTY, columns } = process.stdout;
  const palette = createPalette(colorDepth(isTTY, process.env));
  const scale = createScale(options.colorRange ?? null);
  if (options.view === "text") return textView(trace, palette, scale);
  const table = tableView(trace, palette, scale, isTTY && columns > 0 ? columns : Number.POSITIVE_INFINITY);
  return options.view === "table" ? table : tableThenTextView(table, trace, palette, scale);
}

/** After an interruption it still writes, but waits for nobody. */
async function write(text: string, signal: AbortSignal): Promise<void> {
  if (process.stdout.destroyed || process.stdout.write(text) || signal.aborted) return;
  await once(process.stdout, "drain", { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}

function toBody(prompt: string, options: TraceOptions): object {
  const { read, top, activation, prompt: withPrompt, edit, editsFrom } = options;
  return {
    ...toCompletionBody(prompt, options),
    logprobs: 0,
    features: { saes: read.length > 0 ? read : null, top, activation, prompt: withPrompt },
    edits: edit,
    edits_from: editsFrom,
  };
}
