import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { packSnapshot, unpackSnapshot } from "../../../runtime/cache/snapshot.js";
import { SnapshotError, type SnapshotProblem } from "../../../runtime/contract/errors.js";
import type { GenerationEvent, SequenceRequest } from "../../../runtime/contract/generation.js";
import { readSequence } from "../../../runtime/engine/sequence-snapshot.js";
import type { SequenceState } from "../../../runtime/engine/sequence-state.js";
import { openEmbedded } from "../../models/tokenizer/opened.js";
import { sequenceRequest } from "./requests.js";
import { finish, type RunningText, SteppedServer } from "./stepped-server.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const cacheRoot = join(folder, "cache");
afterAll(() => {
  for (const server of [here, there]) server[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

const [here, there] = [await SteppedServer.open(cacheRoot), await SteppedServer.open(cacheRoot)];
const tokenizer = await openEmbedded();
/** Longer than the window with its starting tokens. */
const PROMPT = await tokenizer.encode(
  "One day a little fox went into the forest to find her friend, the old owl. ".repeat(2),
);
const SAE = "blocks.3.hook_resid_post";
const { sampling } = sequenceRequest({});
const ids = async (text: string): Promise<number[]> => [...(await tokenizer.encode(text))];
const BAD_WORDS = [await ids(" the"), await ids(" little fox")];
/** The tokens of single bytes that three-byte characters are made of, which are drawn in turn. */
const BYTES = [...(await ids("東")), ...(await ids("京"))];

/** Runs a text for so many steps; what they gave. */
function begun(
  server: SteppedServer,
  asked: Partial<SequenceRequest>,
  steps: number,
): [RunningText, GenerationEvent[]] {
  const text = server.begin({ prompt: PROMPT, maxTokens: 18, ...asked });
  const events: GenerationEvent[] = [];
  for (let i = 0; i < steps && !text.sequence.ended; i++) events.push(...server.step(text));
  return [text, events];
}

/** What a text gives that moves to the other server after every step, and back; and how the snapshots were. */
function moving(asked: Partial<SequenceRequest>) {
  let [text, server, other] = [here.begin({ prompt: PROMPT, maxTokens: 18, ...asked }), here, there];
  const events: GenerationEvent[] = [];
  const states: SequenceState[] = [];
  for (;;) {
    events.push(...server.step(text));
    if (text.sequence.ended) break;
    const bytes = server.save(text);
    server.close(text);
    [server, other] = [other, server];
    states.push(readSequence(bytes, server.reader).state);
    text = server.restore(bytes);
  }
  server.close(text);
  return { events, states };
}

describe("a text goes on elsewhere as it would have here: the same tokens, texts, log-probabilities and readings", () => {
  const seeded = { ...sampling, temperature: 1, seed: 11 };
  const penalised = { ...seeded, topP: 0.9, repetitionPenalty: 1.3, frequencyPenalty: 0.4, badWords: BAD_WORDS };
  const readings = { saes: [SAE], top: 3, activation: { kind: "native" }, prompt: true } as const;
  const edits = [{ sae: SAE, feature: 5, op: "add", value: 30, from: "kept" }] as const;
  it.each<[string, Partial<SequenceRequest>, (state: SequenceState) => boolean]>([
    [
      "with a seed, penalties and bad words",
      { sampling: penalised, logprobs: 2 },
      ({ chooser }) => chooser.counted !== null,
    ],
    [
      "in the middle of characters",
      { sampling: { ...seeded, allowedTokenIds: BYTES } },
      ({ text }) => text.pending.length > 0,
    ],
    [
      "in the middle of stop strings",
      { stop: [" loud voice, or", "woman said:\n\n"], logprobs: 0 },
      ({ stops }) => stops.held === "woman said:",
    ],
    ["with a window of its own and no starting tokens", { lambda: { window: 20, sinks: 0 }, logprobs: 0 }, () => true],
    ["in mode full", { lambda: { mode: "full" }, logprobs: 0 }, () => true],
    ["read by SAEs", { features: readings, logprobs: 1, promptLogprobs: 1 }, ({ held }) => held !== null],
    ["edited from its prompt on", { edits, editsFrom: "prompt", logprobs: 0 }, ({ prompt }) => prompt.length > 1],
  ])("%s", (_, asked, met) => {
    const [text, first] = begun(here, asked, 1);
    const { events, states } = moving(asked);
    expect(events).toEqual([...first, ...finish(here, text)]);
    expect(states.some(met)).toBe(true);
  });
});

it("in another process", async () => {
  const asked = { logprobs: 2, sampling: { ...sampling, temperature: 0.8, seed: 3 } };
  const [text, first] = begun(here, asked, 14);
  const file = join(folder, "moved.snapshot");
  writeFileSync(file, here.save(text));
  const want = [...first, ...finish(here, text)];
  const child = fileURLToPath(new URL("./restored-child.js", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [child, cacheRoot, file]);
  expect([...first, ...JSON.parse(stdout)]).toEqual(want);
});

it("takes as many bytes after 5 windows as after 2, and of its prompt no more than is still to be read", () => {
  const size = (prompt: Int32Array<ArrayBuffer>, steps: number): number => {
    const [text] = begun(here, { prompt, maxTokens: null, sampling: { ...sampling, repetitionPenalty: 1.1 } }, steps);
    const { length } = here.save(text);
    here.close(text);
    return length;
  };
  const [two, five] = [64, 160].map((length) => size(Int32Array.of(5), length));
  expect(five).toBe(two);
  const rest = Int32Array.from({ length: 400 }, (_, i) => PROMPT[i % PROMPT.length] ?? 0);
  expect(size(rest, Math.ceil(399 / 8) + 3)).toBe(two);
  const unread = size(rest, 20) - (two ?? 0) - 4 * (399 - 20 * 8);
  expect(unread).toBeGreaterThanOrEqual(0);
  expect(unread).toBeLessThan(5); // how long it is
});

/** What is wrong with it for that server; "none": nothing. */
function problemOf(bytes: Uint8Array, server: SteppedServer = there): SnapshotProblem | "none" {
  try {
    readSequence(bytes, server.reader);
    return "none";
  } catch (error) {
    if (error instanceof SnapshotError) return error.problem;
    throw error;
  }
}

function saved(asked: Partial<SequenceRequest> = {}, steps = 14): Uint8Array {
  const [text] = begun(here, asked, steps);
  const bytes = here.save(text);
  here.close(text);
  return bytes;
}

type Fields = Record<string, unknown>;
const fields = (value: unknown): Fields => ({ ...Object(value) });

/** The snapshot with other fields of its sequence, under a checksum that is right. */
function changed(bytes: Uint8Array, change: (sequence: Fields) => object, asked: (asked: Fields) => object = (a) => a) {
  const { header, payload } = unpackSnapshot(bytes);
  const { more, ...rest } = fields(header);
  const { sequence, ...others } = fields(more);
  const before = fields(sequence);
  const after = change({ ...before, asked: asked(fields(before.asked)) });
  const changedHeader = { ...rest, more: { ...others, sequence: after } };
  return packSnapshot(changedHeader, payload.length, (target) => target.set(payload));
}

describe("is refused, with a sentence", () => {
  const bytes = saved();

  it.each<[string, SnapshotProblem, RegExp, Fields]>([
    [
      "a row and a text that do not belong together",
      "damaged",
      /row has \d+ tokens, and its sequence \d+$/,
      { generated: 2 },
    ],
    [
      "a token that the model does not know",
      "damaged",
      /more\.sequence\.lastToken|sequence\.lastToken/,
      { lastToken: 4096 },
    ],
    ["a prompt of other length than it says", "damaged", /rest of the prompt/, { prefilled: 3 }],
    [
      "a prompt that is half an id",
      "damaged",
      /sequence\.prompt: expected whole 32-bit integers/,
      { prompt: new Uint8Array(3) },
    ],
    ["an id below 0", "damaged", /sequence\.prompt: expected integers from 0 to 4095/, { prompt: Int32Array.of(-1) }],
    ["no random numbers", "damaged", /sequence\.chooser/, { chooser: { random: [1], counted: null, recent: [] } }],
    [
      "bytes that are none",
      "damaged",
      /sequence\.text\.pending/,
      { text: { pending: [256], strip: 0, opens: false, spaced: false } },
    ],
  ])("%s", (_, problem, sentence, change) => {
    const wrong = changed(bytes, (sequence) => ({ ...sequence, ...change }));
    expect(problemOf(wrong)).toBe(problem);
    expect(() => readSequence(wrong, there.reader)).toThrow(sentence);
  });

  it.each<[string, SnapshotProblem, RegExp, Fields]>([
    [
      "a token to stop at that the model does not know",
      "request",
      /stop_token_ids: token id 5000/,
      { stopTokenIds: [5000] },
    ],
    [
      "an SAE that is not attached",
      "request",
      /edits: it must be of blocks/,
      { edits: [{ sae: "x", feature: 0, op: "add", value: 1, from: "kept" }] },
    ],
    [
      "a temperature that no request may have",
      "request",
      /temperature/,
      { sampling: { ...sampling, temperature: -1 } },
    ],
    [
      "another window than its row has",
      "damaged",
      /has not the window that its request asks for/,
      { lambda: { window: 31 } },
    ],
    ["mode full over a row that is not", "damaged", /has not the window/, { lambda: { mode: "full" } }],
    ["a number that is none", "damaged", /sequence\.asked\.sampling\.topP/, { sampling: { ...sampling, topP: "1" } }],
  ])("a request with %s", (_, problem, sentence, change) => {
    const wrong = changed(
      bytes,
      (sequence) => sequence,
      (asked) => ({ ...asked, ...change }),
    );
    expect(problemOf(wrong)).toBe(problem);
    expect(() => readSequence(wrong, there.reader)).toThrow(sentence);
  });

  it("a window, starting tokens or a length that is not served there", () => {
    const { card } = there.reader;
    const reader = (change: object, fullLength = 200) => ({
      ...there.reader,
      fullLength,
      card: { ...card, ...change },
    });
    for (const [snapshot, other, sentence] of [
      [bytes, reader({ window: 31 }), /a window of 32, and embedded is served with 31$/],
      [bytes, reader({ sinks: 5 }), /4 starting tokens, and embedded is served with 5$/],
      [
        saved({ lambda: { mode: "full" } }),
        reader({}, 40),
        /\d+ tokens in mode full, and this machine has memory for 40$/,
      ],
    ] as const) {
      expect(() => readSequence(snapshot, other)).toThrow(sentence);
      expect(() => readSequence(snapshot, other)).toThrow(SnapshotError);
    }
    expect(problemOf(saved({ lambda: { sinks: 0 } }))).toBe("none");
  });

  it("an SAE that it is read with, and that is another one there", () => {
    const read = saved({ features: { saes: [SAE], top: 3, activation: { kind: "native" }, prompt: false } });
    const reader = { ...there.reader, saes: new Map([[SAE, "0".repeat(64)]]) };
    const sentence = /with an SAE blocks\.3\.hook_resid_post that is another one here$/;
    expect(() => readSequence(read, reader)).toThrow(sentence);
    expect(() => readSequence(bytes, reader)).not.toThrow();
    expect(problemOf(read)).toBe("none");
  });

  it("a row without a text", () => {
    const { header, payload } = unpackSnapshot(bytes);
    const alone = packSnapshot({ ...fields(header), more: null }, payload.length, (target) => target.set(payload));
    expect(problemOf(alone)).toBe("damaged");
  });

  it("a text that has ended, or that retrieves, before anything is saved", () => {
    const [ended] = begun(here, { maxTokens: 2 }, 20);
    expect(() => here.save(ended)).toThrow(/has ended/);
    here.close(ended);
    const [retrieving] = begun(here, { lambda: { retrieve: { k: 2 } } }, 3);
    expect(() => here.save(retrieving)).toThrow(/keeps every key/);
    here.close(retrieving);
  });

  it("whatever is changed in it: with a sentence, or it goes on", () => {
    const places = fc.constantFrom(...Object.keys(fields(fields(fields(unpackSnapshot(bytes).header).more).sequence)));
    fc.assert(
      fc.property(places, fc.anything({ maxDepth: 3, withTypedArray: true }), (place, value) => {
        const packable = JSON.parse(
          JSON.stringify({ value }, (_, each) => (typeof each === "bigint" ? 1 : each)),
        ).value;
        const wrong = changed(bytes, (sequence) => ({ ...sequence, [place]: packable }));
        if (problemOf(wrong) === "none") finish(there, there.restore(wrong));
      }),
      { numRuns: 60 },
    );
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const flipped = bytes.slice();
        flipped[at] = (flipped[at] ?? 0) ^ change;
        expect(["foreign", "version", "damaged"]).toContain(problemOf(flipped));
      }),
      { numRuns: 50 },
    );
  });
});
