import { ModelFormatError } from "../../models/errors.js";
import { openModelSource } from "../../models/model-source.js";
import { onSharedMemory, TokenBytes } from "../../models/tokenizer/token-bytes.js";
import { InvalidRequest } from "../contract/errors.js";
import { JobKillsProcess, JobProcess, ProcessDied } from "./job-process.js";
import type { LibraryLimits } from "./watch.js";

/** Memory for the longest text that cannot be cut, and then some. */
const LIMITS: LibraryLimits = { memory: 3 * 2 ** 30, ms: 10_000 };

/**
 * A model's tokenizer in a process of its own. Several texts are encoded in turns, so that a short one does not wait for a
 * long one.
 */
export class Encoder {
  private constructor(
    /** The process, which does other jobs of prompts as well. */
    readonly jobs: JobProcess,
    /** Bytes of every token, on memory that threads share. */
    readonly tokens: TokenBytes,
  ) {}

  /**
   * Opens the tokenizer of the model at `path` in a new process; null where it has none.
   * @param vocabSize number of ids that the model knows
   * @throws ModelFormatError as `openTokenizer` does, and where the tokenizer ends the process.
   */
  static async start(path: string, vocabSize: number, limits = LIMITS): Promise<Encoder | null> {
    if (!openModelSource(path).hasTokenizer()) return null;
    const { process: jobs, opened } = await JobProcess.start({ type: "open", path, vocabSize, limits }).catch(
      (error) => {
        if (!(error instanceof ProcessDied)) throw error;
        throw new ModelFormatError(
          path,
          "its tokenizer ends the process that opens it, or takes too much memory or time",
        );
      },
    );
    if (opened.type === "unusable") throw new ModelFormatError(opened.file, opened.reason);
    if (opened.type === "absent") return null;
    return new Encoder(jobs, new TokenBytes(onSharedMemory(opened.tokens)));
  }

  /**
   * Ids of a text as `Tokenizer.encode` gives them, on memory of their own.
   * @param at the field that holds it
   * @throws InvalidRequest where the text has no ids, or ends the process
   */
  async encode(text: string, at: string): Promise<Int32Array<ArrayBuffer>> {
    const result = await this.jobs.run({ type: "encode", text }).catch((error) => {
      if (!(error instanceof JobKillsProcess)) throw error;
      throw new InvalidRequest("the text cannot be encoded: the tokenizer's process died of it, twice", at);
    });
    if (result.type === "encoded") return result.ids.slice(); // they lie within the whole message
    if (result.type === "unencodable") throw new InvalidRequest(`the text ${result.reason}`, at);
    throw new Error(`the text cannot be encoded: ${"message" in result ? result.message : result.type}`);
  }

  /** Ends the process; what is pending rejects. */
  close(): void {
    this.jobs.close(new Error("the tokenizer is closed"));
  }
}
