import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { describe, expect, it } from "vitest";
import type { GenerationEvent } from "../../../runtime/contract/generation.js";
import { Sequence, type SequenceContext } from "../../../runtime/engine/sequence.js";
import { firstState } from "../../../runtime/engine/sequence-state.js";
import { Candidates } from "../../../runtime/sampling/candidates.js";
import { packedTokens } from "../../models/tokenizer/packed-tokens.js";
import { type Asked, sequenceRequest } from "./requests.js";

const utf8 = new TextEncoder();
const smile = utf8.encode("😀");
const PIECES = ["a", "b", "ST", "OP", " the", smile.slice(0, 1), smile.slice(1, 3), smile.slice(3), "<|end|>"];
const END = PIECES.length - 1;
const CONTEXT: SequenceContext = {
  eosTokenIds: [END],
  window: 16,
  maxLength: Number.POSITIVE_INFINITY,
  tokens: packedTokens(
    PIECES.map((piece) => (typeof piece === "string" ? utf8.encode(piece) : piece)),
    [END],
  ),
  candidates: new Candidates(PIECES.length),
};
const PROMPT = Int32Array.of(0, 1, 2, 3, 4, 1, 1);
const { sampling } = sequenceRequest({});
const features = { saes: ["a"], top: 1, activation: { kind: "native" }, prompt: false } as const;

/** Stop strings begun and broken off, a character in three tokens. */
const SCRIPT = [0, 4, 2, 2, 5, 6, 7, 3, 4, 2, 3, 2, 0, 0, 2, 3, 4, 2, 3, 2, 3];

/** Logits [vocab] behind the token with number `step`, the same whenever they are asked for; a greedy text begins as SCRIPT. */
function logits(step: number): Float32Array {
  const random = xoroshiro128plus(step);
  const wanted = SCRIPT[step];
  return Float32Array.from(PIECES, (_, id) => 3 * uniformFloat64(random) + (id === wanted ? 3 : 0));
}

/** One step: a pass over the last token gives its readings, then the next token. */
function step(sequence: Sequence, n: number): GenerationEvent[] {
  const released = sequence.readsNext ? sequence.release([]) : [];
  return sequence.ended ? released : [...released, ...sequence.accept(logits(n))];
}

/** The events of a sequence, which moves into another one before step `moved`. */
function events(asked: Asked, moved: number): GenerationEvent[] {
  const request = sequenceRequest({ maxTokens: 40, ignoreEos: false, prompt: PROMPT, ...asked });
  let sequence = new Sequence(7, 3, firstState(request, CONTEXT), null, CONTEXT);
  const all: GenerationEvent[] = [];
  for (let n = 0; !sequence.ended; n++) {
    if (n === moved) {
      const elsewhere = { ...CONTEXT, candidates: new Candidates(PIECES.length) };
      sequence = new Sequence(9, 1, structuredClone(sequence.state()), null, elsewhere);
    }
    all.push(...step(sequence, n));
  }
  return all.map((event) => ({ ...event, index: 0 }));
}

describe("a sequence made from another one's state goes on as that one would have, whenever it is taken", () => {
  it.each<[string, Asked]>([
    ["greedy, in the middle of characters", { ignoreEos: true }],
    ["with a seed", { ignoreEos: true, sampling: { ...sampling, temperature: 1, seed: 5 } }],
    [
      "with penalties, beyond the window that they count",
      {
        ignoreEos: true,
        sampling: { ...sampling, repetitionPenalty: 1.4, frequencyPenalty: 0.3, presencePenalty: 0.2 },
      },
    ],
    ["in the middle of stop strings", { stop: ["STOPSTOP", " the STOPb"] }],
    ["whose stop string is part of it", { stop: ["STOPSTOP", "STOP the ST"], includeStop: true }],
    [
      "with bad words",
      {
        ignoreEos: true,
        sampling: {
          ...sampling,
          temperature: 1,
          seed: 1,
          badWords: [
            [0, 1],
            [3, 3, 4],
          ],
        },
      },
    ],
    ["with log-probabilities", { logprobs: 3, minTokens: 20 }],
    ["that is read by SAEs", { features, logprobs: 1, minTokens: 8 }],
    ["that is read, with its last token held", { features, maxTokens: 6 }],
    ["with the text of special tokens", { specialText: true, includeStop: true, minTokens: 12 }],
  ])("%s", (_, asked) => {
    const whole = events(asked, Number.POSITIVE_INFINITY);
    expect(whole.length).toBeGreaterThan(6);
    for (let moved = 0; moved <= whole.length; moved++)
      expect(events(asked, moved), `before step ${moved}`).toEqual(whole);
  });

  it("in the middle of its prompt, of which only the rest moves along", () => {
    const request = { ...sequenceRequest({ promptLogprobs: 0 }), prompt: PROMPT };
    const sequence = new Sequence(7, 3, firstState(request, CONTEXT), null, CONTEXT);
    const rows = (from: number) => Float32Array.from([0, 1, 2].flatMap((n) => [...logits(from + n)]));
    sequence.promptEvent(0, rows(0), PIECES.length);
    sequence.prefilled = 3;
    const state = sequence.state();
    expect(state.prompt).toEqual(PROMPT.subarray(3));
    const other = new Sequence(7, 3, state, null, CONTEXT);
    expect(other.promptEvent(3, rows(3), PIECES.length)).toEqual(sequence.promptEvent(3, rows(3), PIECES.length));
    expect([...other.promptIds(4, 6)]).toEqual([...PROMPT.subarray(4, 6)]);
    expect([other.prefillLength, other.promptLength, other.lastToken]).toEqual([6, 7, 1]);
  });
});
