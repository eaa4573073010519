import { createHash } from "node:crypto";
import { fuseDecoder, Tokenizer as LibraryTokenizer } from "tokenizers";
import { ModelFormatError } from "../errors.js";
import { openModelSource, type TokenizerJson } from "../model-source.js";
import { mayBeCut, textPieces } from "./text-pieces.js";
import { packTokenBytes, type TokenBytes, type TokenEntry, TokenFlag } from "./token-bytes.js";
import { type LibraryStep, tokenDecoder } from "./token-decoder.js";
import { parseTokenizerFile, type TokenizerFile, vocabularyOf } from "./tokenizer-file.js";
import { UnencodableText } from "./unencodable-text.js";

/** A model's tokenizer.json, in Hugging Face's own library. */
export interface Tokenizer {
  /**
   * Ids of a text, made on a thread of the library's. None are added; special tokens that stand in the text are recognised.
   * @throws UnencodableText where it holds half a surrogate pair, a token that the model does not know, or what the
   * tokenizer has no token for.
   */
  encode(text: string): Promise<Int32Array<ArrayBuffer>>;
  /**
   * Parts of a text, at least `length` UTF-16 units each where it can be cut at all, such that the ids of all parts are the
   * ids of the text. One part where this tokenizer or this text has no safe place.
   */
  pieces(text: string, length: number): Iterable<string>;
  /** Bytes of every token. */
  readonly tokens: TokenBytes;
  /** SHA-256 of the file. */
  readonly digest: string;
}

const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * The tokenizer of the model at `path`; null where it has none. A hostile file can make the library end the
 * whole process, at the latest when a text is encoded.
 * @param vocabSize number of ids that the model knows
 * @throws ModelFormatError where it is broken, of an unsupported kind, or its vocabulary has ids that the model does not know.
 */
export async function openTokenizer(path: string, vocabSize: number): Promise<Tokenizer | null> {
  const json = openModelSource(path).tokenizer();
  return json === null ? null : readTokenizer(json, vocabSize);
}

async function readTokenizer(json: TokenizerJson, vocabSize: number): Promise<Tokenizer> {
  const file = parseTokenizerFile(json);
  try {
    const library = openLibrary(json.text);
    const tokens = await tokenBytes(file, library, vocabSize);
    const encode = (text: string) => encodeWith(library, text, vocabSize);
    const cut = mayBeCut(file);
    return {
      tokens,
      encode,
      pieces: (text, length) => textPieces(text, cut ? length : Number.POSITIVE_INFINITY),
      digest: createHash("sha256").update(json.text).digest("hex"),
    };
  } catch (error) {
    throw new ModelFormatError(json.file, error instanceof Error ? error.message : String(error));
  }
}

function openLibrary(text: string): LibraryTokenizer {
  const library = LibraryTokenizer.fromString(text);
  library.disableTruncation();
  library.disablePadding();
  // Text is made of tokens by ours, which can do it token by token; this shows what the library would hand to its own.
  library.setDecoder(fuseDecoder());
  return library;
}

async function encodeWith(
  library: LibraryTokenizer,
  text: string,
  vocabSize: number,
): Promise<Int32Array<ArrayBuffer>> {
  if (LONE_SURROGATE.test(text)) throw new UnencodableText("holds half of a surrogate pair, which is no character");
  const encoding = await library.encode(text, null, { addSpecialTokens: false }).catch((error) => {
    throw new UnencodableText(`cannot be encoded: ${error instanceof Error ? error.message : error}`);
  });
  const ids = encoding.getIds();
  for (const id of ids) {
    if (id < vocabSize) continue;
    const name = JSON.stringify(library.idToToken(id));
    throw new UnencodableText(`holds ${name}, token ${id}, which the model does not know (0 to ${vocabSize - 1})`);
  }
  return new Int32Array(ids);
}

async function tokenBytes(file: TokenizerFile, library: LibraryTokenizer, vocabSize: number): Promise<TokenBytes> {
  const decoder = tokenDecoder(file.decoder, libraryStep);
  const tokens: (TokenEntry | undefined)[] = new Array(vocabSize).fill(undefined);
  const added = new Set((file.added_tokens ?? []).filter(({ content }) => content !== "").map(({ id }) => id));
  checkAddedIds(file, library);
  for (const [token, id] of vocabularyOf(file)) {
    if (added.has(id)) continue;
    if (id >= vocabSize) throw new Error(`it has token id ${id}, but the model knows only ids below ${vocabSize}`);
    if (tokens[id]) throw new Error(`it has several tokens with the id ${id}`);
    tokens[id] = decoder.entry(token);
  }
  // Added tokens beyond the model's ids do no harm until a text has one.
  const known = [...added].filter((id) => id < vocabSize);
  const each = known.map((id) => [id]);
  // In what the library decodes, an added token may stand in normalized form, which then decides whether it is special.
  const [texts, kept] = [await library.decodeBatch(each, false), await library.decodeBatch(each, true)];
  for (const [i, id] of known.entries()) {
    const entry = decoder.entry(texts[i] ?? "");
    tokens[id] = { ...entry, flags: entry.flags | (texts[i] !== kept[i] ? TokenFlag.special : 0) };
  }
  return packTokenBytes(tokens, decoder.rules);
}

/** The library numbers added tokens by their place, whatever ids the file gives them. */
function checkAddedIds({ added_tokens }: TokenizerFile, library: LibraryTokenizer): void {
  for (const { id, content } of added_tokens ?? []) {
    const counted = library.tokenToId(content);
    if (content === "" || counted === id) continue;
    const name = JSON.stringify(content);
    throw new Error(`its added token ${name} has the id ${id}, but by its place it is token ${counted} to the library`);
  }
}

/** The library decodes with a whole tokenizer only, so it gets one with a single word. */
const libraryStep: LibraryStep = (step) => {
  const text = JSON.stringify({ model: { type: "WordLevel", vocab: { a: 0 }, unk_token: "a" }, decoder: step });
  const decoder = LibraryTokenizer.fromString(text).getDecoder();
  return (token) => decoder?.decode([token]) ?? token;
};
