import { describe, expect, it } from "vitest";
import { Scheduler } from "../../../runtime/engine/scheduler.js";

interface Job {
  readonly name: string;
  /** What each of its turns takes. */
  readonly ms: number;
  paused: boolean;
}

const job = (name: string, ms = 1): Job => ({ name, ms, paused: false });

function scheduled(parallel: number, jobs: readonly Job[]): Scheduler<Job> {
  const scheduler = new Scheduler<Job>(parallel);
  for (const each of jobs) scheduler.add(each);
  return scheduler;
}

/** Names in the order of their turns; stops early when nobody can run. */
function turns(scheduler: Scheduler<Job>, count: number): string[] {
  const names: string[] = [];
  for (let i = 0; i < count; i++) {
    const next = scheduler.next();
    if (next === undefined) break;
    names.push(next.name);
    scheduler.charge(next, next.ms);
  }
  return names;
}

const times = (names: readonly string[], name: string): number => names.filter((each) => each === name).length;

describe("sequences that run share the engine by time", () => {
  it("a prefill in long chunks takes as long as a decode in short steps, and neither waits for the end of the other", () => {
    const names = turns(scheduled(2, [job("prefill", 60), job("decode", 2)]), 310);
    expect(times(names, "prefill")).toBe(10);
    expect(times(names, "decode")).toBe(300);
    expect(names.slice(0, 32)).toEqual(["prefill", ...Array<string>(30).fill("decode"), "prefill"]);
  });

  it("turns that take no time go round, too", () => {
    expect(turns(scheduled(3, [job("a", 0), job("b", 0), job("c", 0)]), 6)).toEqual(["a", "b", "c", "a", "b", "c"]);
  });

  it("a newcomer is served next, and gets no more than its share afterwards", () => {
    const scheduler = scheduled(3, [job("a"), job("b")]);
    turns(scheduler, 1000);
    scheduler.add(job("new"));
    const names = turns(scheduler, 300);
    expect(names.slice(0, 3)).toContain("new");
    expect(times(names, "new")).toBeLessThanOrEqual(102);
    expect(times(names, "a")).toBeGreaterThanOrEqual(99);
  });

  it("one that waited for its reader does not catch up on what it missed", () => {
    const slow = job("slow");
    const scheduler = scheduled(2, [slow, job("quick")]);
    turns(scheduler, 10);
    slow.paused = true;
    expect(times(turns(scheduler, 1000), "quick")).toBe(1000);
    slow.paused = false;
    expect(times(turns(scheduler, 100), "quick")).toBeGreaterThanOrEqual(48);
  });
});

describe("no more than `parallel` run", () => {
  it("the others wait in the order they came, and follow when one has gone", () => {
    const [a, b, c, d] = [job("a"), job("b"), job("c"), job("d")];
    const scheduler = scheduled(2, [a, b, c, d]);
    expect(new Set(turns(scheduler, 10))).toEqual(new Set(["a", "b"]));
    expect(scheduler.ready).toBe(2);
    scheduler.remove(b);
    expect(new Set(turns(scheduler, 10))).toEqual(new Set(["a", "c"]));
    scheduler.remove(d);
    scheduler.remove(a);
    expect(new Set(turns(scheduler, 10))).toEqual(new Set(["c"]));
    scheduler.remove(c);
    expect(scheduler.next()).toBeUndefined();
  });

  it("a slow reader's place is lent, so that it keeps nobody waiting", () => {
    const slow = job("slow");
    const scheduler = scheduled(1, [slow, job("next")]);
    expect(turns(scheduler, 2)).toEqual(["slow", "slow"]);
    slow.paused = true;
    expect(turns(scheduler, 2)).toEqual(["next", "next"]);
    slow.paused = false;
    expect(new Set(turns(scheduler, 4))).toEqual(new Set(["slow", "next"]));
  });

  it("but only so many, because paused sequences keep their memory", () => {
    const jobs = Array.from({ length: 9 }, (_, i) => job(`${i}`));
    const scheduler = scheduled(2, jobs);
    const started = new Set<string>();
    for (let i = 0; i < 20; i++) {
      for (const name of turns(scheduler, 2)) {
        started.add(name);
        jobs[Number(name)]!.paused = true;
      }
    }
    expect(started.size).toBe(4);
  });

  it("and a place is not given to one that cannot use it", () => {
    const [paused, other] = [job("paused"), job("other")];
    paused.paused = true;
    expect(turns(scheduled(1, [paused, other]), 1)).toEqual(["other"]);
  });
});
