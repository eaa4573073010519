import type { Hub, Subject } from "./hub.js";
import { HubError } from "./hub-error.js";

/** What an answer that is no success means for the user. The hub says why in X-Error-Code; mirrors often do not. */
export function refusal(hub: Hub, { repository, revision }: Subject, { status, headers, url }: Response): HubError {
  const code = headers.get("x-error-code");
  const page = `${hub.endpoint}/${repository}`;
  if (code === "RevisionNotFound")
    return new HubError(
      "missing",
      `${repository} has no revision '${revision}': ${page}/tree/main lists branches and tags`,
    );
  if (code === "GatedRepo") {
    const remedy = hub.token === null ? "and set HF_TOKEN to a token of yours" : "with the account of HF_TOKEN";
    return new HubError("access", `${repository} is gated: accept its terms at ${page} ${remedy}`);
  }
  if (code === "RepoNotFound" || (status === 404 && code === null)) {
    const remedy =
      hub.token === null
        ? "if it is private, set HF_TOKEN to a token that may read it"
        : "or HF_TOKEN may not read it, if it is private";
    return new HubError(
      "missing",
      `${hub.endpoint} has no model ${repository} with a revision '${revision}': check the spelling; ${remedy}`,
    );
  }
  if (status === 404) return new HubError("missing", `${repository} at '${revision}' does not hold ${url}`);
  if (status === 401 || status === 403) {
    const remedy =
      hub.token === null
        ? "set HF_TOKEN to a token that may read it"
        : "the token in HF_TOKEN is wrong or may not read it; a new one is made";
    return new HubError(
      "access",
      `${hub.endpoint} does not give ${repository} to us (${status}): ${remedy} (${hub.endpoint}/settings/tokens)`,
    );
  }
  if (status === 429) {
    const remedy =
      hub.token === null ? "try again later, or set HF_TOKEN: with a token more is allowed" : "try again later";
    return new HubError("busy", `${hub.endpoint} says that we ask too often (429): ${remedy}`);
  }
  if (status >= 500)
    return new HubError("busy", `${hub.endpoint} fails (${status}): try again later; what has come so far is kept`);
  return new HubError("wrong", `${hub.endpoint} answers ${status} for ${repository}, which no hub should`);
}

/** Nobody answers at the hub's address, or the connection breaks time and again. */
export function unreachable(hub: Hub, { repository }: Subject, error: unknown): HubError {
  const reason = reasonOf(error);
  return new HubError(
    "unreachable",
    `${repository} cannot be fetched, because ${hub.endpoint} cannot be reached (${reason}): check the network, or HF_ENDPOINT if you use a mirror`,
    { cause: error },
  );
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return error.cause === undefined ? error.message : reasonOf(error.cause);
}
