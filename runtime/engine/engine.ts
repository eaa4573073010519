import { Worker } from "node:worker_threads";
import { describeModel } from "../../models/architectures/index.js";
import type { Conversation } from "../../models/chat/chat-template.js";
import { readTemplateFile } from "../../models/chat/hugging-face-chat-template.js";
import { type ChatTemplate, type ModelSource, openModelSource } from "../../models/model-source.js";
import { archivedAtOnce } from "../cache/retrieval.js";
import { DeviceLost, InvalidRequest, QueueFull, SetupError, ShuttingDown } from "../contract/errors.js";
import type { FeatureDescription } from "../contract/features.js";
import type {
  ChatPrompt,
  Engine,
  EngineCounts,
  GenerationEvent,
  ModelCard,
  SequenceRequest,
} from "../contract/generation.js";
import { Chat } from "../prompts/chat.js";
import { Encoder } from "../prompts/encoder.js";
import { tokenText } from "../sampling/detokenizer.js";
import { admit } from "./admission.js";
import { calibrationIds } from "./calibration-ids.js";
import { EventStream } from "./event-stream.js";
import type { EngineCommand, EngineReport } from "./messages.js";
import { type LocalEngineOptions, threadOptions } from "./options.js";
import { fromFault } from "./thread-fault.js";

/** Who asked for a feature's description. */
interface Waiting {
  resolve(description: FeatureDescription): void;
  reject(error: Error): void;
}

/** A model on a thread of this process. */
export class LocalEngine implements Engine {
  readonly #streams = new Map<number, EventStream>();
  readonly #descriptions = new Map<number, Waiting>();
  readonly #exited: Promise<void>;
  #outstanding = 0;
  /** Tokens that the archives of all requests may come to hold at once. */
  #archived = 0;
  #requests = 0;
  #counts: EngineCounts = { prefixBytes: 0, saturated: 0 };
  #draining = false;
  #drained: (() => void)[] = [];
  #closed: Promise<void> | undefined;
  #broken: Error | null = null;

