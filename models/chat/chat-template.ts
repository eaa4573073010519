/** JSON as it was sent: its numbers and the order of its members reach a template unchanged. */
export type JsonText = string;

/** What a template is rendered for. */
export interface Conversation {
  /** A list of messages: role, content and whatever else a template may look at. */
  readonly messages: JsonText;
  /** Ends the text with the beginning of an assistant's turn. */
  readonly addGenerationPrompt: boolean;
  /** Ends the text inside of the last message, so that what comes goes on with it. Not together with the above. */
  readonly continueFinalMessage: boolean;
  /** A list of functions' JSON schemas; null: none. */
  readonly tools: JsonText | null;
  /** Variables beyond the usual ones, by name (vLLM's `chat_template_kwargs`). */
  readonly variables: Readonly<Record<string, JsonText>>;
}

/** Names that a template takes for granted, so that `variables` may not have them. */
export const RESERVED_VARIABLES: ReadonlySet<string> = new Set([
  "messages",
  "tools",
  "documents",
  "add_generation_prompt",
  "namespace",
  "range",
  "dict",
  "raise_exception",
  "strftime_now",
]);
