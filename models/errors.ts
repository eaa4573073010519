/** A file of a model that cannot be used; the message says which file and why. */
export class ModelFormatError extends Error {
  override readonly name = "ModelFormatError";
  /** @param file path of the offending file, as the user would find it */
  constructor(
    readonly file: string,
    readonly reason: string,
  ) {
    super(`${file}: ${reason}`);
  }
}
