import { ModelFormatError } from "../../models/errors.js";
import { openTokenizer } from "../../models/tokenizer/tokenizer.js";
import { UnencodableText } from "../../models/tokenizer/unencodable-text.js";
import type { JobOrder, JobResult, Opened, OpenOrder, PromptOrder, PromptReport } from "./orders.js";
import { TemplateTurns } from "./template-turns.js";
import { TextTurns } from "./text-turns.js";
import { Watch } from "./watch.js";

/** A tokenizer that ends the process with any text is found at the start. */
const TRIAL = "Hello, world 1";

let texts: TextTurns | null = null;
const templates = new TemplateTurns();

const report = (message: PromptReport): void => void process.send?.(message);

async function open({ path, vocabSize, limits }: OpenOrder): Promise<Opened> {
  try {
    const tokenizer = await openTokenizer(path, vocabSize);
    if (tokenizer === null) return { type: "absent" };
    texts = new TextTurns(tokenizer, new Watch(limits));
    await carryOut({ type: "encode", text: TRIAL });
    return { type: "ready", tokens: tokenizer.tokens.data, digest: tokenizer.digest };
  } catch (error) {
    if (!(error instanceof ModelFormatError)) throw error;
    return { type: "unusable", file: error.file, reason: error.reason };
  }
}

async function carryOut(order: JobOrder): Promise<JobResult> {
  if (order.type === "render") return templates.carryOut(order);
  try {
    if (texts === null) throw new Error("there is no tokenizer");
    return { type: "encoded", ids: await texts.encode(order.text) };
  } catch (error) {
    if (error instanceof UnencodableText) return { type: "unencodable", reason: error.message };
    return { type: "failed", message: error instanceof Error ? error.message : String(error) };
  }
}

async function receive(message: PromptOrder): Promise<void> {
  if (message.type === "open") {
    report(await open(message));
    // What reading the file left behind is a third of this process's memory, and would stay while it idles.
    globalThis.gc?.();
  } else report({ type: "done", job: message.job, result: await carryOut(message.order) });
}

// A signal to the whole group (Ctrl-C) lets the server end its requests first; when the server has gone, so does this.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
process.on("message", (message: PromptOrder) => void receive(message));
