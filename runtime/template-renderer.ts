import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { Conversation, RenderLimits } from "../models/chat/chat-template.js";
import type { ChatTemplate } from "../models/model-source.js";
import { ChatTemplateFailed, InvalidRequest } from "./errors.js";
import type { Rendered, RenderOrder, TemplateReport } from "./template-process.js";

/** Of a rendering, beside what a long conversation adds; a few milliseconds are usual. */
const LIMIT_MS = 600;
const MS_PER_CHARACTER = 1e-3;
/** How long a single step, which does not look at the clock, may run over. */
const GRACE_MS = 150;
/** Of Node itself, on a busy machine. */
const START_MS = 30_000;
/** Characters of a text beside those of its conversation. */
const EXTRA_LENGTH = 1 << 20;
/** Characters of a conversation: as many as the process has memory for, with room to spare. */
const LONGEST_CONVERSATION = 1 << 23;
const HEAP_MB = 256;
const DIED = `its process died, as it does where ${HEAP_MB} MB of memory are not enough`;
/** Of the environment: what Node needs on Windows, and the place of the clock. No secrets. */
const ENVIRONMENT = ["SystemRoot", "TZ"];

const Report: z.ZodType<TemplateReport> = z.union([
  z.object({ type: z.literal("ready") }),
  z.object({ type: z.literal("text"), text: z.string() }),
  z.object({ type: z.enum(["refused", "failed"]), message: z.string() }),
]);

interface Job {
  readonly order: RenderOrder;
  settle(result: Rendered | Error): void;
}

/**
 * Renders a model's chat template in a process of its own, one conversation after the other. It is started for the first,
 * kept while it behaves, and replaced when it had to be ended or died of its memory. A process, because a thread would not
 * do: V8 ends the whole process where a single step (a long string in upper case) asks for more than a thread's heap.
 */
export class TemplateRenderer {
  readonly #waiting: Job[] = [];
  #running: Job | null = null;
  #process: ChildProcess | null = null;
  #ready = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(readonly template: ChatTemplate) {}

  /**
   * The text of a conversation.
   * @throws InvalidRequest (`messages`) where the template refuses it or it is too long, ChatTemplateFailed where the
   * template is broken or takes too much; the signal's reason when it aborts before.
   */
  async render(conversation: Conversation, signal?: AbortSignal): Promise<string> {
    const size = sizeOf(conversation);
    if (size > LONGEST_CONVERSATION)
      throw new InvalidRequest(`expected a conversation of at most ${LONGEST_CONVERSATION} characters`, "messages");
    const limits: RenderLimits = {
      ms: LIMIT_MS + Math.ceil(size * MS_PER_CHARACTER),
      length: EXTRA_LENGTH + 2 * size,
    };
    const result = await this.#queue({ template: this.template, conversation, limits }, signal);
    if (result instanceof Error) throw result;
    if (result.type === "text") return result.text;
    if (result.type === "refused")
      throw new InvalidRequest(`the model's chat template refuses them: ${result.message}`, "messages");
    throw failure(this.template, result.message);
  }

  /** Ends the process; what waits is rejected. */
  close(): void {
    this.#closed = true;
    const closed = new Error("the chat template is closed");
    for (const job of this.#waiting.splice(0)) job.settle(closed);
    this.#end(closed);
  }

  #queue(order: RenderOrder, signal: AbortSignal | undefined): Promise<Rendered | Error> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (this.#closed) throw new Error("the chat template is closed");
      const leave = () => {
        const place = this.#waiting.indexOf(job);
        if (place >= 0) this.#waiting.splice(place, 1);
        reject(signal?.reason);
      };
      const settle = (result: Rendered | Error) => {
        signal?.removeEventListener("abort", leave);
        resolve(result);
      };
      const job: Job = { order, settle };
      signal?.addEventListener("abort", leave, { once: true });
      this.#waiting.push(job);
      this.#next();
    });
  }

  #next(): void {
    if (this.#running !== null) return;
    const job = this.#waiting.shift();
    if (job === undefined) return;
    this.#running = job;
    this.#process ??= this.#start();
    this.#process.ref();
    if (this.#ready) this.#send(job);
  }

  #send({ order }: Job): void {
    this.#limit(order.limits.ms + GRACE_MS, `it runs for more than ${order.limits.ms} ms`);
    this.#process?.send(order, (error) => error && this.#end(error));
  }

  #limit(ms: number, reason: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#end(failure(this.template, reason)), ms);
  }

  #hear(report: TemplateReport): void {
    if (report.type === "ready") {
      this.#ready = true;
      if (this.#running) this.#send(this.#running);
    } else this.#settle(report);
  }

  /** The running job is done, one way or another. */
  #settle(result: Rendered | Error): void {
    clearTimeout(this.#timer);
    const job = this.#running;
    this.#running = null;
    this.#process?.unref();
    job?.settle(result);
    this.#next();
  }

  /** Ends the process, and with it the running job. */
  #end(reason: Error): void {
    const child = this.#process;
    this.#process = null;
    this.#ready = false;
    child?.kill("SIGKILL");
    this.#settle(reason);
  }

  #start(): ChildProcess {
    const child = fork(fileURLToPath(new URL("./template-process.js", import.meta.url)), {
      execArgv: [`--max-old-space-size=${HEAP_MB}`],
      env: Object.fromEntries(ENVIRONMENT.map((name) => [name, process.env[name]])),
      serialization: "advanced",
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    const own = (act: () => void) => () => {
      if (this.#process === child) act();
    };
    child.on("message", (message) => own(() => this.#hear(Report.parse(message)))());
    child.on("error", (error) => own(() => this.#end(error))());
    child.on(
      "exit",
      own(() => this.#end(failure(this.template, DIED))),
    );
    child.channel?.unref();
    this.#limit(START_MS, "the process for it does not start");
    return child;
  }
}

const failure = ({ file }: ChatTemplate, reason: string): ChatTemplateFailed =>
  new ChatTemplateFailed(`the model's chat template (${file}) cannot be rendered: ${reason}`);

/** Characters, nearly. */
function sizeOf({ messages, tools, variables }: Conversation): number {
  let size = JSON.stringify({ tools, variables }).length;
  for (const { content, ...rest } of messages) size += (content ?? "").length + JSON.stringify(rest).length;
  return size;
}
