import type { LambdaGeometry } from "../cache/lambda-cache.js";
import type { Retrieval } from "../cache/retrieval.js";
import type { StoredRow } from "../cache/row-snapshot.js";
import type { GenerationEvent, SequenceRequest } from "../contract/generation.js";
import type { CacheKind } from "./cache-pool.js";
import type { PromptPrefix } from "./prompt-prefix.js";
import type { Sequence } from "./sequence.js";

/** What a sequence needs before it has a turn. */
export interface MemberOptions {
  /** Number of the request, and of the sequence in it. */
  readonly request: number;
  readonly index: number;
  readonly asked: SequenceRequest;
  readonly geometry: LambdaGeometry;
  readonly kind: CacheKind;
  readonly retrieval: Retrieval | null;
  /** What is known of its prompt; null: it is read anew. */
  readonly prefix: PromptPrefix | null;
  /** As of `PlannedSequence`. */
  readonly free: number;
  readonly grid: number;
  /** Numbers that are computed for each prompt token to see which edited features are kept. */
  readonly comparisons: number;
  readonly start: () => Sequence;
}

/** A sequence in the engine, from its request to its end. What it computes with is made at its first turn: thousands may wait. */
export class Member {
  paused = false;
  standing: "new" | "running" | "parked" = "new";
  /** When it was parked, or first ran on its row, ms; null until it does. */
  #since: number | null = null;
  /** What its row held; of a parked one, and of a new one whose prompt another has read. */
  stored: StoredRow | null = null;
  /** Prompt tokens that its leader did not have to read; null: no leader has read its prompt. */
  #cachedByLeader: number | null = null;
  /** Has the same prompt, and reads it for this one, too; null: nobody does. */
  leader: Member | null = null;
  /** Whose prompt it reads. */
  readonly followers: Member[] = [];
  /** Prompt tokens whose log-probabilities and readings were sent. */
  readonly #told = { prompt: 0, features: 0 };
  /** null before its first turn. */
  #started: Sequence | null = null;

  constructor(
    /** In the order in which they come. */
    readonly id: number,
    readonly options: MemberOptions,
  ) {}

  get started(): Sequence | null {
    return this.#started;
  }

  get sequence(): Sequence {
    if (this.#started === null) {
      const started = this.options.start();
      started.prefilled = this.prefilled;
      started.cachedTokens = this.#cachedByLeader ?? this.options.prefix?.tokens ?? 0;
      this.#started = started;
    }
    return this.#started;
  }

  /** Prompt tokens that are in its row, or will be once it has one. */
  get prefilled(): number {
    return this.#started?.prefilled ?? this.stored?.count ?? this.options.prefix?.tokens ?? 0;
  }

  /** Prompt tokens that are still to be prefilled: all but the last, whose logits come from the decode graph. */
  get left(): number {
    const { prompt, maxTokens, promptLogprobs, features } = this.options.asked;
    const isRead = maxTokens !== 0 || promptLogprobs !== null || features?.prompt === true;
    return isRead ? prompt.length - 1 - this.prefilled : 0;
  }

  /** Looks what is known of its prompt, for as long as nothing of it is read. Where that is all, nobody waits until it is read. */
  lookForPrefix(): void {
    if (this.standing !== "new" || this.stored !== null || this.left === 0) return;
    this.options.prefix?.look();
    if (this.left === 0) this.dismissFollowers();
  }

  /** Milliseconds since it was parked, or since it first ran on its row. */
  get since(): number {
    return this.#since === null ? 0 : performance.now() - this.#since;
  }

  become(standing: Member["standing"]): void {
    this.standing = standing;
    this.#since = standing === "parked" ? performance.now() : null;
  }

  /** It has a row, and runs on it from now on. */
  begin(): void {
    this.#since = performance.now();
  }

  /** Of events of its prompt what it was not told yet: another may have begun to read the prompt for it, and failed. */
  untold(events: readonly GenerationEvent[]): GenerationEvent[] {
    return events.flatMap((event): GenerationEvent[] => {
      if (event.type !== "prompt" && event.type !== "features") return [event];
      const from = Math.max(0, this.#told[event.type] - event.start);
      const start = event.start + from;
      const { index } = this.options;
      if (event.type === "prompt") {
        const logprobs = event.logprobs.slice(from);
        this.#told.prompt = Math.max(this.#told.prompt, start + logprobs.length);
        return logprobs.length === 0 ? [] : [{ ...event, index, start, logprobs }];
      }
      const readings = event.readings.slice(from);
      this.#told.features = Math.max(this.#told.features, start + readings.length);
      return readings.length === 0 ? [] : [{ ...event, index, start, readings }];
    });
  }

  /** Whether its prompt can be read for others, too. */
  get isSharable(): boolean {
    return this.left > 0 && (this.options.kind === "shared" || this.options.kind === "edited");
  }

  /** Its prompt is read by a member that was asked the same of it. */
  follow(leader: Member): void {
    this.leader = leader;
    leader.followers.push(this);
  }

  /** Those whose prompt it has read begin with what its row holds. */
  handOver(stored: StoredRow, followers: readonly Member[]): void {
    for (const each of followers) {
      each.stored = stored;
      each.#cachedByLeader = this.sequence.cachedTokens;
    }
  }

  /** Those whose prompt it reads go on by themselves. */
  dismissFollowers(): readonly Member[] {
    for (const each of this.followers) each.leader = null;
    return this.followers.splice(0);
  }
}

/** Whether two sequences of one request, with one prompt, want it read alike, so that one can read for both. */
export function readPromptAlike(one: Member, other: Member): boolean {
  const same = ({ left, options: { asked, geometry, kind } }: Member) => [
    left,
    kind,
    geometry.window,
    geometry.sinks,
    asked.features,
    asked.promptLogprobs,
    asked.promptRanks,
    asked.editsFrom,
    asked.editsFrom === "prompt" ? asked.edits : null,
  ];
  const others = same(other);
  return same(one).every((each, i) => each === others[i]);
}
