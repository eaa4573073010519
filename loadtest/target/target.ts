import * as z from "zod";
import { TargetFailure } from "./failure.js";
import { request, type Server } from "./request.js";

/** What a lambdatap server says of a model beyond OpenAI's fields. */
const LambdatapCard = z.object({
  architecture: z.string(),
  precision: z.string(),
  window: z.int().positive(),
  sinks: z.int().min(0),
  /** Tokens that may be kept for `lm_infinite.retrieve`; null: the model cannot; left out by servers from before it. */
  archive_tokens: z.int().min(0).nullish(),
  trained_length: z.int().positive(),
  layers: z.int().positive(),
  vocab_size: z.int().positive(),
  saes: z.array(z.string()),
  has_tokenizer: z.boolean(),
  bos_token_id: z.int().nullable(),
  adds_bos: z.boolean(),
});
export type LambdatapCard = z.output<typeof LambdatapCard>;

const Models = z.object({
  data: z.array(z.object({ id: z.string(), lambdatap: LambdatapCard.optional() })).min(1),
});

export interface TargetOptions {
  /** The server's address, with or without /v1. */
  readonly url: string;
  /** Which of its models; default: the first. */
  readonly model?: string | undefined;
  /** Sent as a bearer token; default: the environment's OPENAI_API_KEY. */
  readonly apiKey?: string | undefined;
  /** Silence after which a request has failed, ms. */
  readonly timeoutMs?: number;
}

/** A server that speaks OpenAI's protocol, and one of its models. */
export interface Target extends Server {
  readonly model: string;
  /** null: another server than lambdatap, which knows neither token ids nor `lm_infinite`. */
  readonly lambdatap: LambdatapCard | null;
}

const TIMEOUT_MS = 120_000;

/**
 * Asks a server what it serves.
 * @throws TargetFailure: unreachable, foreign (not OpenAI's protocol), refused (the model or the key).
 */
export async function openTarget(options: TargetOptions, signal?: AbortSignal): Promise<Target> {
  const apiKey = options.apiKey ?? process.env.OPENAI_API_KEY;
  const server: Server = {
    url: serverAddress(options.url),
    headers: apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` },
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
  };
  const { data } = await listModels(server, signal);
  const found = options.model === undefined ? data[0] : data.find(({ id }) => id === options.model);
  if (found === undefined) {
    const names = data.map(({ id }) => id).join(", ");
    throw new TargetFailure("refused", `${server.url} has no model '${options.model}', but ${names}`);
  }
  return { ...server, model: found.id, lambdatap: found.lambdatap ?? null };
}

async function listModels(server: Server, signal: AbortSignal | undefined): Promise<z.output<typeof Models>> {
  // Whoever trickles an endless page is no server of this protocol either.
  const limit = AbortSignal.timeout(server.timeoutMs);
  try {
    const answer = await request(server, "/v1/models", null, signal ? AbortSignal.any([signal, limit]) : limit);
    const text = await answer.text();
    const foreign = (why: string) => {
      const message = `${server.url} is no server of OpenAI's protocol: GET /v1/models answers ${why}`;
      return new TargetFailure("foreign", message, answer.status);
    };
    if (answer.status === 401 || answer.status === 403)
      throw new TargetFailure("refused", `${server.url} asks for another key: ${answer.status}`, answer.status);
    if (answer.status !== 200) throw foreign(`${answer.status}`);
    const models = Models.safeParse(jsonOf(text));
    if (!models.success) throw foreign("something else than a list of models");
    return models.data;
  } catch (error) {
    if (error !== limit.reason) throw error;
    throw new TargetFailure("timed out", `${server.url} did not list its models in ${server.timeoutMs / 1000} s`);
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function serverAddress(url: string): string {
  const named = URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
  if (!named) throw new TargetFailure("unreachable", `'${url}' is no address; say for example http://127.0.0.1:8080`);
  return url.replace(/\/+$/, "").replace(/\/v1$/, "");
}
