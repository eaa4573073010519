import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import {
  type JobOrder,
  type JobResult,
  type Opened,
  type OpenOrder,
  type PromptOrder,
  PromptReport,
} from "./orders.js";

/** Of Node and the tokenizer's file, on a busy machine. */
const START_MS = 60_000;
const HEAP_MB = 1024;
/** Of the environment: what Node needs on Windows, and the place of the clock. No secrets. */
const ENVIRONMENT = ["SystemRoot", "TZ"];

interface Job {
  readonly order: JobOrder;
  settle(result: JobResult | Error): void;
  sent: boolean;
  /** It was on its way when the process died. */
  suspect: boolean;
}

/** A job ended the process twice, the second time alone. */
export class JobKillsProcess extends Error {
  override readonly name = "JobKillsProcess";
}

/** The process could not be started. */
export class ProcessDied extends Error {
  override readonly name = "ProcessDied";
}

/**
 * A child process that makes prompts of texts and conversations: it opens a model's tokenizer, encodes and renders. When it dies it is started again for what was asked
 * of it, or with the next job. Then jobs that it died with are tried one by one, each alone, so that only the one that
 * ends it again fails.
 */
export class JobProcess {
  readonly #jobs = new Map<number, Job>();
  #next = 0;
  #process: ChildProcess | null = null;
  #ready = false;
  #closedBy: Error | null = null;
  #timer: NodeJS.Timeout | undefined;
  #onFirst: ((opened: Opened | Error) => void) | null = null;
  #digest: string | null = null;

  private constructor(private readonly open: OpenOrder) {}

  /**
   * Starts it. `opened`: what it found; unless that is a tokenizer, it has ended again.
   * @throws ProcessDied where it dies before that.
   */
  static async start(open: OpenOrder): Promise<{ readonly process: JobProcess; readonly opened: Opened }> {
    const process = new JobProcess(open);
    const opened = await new Promise<Opened | Error>((resolve) => {
      process.#onFirst = resolve;
      process.#start();
    });
    process.#onFirst = null;
    if (opened instanceof Error) throw opened;
    if (opened.type !== "ready") process.close(new Error("there is no tokenizer"));
    return { process, opened };
  }

  /** It changes when the process had to be started again. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** @throws JobKillsProcess, ProcessDied, or the reason for which this was closed. */
  async run(order: JobOrder): Promise<JobResult> {
    if (this.#closedBy) throw this.#closedBy;
    const result = await new Promise<JobResult | Error>((settle) => {
      this.#jobs.set(this.#next++, { order, settle, sent: false, suspect: false });
      this.#process?.ref();
      this.#sendJobs();
    });
    if (result instanceof Error) throw result;
    return result;
  }

  /** Ends the process; what is pending and what comes later rejects with the reason. */
  close(reason: Error): void {
    this.#closedBy = reason;
    this.#end(reason);
  }

  #start(): void {
    const child = fork(fileURLToPath(new URL("./main.js", import.meta.url)), {
      // Without code from strings, no object of JavaScript's that a template might reach gives it the rest of Node.
      execArgv: [
        `--max-old-space-size=${HEAP_MB}`,
        "--max-semi-space-size=1",
        "--expose-gc",
        "--disallow-code-generation-from-strings",
      ],
      env: {
        ...Object.fromEntries(ENVIRONMENT.map((name) => [name, process.env[name]])),
        TOKENIZERS_PARALLELISM: "false",
      },
      serialization: "advanced",
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    this.#process = child;
    this.#ready = false;
    const own = (act: () => void) => {
      if (this.#process === child) act();
    };
    child.on("message", (message) => own(() => this.#hear(PromptReport.parse(message))));
    child.on("error", () => own(() => this.#die()));
    child.on("exit", () => own(() => this.#die()));
    child.channel?.unref();
    this.#timer = setTimeout(() => child.kill("SIGKILL"), START_MS);
    this.#send(this.open);
  }

  #send(order: PromptOrder): void {
    // Where it cannot be sent the process has died, which is heard of elsewhere.
    this.#process?.send(order, () => {});
  }

  #hear(report: PromptReport): void {
    if (report.type === "done") {
      const job = this.#jobs.get(report.job);
      this.#jobs.delete(report.job);
      job?.settle(report.result);
      if (this.#jobs.size === 0) this.#process?.unref();
    } else this.#opened(report);
    this.#sendJobs();
  }

  #opened(opened: Opened): void {
    clearTimeout(this.#timer);
    this.#onFirst?.(opened);
    const digest = opened.type === "ready" ? opened.digest : null;
    this.#digest ??= digest;
    if (digest !== null && digest === this.#digest) this.#ready = true;
    else this.#end(new ProcessDied("the tokenizer's file is another one than at the start; start the server again"));
  }

  /** Suspects go alone, one after the other, and all others behind them. */
  #sendJobs(): void {
    if (this.#jobs.size === 0) return;
    if (this.#process === null) this.#start();
    if (!this.#ready) return;
    const jobs = [...this.#jobs];
    if (jobs.some(([, { sent, suspect }]) => sent && suspect)) return;
    const suspect = jobs.find(([, job]) => job.suspect);
    if (suspect && jobs.some(([, { sent }]) => sent)) return;
    for (const [id, job] of suspect ? [suspect] : jobs) {
      if (job.sent) continue;
      job.sent = true;
      this.#send({ type: "job", job: id, order: job.order });
    }
  }

  /** The process has ended, which nobody asked for. */
  #die(): void {
    clearTimeout(this.#timer);
    const { pid } = this.#process ?? {};
    this.#process = null;
    const died = new ProcessDied(`the process of the tokenizer (${pid ?? "not started"}) died before it was ready`);
    if (!this.#ready) {
      this.#onFirst?.(died);
      this.#failAll(died);
    }
    for (const [id, job] of this.#jobs) {
      if (!job.sent) continue;
      job.sent = false;
      if (job.suspect) {
        this.#jobs.delete(id);
        job.settle(new JobKillsProcess("the process of the tokenizer died of it, twice"));
      }
      job.suspect = true;
    }
    this.#sendJobs();
  }

  /** Ends the process and with it all jobs. */
  #end(reason: Error): void {
    clearTimeout(this.#timer);
    this.#process?.kill("SIGKILL");
    this.#process = null;
    this.#failAll(reason);
  }

  #failAll(reason: Error): void {
    for (const { settle } of this.#jobs.values()) settle(reason);
    this.#jobs.clear();
  }
}
