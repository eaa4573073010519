import { expect, test } from "vitest";
import { modesFor, readOptions } from "../../../loadtest/passkey/options.js";

test("without flags the whole grid is run, with the question that the embedded model knows", () => {
  expect(readOptions([])).toMatchObject({
    modes: null,
    lengths: [1, 2, 4, 8, 16, 32, 64],
    depths: 5,
    digits: null,
    question: "What is the pass key? The pass key is",
    filler: null,
    retrieval: {},
    window: null,
  });
});

test("flags are read; lengths are sorted, what is said twice counts once", () => {
  const flags = ["--lengths", "4,0.5,4", "--modes", "full,lambda,full", "--depths", "random", "--question", ""];
  expect(readOptions([...flags, "--k", "5", "--from-layer", "0", "--distance", "128"])).toMatchObject({
    lengths: [0.5, 4],
    modes: ["full", "lambda"],
    depths: "random",
    question: "",
    retrieval: { k: 5, from_layer: 0, distance: 128 },
  });
});

test.each([
  [["--modes", "lambda,nonsense"], /^--modes takes lambda, retrieve, full, truncation, served; received 'nonsense'$/],
  [["--lengths", "1,,2"], /^--lengths takes multiples of the window.*; received ''$/],
  [["--lengths", "-1"], /lengths/],
  [["--lengths", "1,x"], /^--lengths takes .* received 'x'$/],
  [["--depths", "some"], /^--depths takes a whole number from 1 to 101, or random; received 'some'$/],
  [["--depths", "0"], /^--depths/],
  [["--trials", "0"], /^--trials takes a whole number from 1 to 100000; received '0'$/],
  [["--trials", "1.5"], /^--trials/],
  [["--digits", "0"], /^--digits/],
  [["--digits", "16"], /^--digits takes a whole number from 1 to 15; received '16'$/],
  [["--seed", "x"], /^--seed takes a whole number of 0 or more; received 'x'$/],
  [["--window", "0"], /^--window/],
  [["--k", "0"], /^--k takes a whole number of 1 or more; received '0'$/],
  [["--from-layer", "top"], /^--from-layer/],
  [["--distance", "far"], /^--distance/],
  [["--connections", "0"], /^--connections/],
  [["--timeout", "soon"], /^--timeout/],
  [["--what", "1"], /--what/],
  [["loose"], /loose/],
])("%j is refused with a sentence", (args, sentence) => {
  expect(() => readOptions(args)).toThrow(sentence);
});

test("a lambdatap server runs four modes, another its own; what a target cannot do is refused", () => {
  expect(modesFor(null, true)).toEqual(["lambda", "retrieve", "full", "truncation"]);
  expect(modesFor(null, false)).toEqual(["served"]);
  expect(modesFor(["full"], true)).toEqual(["full"]);
  expect(() => modesFor(["served"], true)).toThrow(/^--modes: served cannot be run, .*: say lambda, /);
  expect(() => modesFor(["served", "truncation"], false)).toThrow(
    /^--modes: truncation cannot be run, .* no lambdatap server, .*: say served$/,
  );
});

test("--help is asked for by no other options", () => {
  expect(readOptions(["--help"])).toBeNull();
});
