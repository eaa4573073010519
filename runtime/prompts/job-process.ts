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

/** Node and the reading of the tokenizer's file take as long on a busy machine at most. */
const START_MS = 60_000;
const HEAP_MB = 1024;
/** The process gets these variables only: what Node needs on Windows, and the clock's time zone. It gets no secrets. */
const ENVIRONMENT = ["SystemRoot", "TZ"];

interface Job {
  readonly order: JobOrder;
  settle(result: JobResult | Error): void;
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
 * A child process that makes prompts of texts and conversations: it opens a model's tokenizer, encodes and renders. When it
 * dies it is started again for what was asked of it, or with the next job. Then jobs that it died with are tried one by
 * one, each alone, so that only the one that ends it again fails.
 */
export class JobProcess {
  readonly #waiting: Job[] = [];
  /** The jobs that the process has and has not answered, by number. */
  readonly #sent = new Map<number, Job>();
  /** The jobs that the process had when it died. */
  readonly #suspects: Job[] = [];
  /** A suspect is on its way, and nothing else. */
  #onTrial = false;
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
      this.#waiting.push({ order, settle });
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
      // One thread of V8's own is enough for what it does, and takes 3 MB less than four.
      // Without code from strings, no object of JavaScript's that a template might reach gives it the rest of Node.
      execArgv: [
        `--max-old-space-size=${HEAP_MB}`,
        "--max-semi-space-size=1",
        "--v8-pool-size=1",
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
      const job = this.#sent.get(report.job);
      this.#sent.delete(report.job);
      this.#onTrial = false;
      job?.settle(report.result);
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
    if (this.#waiting.length + this.#suspects.length === 0) {
      if (this.#sent.size === 0) this.#process?.unref();
      return;
    }
    if (this.#process === null) this.#start();
    if (!this.#ready || this.#onTrial) return;
    if (this.#suspects.length === 0) {
      for (const job of this.#waiting.splice(0)) this.#sendJob(job);
    } else if (this.#sent.size === 0) {
      this.#onTrial = true;
      for (const job of this.#suspects.splice(0, 1)) this.#sendJob(job);
    }
  }

  #sendJob(job: Job): void {
    const number = this.#next++;
    this.#sent.set(number, job);
    this.#send({ type: "job", job: number, order: job.order });
  }

  /** The process has ended, which nobody asked for. */
  #die(): void {
    clearTimeout(this.#timer);
    this.#process = null;
    const killed = new JobKillsProcess("the process of the tokenizer died of it, twice");
    for (const job of this.#sent.values()) {
      if (this.#onTrial) job.settle(killed);
      else this.#suspects.push(job);
    }
    this.#sent.clear();
    this.#onTrial = false;
    if (!this.#ready) {
      const died = new ProcessDied("the process of the tokenizer died before it was ready");
      this.#onFirst?.(died);
      this.#failAll(died);
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
    for (const { settle } of [...this.#sent.values(), ...this.#suspects, ...this.#waiting]) settle(reason);
    this.#sent.clear();
    this.#suspects.length = 0;
    this.#waiting.length = 0;
    this.#onTrial = false;
  }
}
