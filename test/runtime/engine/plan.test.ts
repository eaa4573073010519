import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type PlanInput, type PlannedSequence, plan } from "../../../runtime/engine/plan.js";

/** A text that the simulated engine reads and writes. */
interface Job {
  readonly arrives: number;
  /** Left out: a request of its own. */
  readonly request?: number;
  readonly prompt: number;
  readonly text: number;
  readonly batch: string | null;
  readonly parkable: boolean;
  /** Steps in which its reader is behind. */
  readonly away: readonly number[];
}

interface State extends Job {
  readonly id: number;
  standing: PlannedSequence["standing"];
  /** When it was parked, or first ran on its row; null until it does. */
  changedAt: number | null;
  prefilled: number;
  written: number;
  /** Where its prompt was cut. */
  readonly cuts: number[];
  placedFirst: number | null;
}

const GRID = 16;
const FREE = 64;
const COSTS = { decode: 40, promptToken: 1, readToken: 3, swap: 60 };

/** An engine without a model, whose clock runs as long as its runs take. */
class Engine {
  readonly states: State[] = [];
  readonly #coming: Job[];
  now = 0;
  step = 0;

  constructor(
    jobs: readonly Job[],
    readonly parallel: number,
    readonly parking: number,
    readonly costs = COSTS,
  ) {
    this.#coming = jobs.toSorted((a, b) => a.arrives - b.arrives);
  }

  get isDone(): boolean {
    return this.#coming.length === 0 && this.states.every(({ text, written }) => written === text);
  }

  get input(): PlanInput {
    const sequences = this.states.filter(({ text, written }) => written < text).map((each) => this.#planned(each));
    return { sequences, parallel: this.parallel, parking: this.parking, costs: this.costs, step: this.step };
  }

  /** Makes a step, checks what must hold of every plan, and returns it. */
  advance(): { readonly input: PlanInput; readonly plan: ReturnType<typeof plan> } {
    while (this.#coming[0] !== undefined && this.#coming[0].arrives <= this.step) this.#arrive(this.#coming.shift()!);
    const { input } = this;
    const planned = plan(input);
    this.#check(input, planned);
    for (const id of planned.park) this.#become(id, "parked");
    for (const id of planned.place) this.#become(id, "running");
    // Each row that is parked is brought back some day.
    this.now += planned.park.length * input.costs.swap;
    for (const id of [...planned.chunks.flat().map((chunk) => chunk.id), ...planned.decode.flat()])
      this.#state(id).changedAt ??= this.now;
    for (const run of planned.chunks) {
      const longest = Math.max(...run.map(({ tokens }) => tokens));
      this.now += run.length * longest * COSTS.promptToken;
    }
    for (const { id, tokens } of planned.chunks.flat()) {
      const state = this.#state(id);
      state.prefilled += tokens;
      state.cuts.push(state.prefilled);
    }
    for (const id of planned.decode.flat()) this.#state(id).written++;
    if (planned.decode.length > 0) this.now += COSTS.decode;
    this.step++;
    return { input, plan: planned };
  }

  #arrive(job: Job): void {
    const own = { id: this.states.length, standing: "new", changedAt: null, placedFirst: null } as const;
    this.states.push({ ...job, ...own, prefilled: 0, written: 0, cuts: [] });
  }

  #become(id: number, standing: State["standing"]): void {
    const state = this.#state(id);
    state.standing = standing;
    state.changedAt = standing === "parked" ? this.now : null;
    state.placedFirst ??= this.step;
  }

