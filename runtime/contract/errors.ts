/** A request that this model cannot run; `param` names the field in the request body, in its spelling on the wire. */
export class InvalidRequest extends Error {
  override readonly name = "InvalidRequest";
  constructor(
    message: string,
    readonly param: string | null,
  ) {
    super(message);
  }
}

/** There is no room for another sequence; the caller may come back. */
export class QueueFull extends Error {
  override readonly name = "QueueFull";
}

/** The engine does not take requests any more. */
export class ShuttingDown extends Error {
  override readonly name = "ShuttingDown";
}

/** The GPU does not answer any more, and will not before the server is started again. */
export class DeviceLost extends Error {
  override readonly name = "DeviceLost";
}

/** There is no memory for it now; it may be asked for again. */
export class OutOfMemory extends Error {
  override readonly name = "OutOfMemory";
}

/** The machine refused something that the server needs (a folder, a library, a port); the message is a sentence for the user. */
export class SetupError extends Error {
  override readonly name = "SetupError";
}

/** Jinja cannot compile the model's chat template, so there is no chat with it; the message names the construct. */
export class ChatTemplateUnsupported extends Error {
  override readonly name = "ChatTemplateUnsupported";
}

/** The model's chat template cannot be rendered: it is broken, or it takes too much time or memory. Not the request's fault. */
export class ChatTemplateFailed extends Error {
  override readonly name = "ChatTemplateFailed";
}

/**
 * What is wrong with a snapshot. foreign: other bytes; version: of another build; damaged: not what was written; model: of
 * other weights, another precision or other positions; geometry: of a window or starting tokens that are not served here;
 * request: of a text that this server does not go on with; size: larger than an array can be.
 */
export type SnapshotProblem = "foreign" | "version" | "damaged" | "model" | "geometry" | "request" | "size";

/** A snapshot that cannot be taken, or that nothing is restored from; the message is a sentence for the user. */
export class SnapshotError extends Error {
  override readonly name = "SnapshotError";
  constructor(
    readonly problem: SnapshotProblem,
    message: string,
  ) {
    super(message);
  }
}
