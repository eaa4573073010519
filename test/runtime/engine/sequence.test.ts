import { describe, expect, it } from "vitest";
import type { GenerationEvent } from "../../../runtime/contract/generation.js";
import { Sequence, type SequenceContext } from "../../../runtime/engine/sequence.js";
import { firstState } from "../../../runtime/engine/sequence-state.js";
import { Candidates } from "../../../runtime/sampling/candidates.js";
import { packedTokens } from "../../models/tokenizer/packed-tokens.js";
import { type Asked, sequenceRequest } from "./requests.js";

const utf8 = new TextEncoder();
const END = "<|end|>";
const smile = utf8.encode("😀");
const PIECES = ["a", "b", "c", " the", " cat", "ST", "OP", smile.slice(0, 1), smile.slice(1, 3), smile.slice(3), END];
const VOCAB = PIECES.length;
const id = (piece: string): number => PIECES.indexOf(piece);
const [EMOJI_1, EMOJI_2, EMOJI_3] = [7, 8, 9];
const tokens = packedTokens(
  PIECES.map((piece) => (typeof piece === "string" ? utf8.encode(piece) : piece)),
  [id(END)],
);

const CONTEXT: SequenceContext = {
  eosTokenIds: [id(END)],
  window: 16,
  maxLength: Number.POSITIVE_INFINITY,
  tokens,
  candidates: new Candidates(VOCAB),
};

function started(asked: Asked = {}, context: Partial<SequenceContext> = {}): Sequence {
  const request = sequenceRequest({ ignoreEos: false, prompt: [0, 1, 2], ...asked });
  const whole = { ...CONTEXT, ...context };
  return new Sequence(7, 3, firstState(request, whole), null, whole);
}

/** Logits that make a token the most likely one. */
function logits(token: number): Float32Array {
  const values = Float32Array.from({ length: VOCAB }, (_, i) => -i / 100);
  values[token] = 5;
  return values;
}

/** Gives a sequence tokens as a model would that wants them, until it ends. */
function generate(sequence: Sequence, wanted: readonly number[]): GenerationEvent[] {
  const events: GenerationEvent[] = [];
  for (const token of wanted) {
    if (sequence.ended) break;
    events.push(...sequence.accept(logits(token)));
  }
  return events;
}

const texts = (events: readonly GenerationEvent[]): string[] =>
  events.flatMap((event) => (event.type === "token" || event.type === "end" ? [event.text] : []));
const ending = (events: readonly GenerationEvent[]) => events.find((event) => event.type === "end");

describe("each token is one event", () => {
  it("with its number, its position and the text it decides", () => {
    const events = generate(started(), [id("a"), id(" cat")]);
    const common = { type: "token", index: 3, logprobs: null, features: null };
    expect(events).toEqual([
      { ...common, seq: 0, pos: 3, tokenId: id("a"), text: "a" },
      { ...common, seq: 1, pos: 4, tokenId: id(" cat"), text: " cat" },
    ]);
  });

  it("which waits for the readings of the token, if it is read", () => {
    const features = { saes: ["a"], top: 1, activation: { kind: "native" }, prompt: false } as const;
    const sequence = started({ features, maxTokens: 2 });
    const reading = (z: number) => [
      { sae: "a", l0: 0, z, f: 0, epsLbo: null, mse: 0, indices: new Uint32Array(), values: new Float32Array() },
    ];
    expect(sequence.readsNext).toBe(false); // the prompt's last token
    expect(sequence.accept(logits(id("a")))).toEqual([]);
    expect(sequence.readsNext).toBe(true);
    expect(sequence.release(reading(1))).toMatchObject([{ type: "token", text: "a", features: reading(1) }]);
    expect(sequence.accept(logits(id(" cat")))).toEqual([]);
    expect(sequence.ended).toBe(false);
    expect(sequence.release(reading(2))).toMatchObject([
      { type: "token", text: " cat", features: reading(2) },
      { type: "end", finishReason: "length", completionTokens: 2 },
    ]);
    expect(sequence.ended).toBe(true);
  });

  it("readings of the prompt come in pieces that follow each other", () => {
    const features = { saes: ["a"], top: 1, activation: { kind: "native" }, prompt: true } as const;
    const events = started({ features }).promptFeatures(
      100,
      Array.from({ length: 130 }, () => []),
    );
    expect(events.map((event) => event.type === "features" && [event.start, event.readings.length])).toEqual([
      [100, 64],
      [164, 64],
      [228, 2],
    ]);
  });

  it("a character that is split over tokens comes with its last", () => {
    expect(texts(generate(started(), [id("a"), EMOJI_1, EMOJI_2, EMOJI_3]))).toEqual(["a", "", "", "😀"]);
  });

  it("log-probabilities are those of the raw logits, whatever sampling makes of them", () => {
    const { sampling } = sequenceRequest({});
    const warped = { ...sampling, repetitionPenalty: 3, logitBias: [[id("b"), 50]] as const };
    const [event] = started({ logprobs: 2, sampling: warped }).accept(logits(id("a")));
    const normaliser = Math.log([...logits(id("a"))].reduce((sum, logit) => sum + Math.exp(logit), 0));
    if (event?.type !== "token" || event.logprobs === null) throw new Error("no log-probabilities");
    expect(event.tokenId).toBe(id("b"));
    expect(event.logprobs.logprob).toBeCloseTo(-0.01 - normaliser, 5);
    expect(event.logprobs.top.map(({ tokenId }) => tokenId)).toEqual([id("a"), id("b")]);
    expect(event.logprobs.top[0]?.logprob).toBeCloseTo(5 - normaliser, 5);
  });
});

