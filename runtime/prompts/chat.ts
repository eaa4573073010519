import type { Conversation } from "../../models/chat/chat-template.js";
import type { ChatTemplate } from "../../models/model-source.js";
import { InvalidRequest } from "../contract/errors.js";
import type { ChatPrompt } from "../contract/generation.js";
import type { Encoder } from "./encoder.js";
import { TemplateRenderer } from "./template-renderer.js";

/** Stands for what an assistant says, so that what comes behind it can be found: noncharacters, which no template has. */
const ANSWER = "\uFDD3\uFDD4";

/** Conversations of one model as prompts. */
export class Chat {
  readonly #renderer: TemplateRenderer;
  #turnEnd: Promise<readonly number[]> | undefined;

  constructor(
    private readonly template: ChatTemplate,
    private readonly encoder: Encoder,
  ) {
    this.#renderer = new TemplateRenderer(encoder.jobs);
  }

  /** Compiles the template. @throws ChatTemplateUnsupported, ChatTemplateFailed. */
  async check(): Promise<void> {
    await this.#renderer.check(this.template);
  }

  /** See `Engine.chatPrompt`. */
  async prompt(conversation: Conversation, signal: AbortSignal): Promise<ChatPrompt> {
    const text = await this.#renderer.render(this.template, conversation, signal);
    const ids = await this.encoder.encode(text, "messages");
    signal.throwIfAborted();
    if (ids.length === 0) throw new InvalidRequest("the model's chat template makes an empty text of them", "messages");
    return { ids, turnEndIds: await this.#turnEndIds() };
  }

  /** They are looked for once; where a process died or took too long, the next conversation looks again. */
  #turnEndIds(): Promise<readonly number[]> {
    this.#turnEnd ??= this.#findTurnEnd().catch((error: unknown) => {
      this.#turnEnd = undefined;
      throw error;
    });
    return this.#turnEnd;
  }

  /**
   * The special token that the template puts behind what an assistant says; none where it puts text or nothing there, or
   * refuses the conversation that shows it.
   */
  async #findTurnEnd(): Promise<readonly number[]> {
    const messages = [
      { role: "user", content: "Hello" },
      { role: "assistant", content: ANSWER },
    ];
    const asked = { addGenerationPrompt: false, continueFinalMessage: false, tools: null, variables: {} };
    try {
      const text = await this.#renderer.render(this.template, { ...asked, messages: JSON.stringify(messages) });
      const at = text.lastIndexOf(ANSWER);
      const [first] = at === -1 ? [] : await this.encoder.encode(text.slice(at + ANSWER.length), "messages");
      return first !== undefined && this.encoder.tokens.isSpecial(first) ? [first] : [];
    } catch (error) {
      if (error instanceof InvalidRequest) return [];
      throw error;
    }
  }
}