  #state(id: number): State {
    const state = this.states[id];
    if (state === undefined) throw new RangeError(`there is no sequence ${id}`);
    return state;
  }

  #planned(state: State): PlannedSequence {
    const { id, standing, parkable, batch, prompt, prefilled, changedAt, away } = state;
    const since = changedAt === null ? 0 : this.now - changedAt;
    const request = state.request ?? id;
    const paused = away.includes(this.step);
    const costs = { free: FREE, grid: GRID, keys: FREE, logits: 0, comparisons: 0, read: false };
    return { id, request, standing, paused, parkable, since, batch, prefilled, left: prompt - prefilled, ...costs };
  }

  /** Throws what is wrong with a plan. */
  #check({ sequences }: PlanInput, { park, place, chunks, decode }: ReturnType<typeof plan>): void {
    const known = new Map(sequences.map((each) => [each.id, each]));
    const of = (id: number) => known.get(id)!;
    const require = (holds: boolean, what: string) => {
      if (!holds) throw new Error(`${what}: ${JSON.stringify({ park, place, chunks, decode })}`);
    };
    const running = sequences.filter(
      ({ id, standing }) => place.includes(id) || (standing === "running" && !park.includes(id)),
    );
    const taken = (all: readonly PlannedSequence[]) =>
      all.length - Math.min(all.filter(({ paused, parkable }) => paused && !parkable).length, this.parallel);
    const before = taken(sequences.filter(({ standing }) => standing === "running"));
    // What was lent comes back when its reader does: then more run than have places, but no more than that.
    require(taken(running) <= Math.max(before, this.parallel), "more run than there are places");
    const parked = sequences.filter(
      ({ id, standing }) => park.includes(id) || (standing === "parked" && !place.includes(id)),
    );
    require(parked.length <= this.parking, "more are parked than there is room for");
    require(park.filter((id) => !of(id).paused).length <= 1, "more than one row changes hands");
    require(place.every((id) => of(id).standing !== "running" && !of(id).paused), "placed though it should not be");
    require(park.every((id) => of(id).standing === "running" && of(id).parkable), "parked though it cannot be");
    const active = new Set(running.filter(({ paused }) => !paused).map(({ id }) => id));
    const read = new Map<number, number>();
    for (const run of chunks)
      require(new Set(run.map(({ id }) => of(id).batch)).size === 1, "chunks of several caches in one run");
    for (const { id, tokens } of chunks.flat()) {
      require(active.has(id) && tokens > 0, "a chunk for nobody, or of nothing");
      read.set(id, (read.get(id) ?? 0) + tokens);
    }
    const ready = [...active].filter((id) => of(id).left === (read.get(id) ?? 0));
    const decoding = decode.flat();
    require(new Set(decoding).size === decoding.length, "decoded twice");
    require(decoding.length === ready.length &&
      decoding.every((id) => ready.includes(id)), "not all that can decode, or more");
    for (const ids of decode) {
      const batches = new Set(ids.map((id) => of(id).batch));
      require(batches.size === 1 && (!batches.has(null) || ids.length === 1), "decoded with others of another kind");
    }
    const names = decode.map(([id]) => of(id ?? -1).batch).filter((batch) => batch !== null);
    require(new Set(names).size === names.length, "one batch in two runs");
  }
}

const job = fc.record({
  arrives: fc.nat(60),
  prompt: fc.oneof(fc.nat(20), fc.nat(600)),
  text: fc.integer({ min: 1, max: 120 }),
  batch: fc.constantFrom("10", "10", "10", "0", null),
  parkable: fc.constantFrom(true, true, true, false),
  away: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    { weight: 1, arbitrary: fc.array(fc.nat(200), { maxLength: 60 }) },
  ),
});
const jobs = fc.array(job, { minLength: 1, maxLength: 24 });

