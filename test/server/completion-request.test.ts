import { expect, test } from "vitest";
import { parseCompletionRequest } from "../../server/openai/request/completion-request.js";

test("1024 stop token ids are taken", () => {
  const ids = Array.from({ length: 1024 }, (_, id) => id);
  expect(parseCompletionRequest({ stop_token_ids: ids }).stop_token_ids).toEqual(ids);
});

test("more are refused by their number, before any of them is looked at", () => {
  for (const id of [5, "x", null]) {
    expect(() => parseCompletionRequest({ stop_token_ids: Array(1025).fill(id) })).toThrow(
      expect.objectContaining({ param: "stop_token_ids", message: "expected at most 1024 token ids" }),
    );
  }
});

test("a vocabulary's ids are allowed, more than a million are refused by their number", () => {
  const ids = Array.from({ length: 262_144 }, (_, id) => id);
  expect(parseCompletionRequest({ allowed_token_ids: ids }).allowed_token_ids).toEqual(ids);
  expect(() => parseCompletionRequest({ allowed_token_ids: Array(2 ** 20 + 1).fill("x") })).toThrow(
    expect.objectContaining({ param: "allowed_token_ids", message: "expected at most 1048576 token ids" }),
  );
});

test("so are logit biases, of which 4096 are taken", () => {
  const biases = (count: number, bias: unknown) =>
    Object.fromEntries(Array.from({ length: count }, (_, id) => [id, bias]));
  expect(parseCompletionRequest({ logit_bias: biases(4096, 1) }).logit_bias).toHaveLength(4096);
  for (const bias of [1, "x"]) {
    expect(() => parseCompletionRequest({ logit_bias: biases(4097, bias) })).toThrow(
      expect.objectContaining({ param: "logit_bias", message: "expected at most 4096 biases" }),
    );
  }
});

test("how many log-probabilities there are at most is said to whoever asks for more", () => {
  for (const logprobs of [21, -1, true, "2"]) {
    expect(() => parseCompletionRequest({ logprobs })).toThrow(
      expect.objectContaining({
        param: "logprobs",
        message: "expected an integer from 0 to 20: how many alternatives",
      }),
    );
  }
});
