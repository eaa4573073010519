import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type * as z from "zod";

/**
 * The results of a long run, one JSON line each, written as they come: what was measured is kept however the run ends, and
 * a run with the same settings goes on where it stopped. The first line is the settings.
 */
export class Journal<Entry> {
  private constructor(
    readonly path: string,
    readonly entries: Entry[],
  ) {}

  /**
   * Opens or begins a journal. A last line that was cut off is dropped.
   * @throws Error where the file belongs to a run with other settings, or is none of ours.
   */
  static open<Entry>(path: string, settings: object, schema: z.ZodType<Entry>): Journal<Entry> {
    const head = JSON.stringify(settings);
    mkdirSync(dirname(path), { recursive: true });
    const [first, ...rest] = existsSync(path) ? readFileSync(path, "utf8").split("\n") : [];
    if (first !== undefined && first !== "" && first !== head)
      throw new Error(
        `${path} holds a run with other settings${differing(first, head)}; say another --out, or delete it`,
      );
    const entries = rest.slice(0, -1).map((line, i) => readEntry(path, i + 2, line, schema));
    const lines = [head, ...entries.map((entry) => JSON.stringify(entry)), ""].join("\n");
    writeFileSync(`${path}.new`, lines);
    renameSync(`${path}.new`, path);
    return new Journal(path, entries);
  }

  add(entry: Entry): void {
    appendFileSync(this.path, `${JSON.stringify(entry)}\n`);
    this.entries.push(entry);
  }
}

/** Names of the settings that differ, in brackets. */
function differing(first: string, head: string): string {
  const settings = (line: string): Map<string, unknown> => {
    try {
      return new Map(Object.entries(Object(JSON.parse(line))));
    } catch {
      return new Map();
    }
  };
  const [before, now] = [settings(first), settings(head)];
  const names = [...now.keys()].filter((name) => JSON.stringify(before.get(name)) !== JSON.stringify(now.get(name)));
  return names.length === 0 ? "" : ` (${names.join(", ")})`;
}

function readEntry<Entry>(path: string, line: number, text: string, schema: z.ZodType<Entry>): Entry {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new Error(`${path}, line ${line} is no result of this command`, { cause: error });
  }
}
