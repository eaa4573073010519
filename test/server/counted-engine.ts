import type { Engine, GenerationEvent } from "../../runtime/contract/generation.js";

/** The same engine, and how many events its readers have taken. */
export function countedEngine(engine: Engine): { readonly engine: Engine; readonly taken: () => number } {
  let taken = 0;
  async function* counted(events: AsyncIterable<GenerationEvent>): AsyncGenerator<GenerationEvent> {
    for await (const event of events) {
      taken++;
      yield event;
    }
  }
  const counting: Engine = {
    card: engine.card,
    encode: (text, at) => engine.encode(text, at),
    chatPrompt: (conversation, signal) => engine.chatPrompt(conversation, signal),
    tokenTexts: (ids) => engine.tokenTexts(ids),
    decode: (ids) => engine.decode(ids),
    describeFeature: (sae, feature, top) => engine.describeFeature(sae, feature, top),
    generate: (sequences, signal) => counted(engine.generate(sequences, signal)),
    get failure() {
      return engine.failure;
    },
    load: () => engine.load(),
    get counts() {
      return engine.counts;
    },
    drain: () => engine.drain(),
    close: () => engine.close(),
  };
  return { engine: counting, taken: () => taken };
}
