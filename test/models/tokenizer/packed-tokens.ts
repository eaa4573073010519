import { packTokenBytes, type TokenBytes, TokenFlag } from "../../../models/tokenizer/token-bytes.js";

/** A vocabulary of these bytes, of which any may be part of a character; `strip`: spaces that a text loses at its start. */
export const packedTokens = (tokens: readonly Uint8Array[], special: readonly number[] = [], strip = 0): TokenBytes =>
  packTokenBytes(
    tokens.map((bytes, id) => ({ bytes, flags: special.includes(id) ? TokenFlag.special : 0 })),
    { spelled: false, strip: { content: " ", count: strip } },
  );
