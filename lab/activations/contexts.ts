import { z } from "zod";
import type { JsonObject } from "../../models/model-file.js";
import { SetupError } from "../../runtime/contract/errors.js";
import type { LabModel } from "../model/lab-model.js";
import { textStart } from "../model/text-start.js";
import { OpenDocument } from "./open-document.js";
import { permutation } from "./permutation.js";
import { resumedState } from "./resumed-state.js";
import { TextDocuments } from "./text-documents.js";

/** Documents that are read in turns. */
const OPEN_DOCUMENTS = 64;
/** Documents that are encoded before their turn. */
const AHEAD = 4;
/** One context in so many is held out of training. */
const HELD_OUT = 20;
/** Documents of which most must be too short before that is worth a notice. */
const TELLING = 100;

export type Part = "train" | "held-out" | "all";

/** Which contexts of which text. */
export interface ContextChoice {
  /** Files (.txt, .jsonl) and folders. */
  readonly text: readonly string[];
  /** Tokens of a context, the model's beginning of text included; default: as many as fit. */
  readonly context?: number | undefined;
  /** train: without every 20th context; held-out: these alone. */
  readonly part: Part;
  /** Decides the order of documents. Default: 0. */
  readonly seed?: number | undefined;
  readonly onNotice?: ((line: string) => void) | undefined;
}

/** A piece of a document as the model is given it. */
export interface Context {
  /** The tokens that the model wants before every text, then those of the document. */
  readonly ids: Int32Array<ArrayBuffer>;
  readonly document: string;
  /** The document's token that it begins with. */
  readonly at: number;
}

const State = z.object({
  text: z.string(),
  context: z.int(),
  part: z.enum(["train", "held-out", "all"]),
  seed: z.int(),
  /** Documents opened, in their order. */
  opened: z.int(),
  /** Whose turn it is. */
  turn: z.int(),
  given: z.int(),
  open: z.array(z.object({ document: z.int(), at: z.int(), contexts: z.int() })),
});
type State = z.infer<typeof State>;

/**
 * Contexts of a text, all of one length, no two of which overlap. A context is the model's frame before a text and then
 * tokens of one document, from a paragraph's beginning where one stands within half a context behind the last one's end. What
 * is left of a document at its end, and a document that is shorter than a context, is left out. 64 documents are read in
 * turns, in an order that the seed decides. Context c of document d of the text is held out where c + d is 19 modulo 20.
 */
export class Contexts {
  readonly #order: Uint32Array;
  readonly #open: OpenDocument[];
  readonly #state: Pick<State, "opened" | "turn" | "given">;
  #short = 0;
  #noticed = false;

  private constructor(
    readonly model: LabModel,
    readonly documents: TextDocuments,
    readonly choice: ContextChoice & { readonly context: number; readonly seed: number },
    /** Tokens before every text. */
    readonly frame: readonly number[],
    resumed: State | null,
  ) {
    this.#order = permutation(documents.count, choice.seed, 0);
    this.#state = { opened: resumed?.opened ?? 0, turn: resumed?.turn ?? 0, given: resumed?.given ?? 0 };
    this.#open = (resumed?.open ?? []).map((at) => this.#document(at.document, at));
  }

  /**
   * Finds the documents; `resumed`: the state of contexts of the same text and choice, after which these go on.
   * @throws SetupError where text or choice make no sense, the model has no tokenizer, or the state is of others.
   */
  static open(model: LabModel, choice: ContextChoice, resumed?: JsonObject): Contexts {
    if (model.encoder === null)
      throw new SetupError(`${model.name} has no tokenizer: it cannot read text, only prompts of token ids`);
    const frame = textStart(model.compiled);
    const { context = model.longestContext, seed = 0 } = choice;
    if (context > model.longestContext)
      throw new SetupError(`--context ${context} is longer than ${model.name} reads at once: ${model.longestContext}`);
    if (context < frame.length + 2)
      throw new SetupError(`--context ${context} is too short: there must be two tokens of the text in it`);
    const documents = TextDocuments.open(choice.text);
    const state = resumedState(State, resumed);
    const own = { text: documents.hash, context, part: choice.part, seed };
    const other = (["text", "context", "part", "seed"] as const).find((name) => state && state[name] !== own[name]);
    if (other !== undefined) throw new SetupError(`the run that is to be resumed had another ${other}`);
    return new Contexts(model, documents, { ...choice, context, seed }, frame, state);
  }

  /** Tokens of each. */
  get length(): number {
    return this.choice.context;
  }

  /** The next one; null: the text is at its end. @throws SetupError where the whole text has none, or cannot be encoded. */
  async next(): Promise<Context | null> {
    const state = this.#state;
    for (;;) {
      this.#openDocuments();
      if (this.#open.length === 0) return this.#ended();
      state.turn %= this.#open.length;
      const turn = state.turn;
      for (let ahead = 0; ahead < AHEAD; ahead++) this.#open[(turn + ahead) % this.#open.length]?.encode();
      const document = this.#open[turn]!;
      const found = await document.next((contexts) => this.#isOurs(document.index + contexts));
      if (found === null) this.#close(turn);
      else {
        state.given++;
        state.turn++;
        const ids = new Int32Array(this.length);
        ids.set(this.frame);
        ids.set(found.ids, this.frame.length);
        return { ids, document: this.documents.name(document.index), at: found.at };
      }
    }
  }

  /** After the context that was given last. */
  state(): JsonObject {
    const { context, part, seed } = this.choice;
    const open = this.#open.map(({ index, at, contexts }) => ({ document: index, at, contexts }));
    return { text: this.documents.hash, context, part, seed, ...this.#state, open } satisfies State;
  }

  #isOurs(number: number): boolean {
    if (this.choice.part === "all") return true;
    return (number % HELD_OUT === HELD_OUT - 1) === (this.choice.part === "held-out");
  }

  #openDocuments(): void {
    const state = this.#state;
    while (this.#open.length < OPEN_DOCUMENTS && state.opened < this.#order.length)
      this.#open.push(this.#document(this.#order[state.opened++] ?? 0, { at: 0, contexts: 0 }));
  }

  /** The next document stands in its place, which is encoded while the others have their turns. */
  #close(turn: number): void {
    const state = this.#state;
    const [closed] = this.#open.splice(turn, 1);
    if (closed?.contexts === 0) this.#short++;
    this.#noteShort();
    if (state.opened === this.#order.length) return;
    this.#open.splice(turn, 0, this.#document(this.#order[state.opened++] ?? 0, { at: 0, contexts: 0 }));
    state.turn++;
  }

  #noteShort(): void {
    const closed = this.#state.opened - this.#open.length;
    if (this.#noticed || closed < Math.min(TELLING, this.#order.length) || this.#short * 2 < closed) return;
    this.#noticed = true;
    this.choice.onNotice?.(
      `${this.#short} of the first ${closed} documents are shorter than a context of ${this.length} tokens and left out; --context takes fewer`,
    );
  }

  #ended(): null {
    if (this.#state.given > 0) return null;
    if (this.#short === this.#order.length)
      throw new SetupError(
        `no document of the text is as long as a context of ${this.length} tokens; --context takes fewer`,
      );
    throw new SetupError(
      this.choice.part === "held-out"
        ? "the text is too short: none of its contexts is held out, as every 20th is"
        : "the text is too short: all of its contexts are held out",
    );
  }

  #document(index: number, from: { readonly at: number; readonly contexts: number }): OpenDocument {
    const { model, documents, frame, length } = this;
    return new OpenDocument(index, documents, model.encoder!, length - frame.length, from);
  }
}
