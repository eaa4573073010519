import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { packageRoot } from "../../models/package-root.js";
import { LAB_COMMANDS } from "../../server/cli/lab/lab-commands.js";

const page = readFileSync(join(packageRoot(), "docs", "lab.md"), "utf8");
const Line = z.object({
  max: z.number(),
  top: z.array(z.object({ ids: z.array(z.int()), values: z.array(z.number()), at: z.int() })),
});
const commands = page.split("\n").filter((line) => line.startsWith("lambdatap lab "));

describe("docs/lab.md", () => {
  test("shows every command of the lab", () => {
    const shown = new Set(commands.map((line) => line.split(" ").slice(1, 3).join(" ")));
    expect([...shown].sort()).toEqual(Object.keys(LAB_COMMANDS).sort());
  });

  test.each(commands)("has flags that there are: %s", (line) => {
    const help = LAB_COMMANDS[line.split(" ").slice(1, 3).join(" ")]?.help() ?? "";
    for (const [flag] of line.matchAll(/--[a-z-]+/g)) expect(help.split(/\s+/)).toContain(flag);
  });

  test("has a line of features.jsonl as it is written", () => {
    const [, line = ""] = /```json\n([^`]*)```/.exec(page) ?? [];
    const { max, top } = Line.parse(JSON.parse(line));
    expect(top.map(({ ids, values, at }) => [ids.length, values.length, values[at]])).toEqual([[32, 32, max]]);
  });
});
