import type { ContentfulStatusCode } from "hono/utils/http-status";
import {
  ChatTemplateFailed,
  ChatTemplateUnsupported,
  DeviceLost,
  InvalidRequest,
  OutOfMemory,
  QueueFull,
  ShuttingDown,
} from "../runtime/contract/errors.js";
import type { GenerationFault } from "../runtime/contract/generation.js";

/** A refusal that is about HTTP rather than about the model: path, method, media type, size, host. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  constructor(
    readonly status: ContentfulStatusCode,
    readonly code: string,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }
}

/** The request names a model that this server does not have. */
export class UnknownModel extends Error {
  override readonly name = "UnknownModel";
  constructor(readonly model: string) {
    super(`The model '${model}' does not exist here (GET /v1/models lists those that do)`);
  }
}

/** The path names an SAE that is attached to none of the models asked about. */
export class UnknownSae extends Error {
  override readonly name = "UnknownSae";
  constructor(readonly sae: string) {
    super(`There is no SAE '${sae}' here (GET /v1/saes lists those that there are)`);
  }
}

/** The path names a feature that the SAE does not have. */
export class UnknownFeature extends Error {
  override readonly name = "UnknownFeature";
  constructor(
    readonly feature: string,
    readonly sae: string,
    dSae: number,
  ) {
    super(`There is no feature '${feature}' in SAE '${sae}', which has 0 to ${dSae - 1}`);
  }
}

/** A sequence failed while it was generated; the whole request ends with it. */
export class GenerationFailed extends Error {
  override readonly name = "GenerationFailed";
  constructor(readonly fault: GenerationFault) {
    super(fault.message);
  }
}

/** Whoever asked has hung up: nobody reads the answer. */
export class ClientGone extends Error {
  override readonly name = "ClientGone";
}

/** OpenAI's error object, as a body and as a server-sent event. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

export interface RenderedError {
  readonly status: ContentfulStatusCode;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
  /** The message says nothing of what happened: the log must. */
  readonly unexpected: boolean;
}

/** The only place where an error becomes a status and OpenAI's error object. */
export function renderError(error: unknown): RenderedError {
  if (error instanceof InvalidRequest) {
    const message = error.param === null ? error.message : `${error.param}: ${error.message}`;
    return known(400, "invalid_request_error", message, { param: error.param });
  }
  if (error instanceof UnknownModel) {
    return known(404, "invalid_request_error", error.message, { param: "model", code: "model_not_found" });
  }
  if (error instanceof UnknownSae) {
    return known(404, "invalid_request_error", error.message, { param: "sae", code: "sae_not_found" });
  }
  if (error instanceof UnknownFeature) {
    return known(404, "invalid_request_error", error.message, { param: "feature", code: "feature_not_found" });
  }
  if (error instanceof HttpError) {
    const type = error.status === 403 ? "permission_error" : "invalid_request_error";
    return known(error.status, type, error.message, { code: error.code, headers: error.headers });
  }
  if (error instanceof QueueFull) {
    return known(429, "rate_limit_error", error.message, { code: "queue_full", headers: { "Retry-After": "1" } });
  }
  if (error instanceof ChatTemplateUnsupported)
    return known(400, "invalid_request_error", error.message, { param: "messages", code: "chat_template_unsupported" });
  if (error instanceof ChatTemplateFailed)
    return known(500, "server_error", error.message, { code: "chat_template_failed" });
  if (error instanceof DeviceLost) return known(503, "server_error", error.message, { code: "device_lost" });
  if (error instanceof OutOfMemory) return known(503, "server_error", error.message, { code: "out_of_memory" });
  if (error instanceof ShuttingDown) return known(503, "server_error", error.message, { code: "shutting_down" });
  if (error instanceof ClientGone) return known(400, "invalid_request_error", error.message, { code: "client_gone" });
  if (error instanceof GenerationFailed && error.fault.kind === "no_token_left")
    return known(400, "invalid_request_error", error.message, { code: error.fault.kind });
  if (error instanceof GenerationFailed && error.fault.kind !== "internal") {
    const status = error.fault.kind === "shutting_down" ? 503 : 500;
    return known(status, "server_error", error.message, { code: error.fault.kind });
  }
  const message = "The server failed on this request; its log says why";
  return { ...known(500, "server_error", message, { code: "internal" }), unexpected: true };
}

function known(
  status: ContentfulStatusCode,
  type: string,
  message: string,
  more: { param?: string | null; code?: string; headers?: Readonly<Record<string, string>> },
): RenderedError {
  const body = { error: { message, type, param: more.param ?? null, code: more.code ?? null } };
  return { status, headers: more.headers ?? {}, body, unexpected: false };
}
