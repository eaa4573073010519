import { basename } from "node:path";
import type { Conversation } from "../../models/chat/chat-template.js";
import type { ChatTemplate } from "../../models/model-source.js";
import { ChatTemplateFailed, ChatTemplateUnsupported, InvalidRequest } from "../contract/errors.js";
import { JobKillsProcess, type JobProcess } from "./job-process.js";
import type { RenderOrder } from "./orders.js";

/** A rendering may take so long, and more if the conversation is long. It usually takes a few ms, the first some hundred. */
const LIMIT_MS = 2_000;
const MS_PER_CHARACTER = 1e-3;
/** A text may have so many characters more than its conversation. */
const EXTRA_LENGTH = 1 << 20;
/** Characters of a conversation's JSON: as many as the process has memory for, with room to spare. */
const LONGEST_CONVERSATION = 1 << 23;

/**
 * Renders chat templates in the process of the tokenizer, one conversation after the other. A process, because nothing else
 * gives back the memory of a template, or outlives what ends the interpreter.
 */
export class TemplateRenderer {
  #turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly jobs: JobProcess) {}

  /** @throws ChatTemplateUnsupported where Jinja cannot compile the template, ChatTemplateFailed where that takes too much. */
  async check(template: ChatTemplate): Promise<void> {
    await this.#carryOut({ type: "render", template, conversation: null, longest: 0, ms: LIMIT_MS });
  }

  /**
   * The text of a conversation.
   * @throws InvalidRequest (`messages`) where the template refuses it or it is too long, ChatTemplateUnsupported where
   * Jinja cannot compile the template, ChatTemplateFailed where it is broken or takes too much; the signal's reason when
   * it aborts before.
   */
  async render(template: ChatTemplate, conversation: Conversation, signal?: AbortSignal): Promise<string> {
    const size = sizeOf(conversation);
    if (size > LONGEST_CONVERSATION)
      throw new InvalidRequest(`expected a conversation of at most ${LONGEST_CONVERSATION} characters`, "messages");
    const ms = LIMIT_MS + Math.ceil(size * MS_PER_CHARACTER);
    return this.#carryOut({ type: "render", template, conversation, longest: EXTRA_LENGTH + 2 * size, ms }, signal);
  }

  /** The text; none where the template is only compiled. */
  async #carryOut(order: RenderOrder, signal?: AbortSignal): Promise<string> {
    const { template } = order;
    const result = await this.#inTurn(() => this.jobs.run(order), signal).catch((error: unknown) => {
      throw error instanceof JobKillsProcess ? failure(template, "its process died of it, twice") : error;
    });
    switch (result.type) {
      case "text":
        return result.text;
      case "accepted":
        return "";
      case "refused":
        throw new InvalidRequest(`the model's chat template refuses them: ${result.message}`, "messages");
      case "unsupported":
        throw new ChatTemplateUnsupported(`${nameOf(template)} is not supported: ${result.message}`);
      case "exhausted":
      case "failed":
        throw failure(template, result.message);
      default:
        throw new Error(`a template was ${result.type}`);
    }
  }

  /** Who hangs up waits no longer, and if it was not yet its turn it is passed over. */
  async #inTurn<T>(act: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    signal?.throwIfAborted();
    const turn = this.#turn.then(() => {
      signal?.throwIfAborted();
      return act();
    });
    this.#turn = turn.catch(() => {});
    return new Promise((resolve, reject) => {
      const leave = () => reject(signal?.reason);
      signal?.addEventListener("abort", leave, { once: true });
      void turn.then(resolve, reject).finally(() => signal?.removeEventListener("abort", leave));
    });
  }
}

const nameOf = ({ file }: ChatTemplate): string => `the model's chat template (${basename(file)})`;

const failure = (template: ChatTemplate, reason: string): ChatTemplateFailed =>
  new ChatTemplateFailed(`${nameOf(template)} cannot be rendered: ${reason}`);

function sizeOf({ messages, tools, variables }: Conversation): number {
  return [messages, tools ?? "", ...Object.values(variables)].reduce((size, json) => size + json.length, 0);
}