describe("a text ends", () => {
  it("before a stop string that is split over tokens, no part of which comes out", () => {
    const events = generate(started({ stop: ["STOP"] }), [id("a"), id("ST"), id("OP"), id("b")]);
    expect(texts(events)).toEqual(["a", "", "", ""]);
    expect(ending(events)).toMatchObject({
      finishReason: "stop",
      stopReason: "STOP",
      completionTokens: 3,
      promptTokens: 3,
    });
  });

  it("not at the beginning of one: what was held back comes with the token that decides it", () => {
    expect(texts(generate(started({ stop: ["STOP"] }), [id("ST"), id("a"), id("ST"), id("ST"), id("OP")]))).toEqual([
      "",
      "STa",
      "",
      "ST",
      "",
      "",
    ]);
  });

  it("at the model's end token, whose text is left out", () => {
    const events = generate(started(), [id("a"), id(END), id("b")]);
    expect(texts(events).join("")).toBe("a");
    expect(ending(events)).toMatchObject({ finishReason: "stop", stopReason: null, completionTokens: 2 });
  });

  it("not there if it is to be ignored", () => {
    expect(ending(generate(started({ ignoreEos: true }), [id(END), id(END), id("b")]))).toBeUndefined();
  });

  it("at a stop token, whose text is left out and which is named", () => {
    const events = generate(started({ stopTokenIds: [id(" cat")], ignoreEos: true }), [id(" the"), id(" cat")]);
    expect(texts(events).join("")).toBe(" the");
    expect(ending(events)).toMatchObject({ finishReason: "stop", stopReason: id(" cat") });
  });

  it("after max_tokens, and what was held back comes out: a stop string begun, a character cut", () => {
    const held = generate(started({ stop: ["STOP"], maxTokens: 2 }), [id("a"), id("ST"), id("OP")]);
    expect(texts(held)).toEqual(["a", "", "ST"]);
    expect(ending(held)).toMatchObject({ finishReason: "length", stopReason: null, completionTokens: 2 });
    expect(texts(generate(started({ maxTokens: 2 }), [id("a"), EMOJI_1])).join("")).toBe("a\ufffd");
    expect(texts(generate(started(), [id("a"), EMOJI_1, id(END)])).join("")).toBe("a\ufffd");
  });

  it("with a stop string in its last token as a stop, not as a length", () => {
    const events = generate(started({ stop: ["b"], maxTokens: 2 }), [id("a"), id("b")]);
    expect(ending(events)).toMatchObject({ finishReason: "stop", stopReason: "b" });
    const cut = generate(started({ stop: ["\ufffd"], maxTokens: 2 }), [id("a"), EMOJI_1]);
    expect(ending(cut)).toMatchObject({ finishReason: "stop", stopReason: "\ufffd" });
    expect(texts(cut).join("")).toBe("a");
  });

  it("where its memory ends", () => {
    const events = generate(started({ maxTokens: null }, { maxLength: 5 }), [id("a"), id("b"), id("c")]);
    expect(ending(events)).toMatchObject({ finishReason: "length", completionTokens: 2 });
  });
});

describe("before min_tokens", () => {
  it("neither the end token nor a stop token is drawn, however likely", () => {
    const sequence = started({ minTokens: 2, stopTokenIds: [id("b")] });
    const events = generate(sequence, [id(END), id("b"), id(END)]);
    const drawn = events.flatMap((event) => (event.type === "token" ? [event.tokenId] : []));
    expect(drawn.slice(0, 2)).toEqual([id("a"), id("a")]);
    expect(ending(events)).toMatchObject({ finishReason: "stop", completionTokens: 3 });
  });

  it("a stop string does not end the text, and stays in it", () => {
    const events = generate(started({ minTokens: 2, stop: ["STOP"] }), [
      id("ST"),
      id("OP"),
      id("a"),
      id("ST"),
      id("OP"),
    ]);
    expect(texts(events).join("")).toBe("STOPa");
    expect(ending(events)).toMatchObject({ finishReason: "stop", stopReason: "STOP", completionTokens: 5 });
  });
});

describe("log-probabilities of the prompt", () => {
  it("go chunk by chunk: the first token has none, and each logits row speaks of the token behind it", () => {
    const sequence = started({ promptLogprobs: 1, prompt: Int32Array.of(4, 3, 2, 1, 0) });
    const rows = (...likely: number[]) => Float32Array.from(likely.flatMap((token) => [...logits(token)]));
    const first = sequence.promptEvent(0, rows(3, 5), VOCAB);
    const second = sequence.promptEvent(2, rows(1, 6), VOCAB);
    if (first.type !== "prompt" || second.type !== "prompt") throw new Error("no prompt events");
    expect([first.start, first.logprobs.length]).toEqual([0, 3]);
    expect([second.start, second.logprobs.length]).toEqual([3, 2]);
    const [none, likely, unlikely] = first.logprobs;
    expect(none).toBeNull();
    expect(likely?.top[0]).toEqual({ tokenId: 3, logprob: likely?.logprob });
    expect(unlikely?.top[0]?.tokenId).toBe(5);
    expect(unlikely?.logprob).toBeLessThan(-4);
    expect(second.logprobs[0]?.top[0]).toEqual({ tokenId: 1, logprob: second.logprobs[0]?.logprob });
  });
});

it("penalties count the prompt and the output of the last W tokens", () => {
  const { sampling } = sequenceRequest({});
  const sequence = started(
    { prompt: Int32Array.of(0, 0, 1), sampling: { ...sampling, repetitionPenalty: 100 } },
    { window: 2 },
  );
  const flat = Float32Array.from({ length: VOCAB }, (_, token) => 2 - token / 100);
  const drawn = Array.from({ length: 5 }, () => {
    sequence.accept(flat);
    return sequence.lastToken;
  });
  expect(drawn).toEqual([2, 0, 1, 2, 0]);
});
