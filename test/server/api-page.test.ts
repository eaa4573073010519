import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../models/package-root.js";
import { ChatBody } from "../../server/openai/request/chat-request.js";
import { CompletionRequest } from "../../server/openai/request/completion-request.js";
import { API_PAGE, withFieldTables } from "./api-page.js";

const page = readFileSync(join(packageRoot(), API_PAGE), "utf8");

test("the page has the server's tables of other servers' fields (npm run generate:api writes them)", () => {
  expect(page).toBe(withFieldTables(page));
});

test.each([
  ["completions", CompletionRequest, 1],
  ["chat", ChatBody, 2],
] as const)("the page lists every field of %s that is obeyed, and no other", (_, { shape }, column) => {
  const obeyed = page.slice(page.indexOf("## Obeyed"), page.indexOf("## Refused"));
  const rows = obeyed.split("\n").map((line) => line.split("|").map((cell) => cell.trim()));
  const listed = rows
    .filter((cells) => cells[column + 1] === "yes")
    .flatMap((cells) => [...(cells[1] ?? "").matchAll(/`(\w+)`/g)].map(([, name]) => name));
  expect(listed.sort()).toEqual(Object.keys(shape).sort());
});
