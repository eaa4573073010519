import { parentPort } from "node:worker_threads";
import { startJinja } from "../../models/chat/jinja.js";
import type { RenderOrder, TemplateResult } from "./orders.js";

/** From the thread: once ready, then a result for each order. */
export type TemplateReport = { readonly type: "ready" } | TemplateResult;

const port = parentPort;
if (!port) throw new Error("template-thread.js runs as a worker thread");
const report = (message: TemplateReport): void => port.postMessage(message);

const jinja = await startJinja();
// An interpreter that has died throws, which ends the thread.
port.on("message", ({ template, conversation, longest }: RenderOrder) => {
  report(conversation === null ? jinja.check(template.template) : jinja.render(template, conversation, longest));
});
report({ type: "ready" });