  private constructor(
    readonly card: ModelCard,
    readonly options: LocalEngineOptions,
    readonly fullLength: number,
    private readonly worker: Worker,
    private readonly encoder: Encoder | null,
    private readonly chat: Chat | null,
  ) {
    worker.on("message", (message: EngineReport) => {
      if (message.type === "lost") this.#break(new DeviceLost(message.message));
      if (message.type === "events") {
        this.#counts = message.counts;
        for (const { request, events } of message.outbox) this.#streams.get(request)?.push(events);
      }
      if (message.type !== "description" && message.type !== "not-described") return;
      const asked = this.#descriptions.get(message.request);
      this.#descriptions.delete(message.request);
      if (message.type === "description") asked?.resolve(message.description);
      else asked?.reject(fromFault(message.fault));
    });
    worker.on("error", (error) => this.#break(new Error(`the engine's thread failed: ${error.message}`)));
    this.#exited = new Promise((resolve) => {
      worker.on("exit", () => {
        this.#break(new Error("the engine's thread has ended"));
        resolve();
      });
    });
  }

  /**
   * Loads a model, compiling it first if the cache does not have it.
   * @param onProgress called with the share of a compilation done, 0 to 1
   * @param onNotice called with lines for the log, also later: why a GPU that is there is not used, what leaves one
   * @throws ModelFormatError, CacheError, SetupError, ChatTemplateUnsupported or ChatTemplateFailed with a sentence for
   * the user.
   */
  static async start(
    options: LocalEngineOptions,
    onProgress?: (share: number) => void,
    onNotice?: (line: string) => void,
  ): Promise<LocalEngine> {
    const source = openModelSource(options.model);
    const { path } = source;
    const { vocabSize } = describeModel(source.config()).shape;
    const template = templateOf(source, options.chatTemplate);
    const worker = new Worker(new URL("./thread.js", import.meta.url), {
      workerData: threadOptions(path, options, template !== null),
      resourceLimits: { maxYoungGenerationSizeMb: 8 },
    });
    worker.on("message", (message: EngineReport) => {
      if (message.type === "notice") onNotice?.(message.line);
      if (message.type === "lost") onNotice?.(`${message.message}.`);
    });
    const loaded = ready(worker, onProgress);
    loaded.catch(() => {}); // it may fail before it is awaited
    const exited = new Promise((resolve) => worker.once("exit", resolve));
    const { encoder, calibration } = await startTexts(path, vocabSize, options).catch(async (error: unknown) => {
      // Not by `terminate`: a thread that is ended inside a native call takes the process along.
      worker.postMessage({ type: "close" } satisfies EngineCommand);
      await exited;
      throw error;
    });
    try {
      const tokens = encoder?.tokens.data ?? null;
      worker.postMessage({ type: "tokenizer", tokens, calibration } satisfies EngineCommand);
      const { card, fullLength } = await loaded;
      const chat =
        template !== null && encoder !== null ? new Chat(withTokens(template, card, encoder), encoder) : null;
      if (options.chatTemplate !== undefined) await chat?.check();
      return new LocalEngine(card, options, fullLength, worker, encoder, chat);
    } catch (error) {
      encoder?.close();
      await worker.terminate();
      throw error;
    }
  }

  async encode(text: string, at = "prompt"): Promise<Int32Array<ArrayBuffer>> {
    if (this.encoder === null) throw new InvalidRequest(`${this.card.id} has no tokenizer: give token ids`, at);
    return this.encoder.encode(text, at);
  }

  async chatPrompt(conversation: Conversation, signal: AbortSignal): Promise<ChatPrompt> {
    if (this.encoder === null)
      throw new InvalidRequest(`${this.card.id} has no tokenizer, so it cannot read them`, "messages");
    if (this.chat !== null) return this.chat.prompt(conversation, signal);
    const how = "start the server with --chat-template <file>, or use /v1/completions";
    throw new InvalidRequest(`${this.card.id} has no chat template: ${how}`, "messages");
  }

  tokenTexts(ids: ArrayLike<number>): string[] {
    return Array.from(ids, (id) => tokenText(this.encoder?.tokens ?? null, id));
  }

  decode(ids: ArrayLike<number>, special: "skip" | "keep" = "skip"): string {
    return this.encoder?.tokens.decode(ids, special) ?? "";
  }

  generate(sequences: readonly SequenceRequest[], signal: AbortSignal): AsyncIterable<GenerationEvent> {
    if (this.#draining) throw new ShuttingDown("the server is shutting down");
    if (this.#broken) throw this.#broken;
    this.#checkRoom();
    admit(sequences, this.card, this.fullLength);
    const archived = archivedAtOnce(sequences, this.card.parallel);
    this.#checkArchive(archived);
    const request = this.#requests++;
    const onAbort = () => stream.abort(null);
    const stream = new EventStream({
      sequences: sequences.length,
      acknowledge: (credit) => this.#tell({ type: "acknowledge", request, credit }),
      closed: (finished) => {
        signal.removeEventListener("abort", onAbort);
        this.#streams.delete(request);
        if (!finished) this.#tell({ type: "cancel", request });
        this.#outstanding -= sequences.length;
        this.#archived -= archived;
        if (this.#outstanding === 0) for (const resolve of this.#drained.splice(0)) resolve();
      },
    });
    this.#streams.set(request, stream);
    this.#outstanding += sequences.length;
    this.#archived += archived;
    if (signal.aborted) stream.abort(null);
    else {
      signal.addEventListener("abort", onAbort);
      this.#tell({ type: "submit", request, sequences });
    }
    return stream;
  }

  async describeFeature(sae: string, feature: number, top: number): Promise<FeatureDescription> {
    if (this.#broken) throw this.#broken;
    const card = this.card.saes.find(({ id }) => id === sae);
    if (card === undefined) throw new InvalidRequest(`there is no SAE '${sae}'`, "sae");
    if (!(Number.isInteger(feature) && feature >= 0 && feature < card.dSae))
      throw new InvalidRequest(`${sae} has features 0 to ${card.dSae - 1}`, "feature");
    const request = this.#requests++;
    return new Promise((resolve, reject) => {
      this.#descriptions.set(request, { resolve, reject });
      this.#tell({ type: "describe", request, sae, feature, top });
    });
  }

  get failure(): string | null {
    return this.#broken?.message ?? null;
  }

  load(): { running: number; waiting: number } {
    const running = Math.min(this.#outstanding, this.card.parallel);
    return { running, waiting: this.#outstanding - running };
  }

  get counts(): EngineCounts {
    return this.#counts;
  }

  async drain(): Promise<void> {
    this.#draining = true;
    if (this.#outstanding > 0) await new Promise<void>((resolve) => this.#drained.push(resolve));
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#draining = true;
    for (const stream of [...this.#streams.values()]) stream.abort(new ShuttingDown("the server is shutting down"));
    this.#tell({ type: "close" });
    this.encoder?.close();
    await this.#exited;
  }

  #tell(command: EngineCommand): void {
    this.worker.postMessage(command);
  }

  #break(error: Error): void {
    this.#broken ??= error;
    for (const stream of [...this.#streams.values()]) stream.abort(this.#broken);
    for (const { reject } of this.#descriptions.values()) reject(this.#broken);
    this.#descriptions.clear();
  }

  /** Counts what waits already, not what is asked for: a request of more sequences than may wait is taken by an idle engine. */
  #checkRoom(): void {
    const { queueLimit } = this.options;
    if (this.#outstanding < this.card.parallel + queueLimit) return;
    const { running, waiting } = this.load();
    throw new QueueFull(`${running} sequences run and ${waiting} wait, of ${queueLimit} that may; try again later`);
  }

  #checkArchive(more: number): void {
    const room = this.card.archiveTokens ?? 0;
    if (more > room)
      throw new InvalidRequest(`${more} tokens at once are more than archives hold, ${room}`, "lm_infinite.retrieve");
    if (this.#archived + more <= room) return;
    const taken = `archives of other texts hold ${this.#archived} of ${room} tokens`;
    throw new QueueFull(`${taken}, and this request needs ${more}; try again later`);
  }
}

/**
 * The model's tokenizer, and ids of the calibration text.
 * @throws ModelFormatError as `Encoder.start` and `calibrationIds`, SetupError where a template was given to a model without
 * a tokenizer.
 */
async function startTexts(path: string, vocabSize: number, { chatTemplate }: LocalEngineOptions) {
  const encoder = await Encoder.start(path, vocabSize);
  try {
    if (encoder === null && chatTemplate !== undefined)
      throw new SetupError(`${path} has no tokenizer, so it cannot use the chat template ${chatTemplate}.`);
    return { encoder, calibration: await calibrationIds(path, encoder) };
  } catch (error) {
    encoder?.close();
    throw error;
  }
}

/** The model's own template, or the one in the file. @throws ModelFormatError. */
function templateOf(source: ModelSource, file: string | undefined): ChatTemplate | null {
  const own = source.chatTemplate();
  return file === undefined ? own : { file, template: readTemplateFile(file), tokens: own?.tokens ?? {} };
}

/** A template that was given to a model without one: what it may name is known by ids alone. */
function withTokens(template: ChatTemplate, { bosTokenId, eosTokenIds }: ModelCard, encoder: Encoder): ChatTemplate {
  if (Object.keys(template.tokens).length > 0) return template;
  const named = { bos_token: bosTokenId, eos_token: eosTokenIds[0] };
  const tokens = Object.entries(named).flatMap(([name, id]) =>
    typeof id === "number" ? [[name, encoder.tokens.text(id)] as const] : [],
  );
  return { ...template, tokens: Object.fromEntries(tokens) };
}

function ready(
  worker: Worker,
  onProgress: ((share: number) => void) | undefined,
): Promise<Extract<EngineReport, { type: "ready" }>> {
  return new Promise((resolve, reject) => {
    worker.on("message", (message: EngineReport) => {
      if (message.type === "progress") onProgress?.(message.share);
      if (message.type === "ready") resolve(message);
      if (message.type === "failed") reject(fromFault(message.fault));
    });
    worker.once("error", reject);
    worker.once("exit", () => reject(new Error("the engine's thread ended before it was ready")));
  });
}
