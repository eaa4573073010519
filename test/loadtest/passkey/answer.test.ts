import { expect, test } from "vitest";
import { firstInteger } from "../../../loadtest/passkey/answer.js";

test.each([
  ["12345", 12345],
  [" 12345. Remember it", 12345],
  ["12345.", 12345],
  ["The key is 12, not 345", 12],
  ["123456", 123456],
  ["", null],
  ["no number here", null],
])("the first integer of '%s' is %s", (answer, expected) => {
  expect(firstInteger(answer)).toBe(expected);
});
