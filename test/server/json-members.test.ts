import { expect, test } from "vitest";
import { memberTexts } from "../../server/json-members.js";

test("each value comes in the words in which it was sent", () => {
  const object =
    '\n{ "a" : 1.0 ,"b":[1, {"c": "],}"}, []] , "d\\u0065\\"": "x\\\\" , "n": 12345678901234567890,"e":{ "2":1,"1":2 }\t}';
  expect([...memberTexts(object)]).toEqual([
    ["a", "1.0"],
    ["b", '[1, {"c": "],}"}, []]'],
    ['de"', '"x\\\\"'],
    ["n", "12345678901234567890"],
    ["e", '{ "2":1,"1":2 }'],
  ]);
});

test("of members with one name the last counts, whatever the name", () => {
  expect([...memberTexts('{"a": 1, "__proto__": 2, "a": 3}')]).toEqual([
    ["a", "3"],
    ["__proto__", "2"],
  ]);
});

test("strings of quotes and backslashes end where JSON ends them", () => {
  const values = ["", "\\", '"', '\\"', '\\\\"\\', '",:{}[]', "\u2028😀\ud800"];
  const object = JSON.stringify(Object.fromEntries(values.map((value, at) => [`${value}${at}`, value])));
  const found = [...memberTexts(object)].map(([name, text]) => [name, JSON.parse(text)]);
  expect(found).toEqual(values.map((value, at) => [`${value}${at}`, value]));
});

test("what has no members has none", () => {
  for (const text of ["{}", " { } ", "null", "[1, 2]", '"{\\"a\\": 1}"', "1"])
    expect([text, memberTexts(text).size]).toEqual([text, 0]);
});
