import { Worker } from "node:worker_threads";
import type { RenderOrder, TemplateResult } from "./orders.js";
import type { TemplateReport } from "./template-thread.js";

/** The interpreter starts in a second or two, on a busy machine in a minute at most. */
const START_MS = 60_000;
const HEAP_MB = 256;
/** Enough for Python to reach its own limit of recursion, which is an error, before the stack ends, which is the end. */
const STACK_MB = 4;
const DIED = "its interpreter died, as it does of values that are nested too deep";

/**
 * Renders chat templates on a thread of its own, one at a time, while texts are encoded beside it. It is started for the
 * first template, kept while it behaves, and replaced when it had to be ended or its memory is used up.
 */
export class TemplateTurns {
  #thread: Worker | null = null;

  async carryOut(order: RenderOrder): Promise<TemplateResult> {
    try {
      const thread = this.#thread ?? (await this.#start());
      const answer = nextReport(thread, order.ms, `it runs for more than ${order.ms} ms`);
      thread.postMessage(order);
      const result = await answer;
      if (result.type === "ready") throw new Error("it gave no answer");
      if (result.type === "exhausted") await this.#end();
      return result;
    } catch (error) {
      await this.#end();
      return { type: "failed", message: error instanceof Error ? error.message : String(error) };
    }
  }

  async #start(): Promise<Worker> {
    const thread = new Worker(new URL("./template-thread.js", import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, stackSizeMb: STACK_MB },
    });
    this.#thread = thread;
    // A thread that dies while nothing is asked of it is replaced for the next template.
    thread.on("error", () => {});
    thread.once("exit", () => {
      if (this.#thread === thread) this.#thread = null;
    });
    await nextReport(thread, START_MS, "the interpreter for it does not start");
    return thread;
  }

  async #end(): Promise<void> {
    const thread = this.#thread;
    this.#thread = null;
    await thread?.terminate();
  }
}

function nextReport(thread: Worker, ms: number, late: string): Promise<TemplateReport> {
  return new Promise<TemplateReport>((resolve, reject) => {
    const died = () => settle(() => reject(new Error(DIED)));
    const heard = (report: TemplateReport) => settle(() => resolve(report));
    const timer = setTimeout(() => settle(() => reject(new Error(late))), ms);
    const settle = (act: () => void) => {
      clearTimeout(timer);
      thread.off("message", heard).off("error", died).off("exit", died);
      act();
    };
    thread.on("message", heard).on("error", died).on("exit", died);
  });
}
