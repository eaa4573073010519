import { type ChildProcess, fork } from "node:child_process";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { Conversation } from "../models/chat/chat-template.js";
import type { Checked, Rendered } from "../models/chat/jinja.js";
import type { ChatTemplate } from "../models/model-source.js";
import { ChatTemplateFailed, ChatTemplateUnsupported, InvalidRequest } from "./errors.js";
import type { RenderOrder, TemplateReport } from "./template-process.js";

/** Of a rendering, beside what a long conversation adds; a few milliseconds are usual, and some hundred for the first. */
const LIMIT_MS = 2_000;
const MS_PER_CHARACTER = 1e-3;
/** Of Node and the interpreter, which take 3 s, on a busy machine. */
const START_MS = 60_000;
/** Characters of a text beside those of its conversation. */
const EXTRA_LENGTH = 1 << 20;
/** Characters of a conversation's JSON: as many as the process has memory for, with room to spare. */
const LONGEST_CONVERSATION = 1 << 23;
const HEAP_MB = 256;
/** Enough for Python to reach its own limit of recursion, which is an error, before the stack ends, which is the end. */
const STACK_KB = 3_000;
const DIED = "its process died, as it does of values that are nested too deep";
/** Of the environment: what Node needs on Windows, and the place of the clock. No secrets. */
const ENVIRONMENT = ["SystemRoot", "TZ"];

const Report: z.ZodType<TemplateReport> = z.union([
  z.object({ type: z.literal("ready") }),
  z.object({ type: z.literal("text"), text: z.string() }),
  z.object({ type: z.literal("accepted") }),
  z.object({ type: z.enum(["refused", "unsupported", "exhausted", "failed"]), message: z.string() }),
]);

type Succeeded = Extract<Checked | Rendered, { readonly type: "accepted" | "text" }>;

interface Job {
  readonly order: RenderOrder;
  readonly ms: number;
  settle(result: Checked | Rendered | Error): void;
}

/**
 * Renders chat templates in a process of its own, one conversation after the other. It is started for the first,
 * kept while it behaves, and replaced when it had to be ended or its memory is used up. A process, because nothing else
 * ends a template that runs for ever, or gives back the memory that it took.
 */
export class TemplateRenderer {
  readonly #waiting: Job[] = [];
  #running: Job | null = null;
  #process: ChildProcess | null = null;
  #ready = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** @throws ChatTemplateUnsupported where Jinja cannot compile the template, ChatTemplateFailed where that takes too much. */
  async check(template: ChatTemplate): Promise<void> {
    await this.#carryOut({ template, conversation: null, longest: 0 }, LIMIT_MS);
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
    const order = { template, conversation, longest: EXTRA_LENGTH + 2 * size };
    const result = await this.#carryOut(order, LIMIT_MS + Math.ceil(size * MS_PER_CHARACTER), signal);
    return result.type === "text" ? result.text : "";
  }

  /** Ends the process; what waits is rejected. */
  close(): void {
    this.#closed = true;
    const closed = new Error("the chat template is closed");
    for (const job of this.#waiting.splice(0)) job.settle(closed);
    this.#end(closed);
  }

  async #carryOut(order: RenderOrder, ms: number, signal?: AbortSignal): Promise<Succeeded> {
    const result = await this.#queue(order, ms, signal);
    if (result instanceof Error) throw result;
    switch (result.type) {
      case "text":
      case "accepted":
        return result;
      case "refused":
        throw new InvalidRequest(`the model's chat template refuses them: ${result.message}`, "messages");
      case "unsupported":
        throw new ChatTemplateUnsupported(`${nameOf(order.template)} is not supported: ${result.message}`);
      default:
        throw failure(order.template, result.message);
    }
  }

  #queue(order: RenderOrder, ms: number, signal: AbortSignal | undefined): Promise<Checked | Rendered | Error> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (this.#closed) throw new Error("the chat template is closed");
      const leave = () => {
        const place = this.#waiting.indexOf(job);
        if (place >= 0) this.#waiting.splice(place, 1);
        reject(signal?.reason);
      };
      const settle = (result: Checked | Rendered | Error) => {
        signal?.removeEventListener("abort", leave);
        resolve(result);
      };
      const job: Job = { order, ms, settle };
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

  #send({ order, ms }: Job): void {
    this.#limit(ms, failure(order.template, `it runs for more than ${ms} ms`));
    this.#process?.send(order, (error) => error && this.#end(error));
  }

  #limit(ms: number, reason: Error): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#end(reason), ms);
  }

  #hear(report: TemplateReport): void {
    if (report.type === "ready") {
      this.#ready = true;
      if (this.#running) this.#send(this.#running);
    } else if (report.type === "exhausted") this.#end(this.#fault(report.message));
    else this.#settle(report);
  }

  /** The running job is done, one way or another. */
  #settle(result: Checked | Rendered | Error): void {
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
      // Without code from strings, no object of JavaScript's that a template might reach gives it the rest of Node.
      execArgv: [
        `--max-old-space-size=${HEAP_MB}`,
        `--stack-size=${STACK_KB}`,
        "--disallow-code-generation-from-strings",
      ],
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
      own(() => this.#end(this.#fault(DIED))),
    );
    child.channel?.unref();
    this.#limit(START_MS, this.#fault("the process for it does not start"));
    return child;
  }

  /** What is told to whom waits for the running job. */
  #fault(reason: string): Error {
    return this.#running === null ? new Error(reason) : failure(this.#running.order.template, reason);
  }
}

const nameOf = ({ file }: ChatTemplate): string => `the model's chat template (${basename(file)})`;

const failure = (template: ChatTemplate, reason: string): ChatTemplateFailed =>
  new ChatTemplateFailed(`${nameOf(template)} cannot be rendered: ${reason}`);

function sizeOf({ messages, tools, variables }: Conversation): number {
  return [messages, tools ?? "", ...Object.values(variables)].reduce((size, json) => size + json.length, 0);
}
