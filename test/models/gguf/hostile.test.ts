import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { describeModel } from "../../../models/architectures/index.js";
import { compileModel } from "../../../models/compile.js";
import { ModelFormatError } from "../../../models/errors.js";
import { openModelSource } from "../../../models/model-source.js";
import { openTokenizer } from "../../../models/tokenizer/tokenizer.js";
import { goldenGguf, hostileCases } from "./golden-gguf.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

/** All that a start of the server reads of a model; null where it can be used, else what refuses it. */
async function use(path: string): Promise<unknown> {
  try {
    const source = openModelSource(path);
    const { shape } = describeModel(source.config());
    source.generation();
    source.chatTemplate();
    source.openCheckpoint().close();
    await openTokenizer(path, shape.vocabSize);
    await compileModel({ path, precision: "f32", cacheRoot });
    return null;
  } catch (error) {
    return error;
  }
}

const { limits, cases } = hostileCases();

describe("hostile GGUF files meet the reaction that their list names", () => {
  it.each(cases)("$file: $must", async ({ file, must, reason_names }) => {
    const path = goldenGguf(`hostile/${file}`);
    const before = process.memoryUsage().rss;
    const error = await use(path);
    expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(limits.extra_megabytes);
    if (must === "refuse") expect(error).not.toBe(null);
    if (must.startsWith("load")) expect(error).toBe(null);
    if (error === null) return;
    if (!(error instanceof ModelFormatError)) throw error;
    // The file that was asked for is no reason, another of its split is one.
    const other = basename(error.file) === file ? "" : basename(error.file);
    for (const name of reason_names) expect(`${other}: ${error.reason}`).toContain(name);
    expect(error.reason.length).toBeLessThan(1000);
  });

  it.each(["q8", "q4", "auto"] as const)(
    "NaN and infinite scales of blocks that are held are found, as %s",
    async (precision) => {
      for (const [file, tensor] of [
        ["nan-scale", "blk.0.ffn_up.weight"],
        ["inf-scale", "token_embd.weight"],
      ] as const) {
        const compiled = compileModel({ path: goldenGguf(`hostile/${file}.gguf`), precision, cacheRoot });
        await expect(compiled).rejects.toThrow(`NaN or infinite values in ${tensor}`);
        await expect(compiled).rejects.toBeInstanceOf(ModelFormatError);
      }
    },
  );

  it("leaves nothing of a file's keys in objects", () => {
    openModelSource(goldenGguf("hostile/key-proto.gguf")).config();
    expect(Reflect.get({}, "polluted")).toBeUndefined();
  });
});
