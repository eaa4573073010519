import {
  type Conversation,
  compileChatTemplate,
  type RenderLimits,
  TemplateRefusal,
} from "../models/chat/chat-template.js";
import type { ChatTemplate } from "../models/model-source.js";

/** To the process; what to render comes with the template, so that every message stands for itself. */
export interface RenderOrder {
  readonly template: ChatTemplate;
  readonly conversation: Conversation;
  readonly limits: RenderLimits;
}

/** From the process: once ready, then a result for each order. */
export type TemplateReport = { readonly type: "ready" } | Rendered;

export type Rendered =
  | { readonly type: "text"; readonly text: string }
  /** The template raised on this conversation. */
  | { readonly type: "refused"; readonly message: string }
  /** It is broken, or it reached a limit. */
  | { readonly type: "failed"; readonly message: string };

const report = (message: TemplateReport): void => void process.send?.(message);

let compiled: { readonly template: string; readonly render: ReturnType<typeof compileChatTemplate> } | undefined;

function render({ template, conversation, limits }: RenderOrder): Rendered {
  try {
    if (compiled?.template !== template.template)
      compiled = { template: template.template, render: compileChatTemplate(template) };
    return { type: "text", text: compiled.render(conversation, limits) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { type: error instanceof TemplateRefusal ? "refused" : "failed", message };
  }
}

// A signal to the whole group (Ctrl-C) lets the server end its requests first; when the server has gone, so does this.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
process.on("disconnect", () => process.exit(0));
process.on("message", (order: RenderOrder) => report(render(order)));
report({ type: "ready" });