describe("whatever comes, and whenever", () => {
  it("every text is read and written to its end, within the places that there are", () => {
    fc.assert(
      fc.property(jobs, fc.integer({ min: 1, max: 6 }), fc.nat(8), (all, parallel, parking) => {
        const engine = new Engine(all, parallel, parking);
        const work = all.reduce((sum, { prompt, text }) => sum + prompt + text, 0) + 300;
        while (!engine.isDone && engine.step <= work) engine.advance();
        expect(engine.isDone).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it("a prompt is cut on its grid once that matters, and before never into single tokens", () => {
    fc.assert(
      fc.property(jobs, fc.integer({ min: 1, max: 6 }), (all, parallel) => {
        const engine = new Engine(all, parallel, 4);
        while (!engine.isDone) engine.advance();
        for (const { prompt, cuts } of engine.states) {
          const beyond = cuts.filter((cut) => cut > FREE || (cut === FREE && prompt > FREE));
          const lines = Array.from({ length: Math.ceil(prompt / GRID) }, (_, i) => Math.min((i + 1) * GRID, prompt));
          expect(beyond).toEqual(prompt > FREE ? lines.filter((line) => line >= FREE) : []);
          const singles = cuts.filter((cut, i) => cut <= FREE && cut - (cuts[i - 1] ?? 0) === 1);
          expect(singles).toEqual(prompt === 1 ? [1] : []);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("prompts keep nobody that writes waiting for more than two steps' time, or one chunk", () => {
    fc.assert(
      fc.property(jobs, fc.integer({ min: 1, max: 6 }), (all, parallel) => {
        const engine = new Engine(all, parallel, 4);
        while (!engine.isDone) {
          const { chunks } = engine.advance().plan;
          const padded = chunks.map((run) => run.length * Math.max(...run.map(({ tokens }) => tokens)));
          const ms = padded.reduce((sum, tokens) => sum + tokens * COSTS.promptToken, 0);
          if (chunks.length > 1 && ms > 2 * COSTS.decode) throw new Error(`chunks take ${ms} ms`);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("is the same for the same input, which it leaves as it was", () => {
    fc.assert(
      fc.property(jobs, (all) => {
        const engine = new Engine(all, 3, 2);
        while (!engine.isDone) {
          const { input, plan: planned } = engine.advance();
          const frozen = { ...input, sequences: Object.freeze(input.sequences.map((each) => Object.freeze(each))) };
          if (!isDeepStrictEqual(plan(frozen), planned)) throw new Error("another plan for the same input");
        }
      }),
      { numRuns: 10 },
    );
  });
});

const text = (overrides: Partial<Job>): Job => ({
  arrives: 0,
  prompt: 8,
  text: 10,
  batch: "10",
  parkable: true,
  away: [],
  ...overrides,
});

describe("who waits for whom", () => {
  it("a short text behind many long ones begins at once", () => {
    const long = Array.from({ length: 50 }, () => text({ prompt: 400, text: 2000 }));
    const engine = new Engine([...long, text({ arrives: 400 })], 16, 64);
    while ((engine.states[50]?.written ?? 0) === 0) engine.advance();
    expect(engine.step - 400).toBeLessThanOrEqual(2);
  });

  it("long texts take turns where there are more of them than places", () => {
    const engine = new Engine(
      Array.from({ length: 8 }, () => text({ text: 4000 })),
      4,
      8,
    );
    for (let i = 0; i < 2000; i++) engine.advance();
    const written = engine.states.map((each) => each.written);
    expect(Math.max(...written) - Math.min(...written)).toBeLessThan(250);
  });

  it("parking takes a small share of the time, however long it takes and however many wait", () => {
    for (const swap of [5, 60, 600]) {
      const jobs = Array.from({ length: 40 }, () => text({ text: 300 }));
      const [turns, alone] = [64, 0].map((parking) => {
        const engine = new Engine(jobs, 16, parking, { ...COSTS, swap });
        while (!engine.isDone) engine.advance();
        return engine.now;
      });
      expect((turns ?? 0) / (alone ?? 1)).toBeLessThan(1.25);
    }
  });

  it("texts of one request take no rows from each other", () => {
    const all = Array.from({ length: 40 }, () => text({ request: 1, text: 300 }));
    const engine = new Engine(all, 4, 64);
    while (!engine.isDone) expect(engine.advance().plan.park).toEqual([]);
  });

  it("a prompt of a kind that was never measured is not read whole while others write", () => {
    const engine = new Engine([text({ text: 100 }), text({ arrives: 5, prompt: 5000 })], 2, 0, {
      ...COSTS,
      promptToken: 0,
    });
    while (!engine.isDone) expect(engine.advance().plan.chunks.length).toBeLessThanOrEqual(1);
  });

  it("without room to park, a text keeps its place to its end and the others follow in order", () => {
    const engine = new Engine(
      Array.from({ length: 6 }, () => text({ text: 500 })),
      2,
      0,
    );
    while (!engine.isDone) engine.advance();
    const first = engine.states.map(({ placedFirst }) => placedFirst ?? 0);
    expect(first).toEqual(first.toSorted((a, b) => a - b));
    expect(first[2]).toBeGreaterThanOrEqual(500);
  });

  it("a short prompt does not wait for a long one to be read", () => {
    const engine = new Engine([text({ prompt: 20_000 }), text({ arrives: 20, prompt: 30 })], 2, 0);
    while ((engine.states[1]?.written ?? 0) === 0) engine.advance();
    expect(engine.step - 20).toBeLessThanOrEqual(3);
  });

  it("a long prompt is read to its end however many short ones come", () => {
    const short = Array.from({ length: 2000 }, (_, i) => text({ arrives: i, prompt: 15, text: 1 }));
    const engine = new Engine([text({ prompt: 3000, text: 1 }), ...short], 8, 0);
    while (engine.states[0]?.written !== 1 && engine.step < 2000) engine.advance();
    expect(engine.states[0]?.written).toBe(1);
    expect(engine.step).toBeLessThan(1000);
  });

  it("a paused text's row goes to who waits, and it goes on when its reader is back", () => {
    const away = Array.from({ length: 50 }, (_, i) => i + 5);
    const engine = new Engine([text({ text: 30, away }), text({ text: 20 })], 1, 1);
    while (!engine.isDone && engine.step < 200) engine.advance();
    expect(engine.states.map(({ written }) => written)).toEqual([30, 20]);
    expect(engine.states[1]?.placedFirst).toBeLessThanOrEqual(6);
  });

  it("one that keeps its memory lends its place while its reader is away, to so many as there are places", () => {
    const awayFrom = (step: number) => Array.from({ length: 1000 }, (_, i) => step + i);
    const all = [5, 5, 10, 10, 2000].map((step) => text({ text: 1000, parkable: false, away: awayFrom(step) }));
    const engine = new Engine(all, 2, 4);
    for (let i = 0; i < 40; i++) engine.advance();
    expect(engine.states.filter(({ standing }) => standing === "running")).toHaveLength(4);
  });
});

describe("how much of a prompt runs at once", () => {
  const alone = (overrides: Partial<PlannedSequence>, costs = COSTS) => {
    const whole = {
      ...({ id: 0, request: 0, standing: "running", paused: false, parkable: true, since: 0, batch: "10" } as const),
      ...{ prefilled: 0, left: 10_000, free: 1024, grid: 128, keys: 1034, logits: 0, comparisons: 0, read: false },
      ...overrides,
    };
    return plan({ sequences: [whole], parallel: 1, parking: 0, costs, step: 1 })
      .chunks.flat()
      .map(({ tokens }) => tokens);
  };

  it("what takes a fifth of a second, once it is known what a token takes", () => {
    expect(alone({}, { ...COSTS, decode: 0, promptToken: 0, readToken: 0 })).toEqual([16]);
    expect(alone({})).toEqual([176]);
    expect(alone({ read: true })).toEqual([48]);
    expect(alone({}, { ...COSTS, promptToken: 0.001 })).toEqual([512]);
    expect(alone({}, { ...COSTS, promptToken: 1000 })).toEqual([16]);
  });

  it("where texts must be cut alike, up to the next line of the grid, however long that takes", () => {
    for (const promptToken of [0.001, 1, 1000]) {
      const costs = { ...COSTS, promptToken };
      expect(alone({ prefilled: 1024 }, costs)).toEqual([128]);
      expect(alone({ prefilled: 1100 }, costs)).toEqual([52]);
      expect(alone({ prefilled: 1024, left: 5 }, costs)).toEqual([5]);
      expect(alone({ free: 0 }, costs)).toEqual([128]);
    }
  });

  it("two tokens rather than one at the end", () => {
    expect(alone({ left: 176 })).toEqual([176]);
    expect(alone({ left: 177 })).toEqual([175]);
    expect(alone({ left: 1 })).toEqual([1]);
    expect(alone({ free: 177 })).toEqual([175]);
  });

  it("less where log-probabilities or edits that are compared would take too much memory, but something", () => {
    expect(alone({ logits: 49_152 })).toEqual([85]);
    expect(alone({ logits: 1 << 23 })).toEqual([1]);
    expect(alone({ comparisons: 1 << 20 })).toEqual([4]);
  });

  it("less far in a text that keeps all its keys, where masks are large", () => {
    const all = { free: Number.POSITIVE_INFINITY, keys: Number.POSITIVE_INFINITY };
    expect(alone({ ...all, prefilled: 1024 })).toEqual([176]);
    expect(alone({ ...all, prefilled: 1 << 18, left: 100_000 })).toEqual([63]);
  });
});

describe("short prompts are read in one run", () => {
  const runs = (prompts: readonly Partial<PlannedSequence>[], costs = COSTS) => {
    const sequences = prompts.map((each, id): PlannedSequence => {
      const standing = { standing: "running", paused: false, parkable: true, since: 0, batch: "10" } as const;
      const work = {
        prefilled: 0,
        left: 20,
        free: 1024,
        grid: 128,
        keys: 1034,
        logits: 0,
        comparisons: 0,
        read: false,
      };
      return { id, request: id, ...standing, ...work, ...each };
    });
    const { chunks } = plan({ sequences, parallel: 16, parking: 0, costs, step: 1 });
    return chunks.map((run) => run.map(({ id }) => id));
  };

  it("as many as there is time for, if they are about as long", () => {
    expect(runs([{}, { left: 15 }, { left: 22 }, { left: 300 }])).toEqual([[0, 1, 2]]);
    expect(runs(Array(20).fill({}))).toEqual([[0, 1, 2, 3, 4, 5, 6, 7, 8]]);
    expect(runs([{ left: 5 }, { left: 6 }, { left: 60 }])).toEqual([[0, 1]]);
  });

  it("not with others that are begun, of another batch, read by SAEs, or asked for log-probabilities", () => {
    const others = [
      { prefilled: 10 },
      { batch: "0" },
      { batch: null },
      { read: true },
      { logits: 100 },
      { comparisons: 9 },
    ];
    expect(runs([{}, ...others])).toEqual([[0]]);
    // A prompt of one token is computed by other kernels than one of more.
    expect(runs([{}, { left: 1 }])).toEqual([[0]]);
    expect(runs([{ left: 1 }, {}])).toEqual([[0]]);
    expect(runs([{}, { left: 30, free: 25 }])).toEqual([[0]]);
  });
});
