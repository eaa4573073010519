import type { Conversation } from "../models/chat/chat-template.js";
import { type Checked, type Jinja, type Rendered, startJinja } from "../models/chat/jinja.js";
import type { ChatTemplate } from "../models/model-source.js";

/** To the process; what to render comes with the template, so that every message stands for itself. */
export interface RenderOrder {
  readonly template: ChatTemplate;
  /** null: the template is only compiled. */
  readonly conversation: Conversation | null;
  /** Characters that the text may have. */
  readonly longest: number;
}

/** From the process: once ready, then a result for each order. */
export type TemplateReport = { readonly type: "ready" } | Checked | Rendered;

const report = (message: TemplateReport): void => void process.send?.(message);

function carryOut(jinja: Jinja, { template, conversation, longest }: RenderOrder): Checked | Rendered {
  if (conversation === null) return jinja.check(template.template);
  return jinja.render(template, conversation, longest);
}

// A signal to the whole group (Ctrl-C) lets the server end its requests first; when the server has gone, so does this.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
process.on("disconnect", () => process.exit(0));
const jinja = await startJinja();
// An interpreter that has died throws, which ends the process.
process.on("message", (order: RenderOrder) => report(carryOut(jinja, order)));
report({ type: "ready" });
