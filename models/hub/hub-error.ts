/** What kept something of a hub from us: nobody answers, a right is missing, it is not there, it is wrong, or there is no room. */
export type HubFault = "unreachable" | "access" | "missing" | "busy" | "wrong" | "no-room";

/** A model of a hub cannot be had; the message is a sentence for the user, with what to do. */
export class HubError extends Error {
  override readonly name = "HubError";
  constructor(
    readonly fault: HubFault,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A file came whole, but is not the file that the hub lists. Nothing of it is kept. */
export class ChecksumError extends Error {
  override readonly name = "ChecksumError";
  /** Sums in hex, by `algorithm`: sha256 of the bytes, or git's name of a blob. */
  constructor(
    readonly file: string,
    readonly algorithm: "sha256" | "git-sha1",
    readonly expected: string,
    readonly found: string,
  ) {
    super(
      `${file}: its ${algorithm} is ${found}, but the hub lists ${expected}; it is thrown away. Pull again, and if it comes the same, the hub or a mirror serves a wrong file.`,
    );
  }
}
