import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { z } from "zod";
import type { TokenBytes } from "../../../models/tokenizer/token-bytes.js";
import { Detokenizer, startOfText } from "../../../runtime/sampling/detokenizer.js";
import { inPieces, opened } from "./opened.js";

const Text = z.string().nullable();
const Row = z.object({ ids: z.array(z.int()), kept: Text.optional(), text: Text.optional(), cut: Text });
const Golden = z.object({
  strings: z.array(z.string()),
  vocabularies: z.record(z.string(), z.looseObject({})),
  tokenizers: z.record(
    z.string(),
    z.object({ vocabulary: z.string(), model: z.looseObject({}), file: z.looseObject({}), rows: z.array(Row) }),
  ),
});
const path = join("test", "golden", "tokenizers", "tokenizers.json.gz");
const { strings, vocabularies, tokenizers } = Golden.parse(JSON.parse(gunzipSync(readFileSync(path)).toString()));

const folders = mkdtempSync(join(tmpdir(), "lambdatap-golden-"));
afterAll(() => rmSync(folders, { recursive: true }));

function streamed(tokens: TokenBytes, ids: readonly number[]): string {
  const detokenizer = new Detokenizer(tokens, startOfText(tokens));
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()].join("");
}

/** Of bytes that are broken as a whole: the stream, which keeps 64 of them at most, has given out its whole characters. */
const isLongRun = (text: string): boolean => /\ufffd{64}/.test(text);

test.each(Object.entries(tokenizers))(
  "%s: ids and texts are the Rust library's, whole, in pieces and token by token",
  async (name, { vocabulary, model, file, rows }) => {
    const folder = join(folders, name);
    mkdirSync(folder);
    const whole = { ...file, model: { ...model, ...vocabularies[vocabulary] } };
    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(whole));
    const tokenizer = await opened(folder, 1000);
    const { tokens } = tokenizer;
    const found = await Promise.all(
      rows.map(async ({ ids, cut }, i) => {
        const text = strings[i] ?? "";
        const middle = ids.slice(1, -1);
        return {
          text,
          ids: [...(await tokenizer.encode(text))],
          pieces: [...(await inPieces(tokenizer, text, 1))],
          texts: [tokens.decode(ids, "keep"), tokens.decode(ids), streamed(tokens, ids)],
          cut: cut === null ? [] : [tokens.decode(middle), isLongRun(cut) ? cut : streamed(tokens, middle)],
        };
      }),
    );
    const wanted = rows.map(({ ids, kept, text, cut }, i) => {
      const string = strings[i] ?? "";
      // What fails there is nothing here.
      const [all, plain] = [kept === undefined ? string : (kept ?? ""), text ?? kept ?? (kept === null ? "" : string)];
      return { text: string, ids, pieces: ids, texts: [all, plain, plain], cut: cut === null ? [] : [cut, cut] };
    });
    expect(found).toEqual(wanted);
  },
);
