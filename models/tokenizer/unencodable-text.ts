/** A text that has no token ids for this model; the message is a sentence that follows "the text". */
export class UnencodableText extends Error {
  override readonly name = "UnencodableText";
}
