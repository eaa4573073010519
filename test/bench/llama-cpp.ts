import { z } from "zod";

/** One text in llama.cpp. */
export interface LlamaCppSequence {
  clear(): Promise<void>;
  fill(ids: readonly number[]): Promise<void>;
  /** Greedy decoding from a token on; milliseconds of the clock per token, without the first. */
  decode(token: number, steps: number, clock: () => number): Promise<number>;
}

/** Texts in llama.cpp that decode in one batch. */
export interface LlamaCppStreams {
  /** Greedy decoding in all of them; milliseconds of the clock per step of all, without the first. */
  decode(steps: number, clock: () => number): Promise<number>;
}

export interface LlamaCpp extends AsyncDisposable {
  sequence(): Promise<LlamaCppSequence>;
  /** One for each of the prompts, which are read. */
  streams(prompts: readonly (readonly number[])[]): Promise<LlamaCppStreams>;
}

/** The part of node-llama-cpp that is used here; the package is not a dependency. */
interface Library {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<Model>; dispose(): Promise<void> }>;
  LlamaLogLevel: { error: string };
}
interface Model {
  createContext(options: object): Promise<{ getSequence(): Sequence }>;
  dispose(): Promise<void>;
}
interface Sequence {
  evaluate(tokens: number[], options: object): AsyncGenerator<number, void>;
  evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>;
  clearHistory(): Promise<void>;
}

const Installed = z.custom<Library>(
  (found) => typeof found === "object" && found !== null && "getLlama" in found && "LlamaLogLevel" in found,
);
const NAME = "node-llama-cpp";

/** Loads a GGUF file on the CPU. Exits with a sentence where the package is not installed. */
export async function openLlamaCpp(
  path: string,
  { threads, context }: { readonly threads: number; readonly context: number },
): Promise<LlamaCpp> {
  const { getLlama, LlamaLogLevel } = Installed.parse(await import(NAME).catch(notInstalled));
  const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: threads });
  const model = await llama.loadModel({ modelPath: path, useMmap: true });
  const sequence = async (): Promise<LlamaCppSequence> => {
    const made = await model.createContext({ contextSize: context, batchSize: 512, threads, sequences: 1 });
    const one = made.getSequence();
    return {
      clear: () => one.clearHistory(),
      fill: (ids) => one.evaluateWithoutGeneratingNewTokens([...ids]),
      async decode(token, steps, clock) {
        let began = 0;
        let done = 0;
        // Until the iterator is left: a finished generation would not be a full context.
        for await (const _ of one.evaluate([token], { temperature: 0, yieldEogToken: true })) {
          if (done === 0) began = clock();
          else if (done === steps) break;
          done++;
        }
        return (clock() - began) / steps;
      },
    };
  };
  const streams = async (prompts: readonly (readonly number[])[]): Promise<LlamaCppStreams> => {
    const sequences = prompts.length;
    const made = await model.createContext({ contextSize: context, batchSize: 512, threads, sequences });
    const all = prompts.map(() => made.getSequence());
    await Promise.all(all.map((each, i) => each.evaluateWithoutGeneratingNewTokens([...(prompts[i] ?? [])])));
    return {
      async decode(steps, clock) {
        const times = await Promise.all(all.map((each) => decodeTimes(each, steps, clock)));
        const first = Math.max(...times.map(([at]) => at));
        return (Math.max(...times.map(([, at]) => at)) - first) / steps;
      },
    };
  };
  return {
    sequence,
    streams,
    async [Symbol.asyncDispose]() {
      await model.dispose();
      await llama.dispose();
    },
  };
}

/** When the first of steps + 1 tokens came, and the last. */
async function decodeTimes(
  sequence: Sequence,
  steps: number,
  clock: () => number,
): Promise<[first: number, last: number]> {
  let [first, done] = [0, 0];
  for await (const _ of sequence.evaluate([257], { temperature: 0, yieldEogToken: true })) {
    if (done === 0) first = clock();
    if (done++ === steps) break;
  }
  return [first, clock()];
}

function notInstalled(): never {
  process.stderr.write(`bench:peer needs ${NAME}: npm install --no-save ${NAME}\n`);
  process.exit(1);
}
