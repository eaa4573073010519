/** What decides whether a sequence has a row of a cache. */
export interface Resident {
  readonly id: number;
  /** Number of its request: its members take no rows from each other. */
  readonly request: number;
  /** new: it never had a row; parked: it had one, and what the row held is kept elsewhere. */
  readonly standing: "new" | "running" | "parked";
  /** Its reader is behind: it gets nothing to do, and gives its row up where others wait. */
  readonly paused: boolean;
  /** Whether what its row holds can be kept elsewhere. */
  readonly parkable: boolean;
  /** Milliseconds since it was parked, or since it first ran on its row: 0 until it does. */
  readonly since: number;
}

export interface Placement {
  /** Sequences whose rows are parked, and those that get a row, new or parked ones. */
  readonly park: readonly number[];
  readonly place: readonly number[];
}

export interface Placing {
  /** Rows that may be in use at once, and rows that may be parked. */
  readonly parallel: number;
  readonly parking: number;
  /** What parking a row and bringing one back takes, ms; 0: not known. */
  readonly swap: number;
}

/** A newcomer's row is its own for so long at least, ms; and where others have waited in parking, rows change hands after so long. */
const FIRST_TURN_MS = 500;
const TURN_MS = 4000;
/** Parking rows takes no more than about a twentieth of the time. */
const TIMES_SWAP = 20;
/** A parked sequence that waited for so many turns goes before newcomers. */
const PATIENCE = 4;

/**
 * Who has a row. Rows that are free go to newcomers in the order in which they came, then to the parked that wait longest.
 * Where none is free, those of paused sequences go to who waits, and one row a step may change hands besides: a newcomer
 * gets it from the sequence of another request that has had its own longest. So a short text behind many long ones begins
 * at once, and long ones of several requests take turns.
 */
export function placement(sequences: readonly Resident[], { parallel, parking, swap }: Placing): Placement {
  const turns = {
    first: Math.max(FIRST_TURN_MS, TIMES_SWAP * swap),
    ms: Math.max(TURN_MS, TIMES_SWAP * swap * parallel),
  };
  const waiting = sequences.filter(({ standing, paused }) => standing !== "running" && !paused);
  const place: number[] = [];
  const park: number[] = [];
  const running = sequences.filter(({ standing }) => standing === "running");
  // What cannot be parked keeps its memory while its reader is away, but not its place: it lends that, to so many at most.
  const lent = running.filter(({ paused, parkable }) => paused && !parkable).length;
  let free = parallel - running.length + Math.min(lent, parallel);
  let room = parking - sequences.filter(({ standing }) => standing === "parked").length;
  let leaving = running.filter(({ parkable }) => parkable).sort(inOrderOfLeaving);
  let swapped = false;
  const isOverdue = ({ standing, since }: Resident) => standing === "parked" && since > PATIENCE * turns.ms;
  const rank = (each: Resident) => (isOverdue(each) ? 0 : each.standing === "new" ? 1 : 2);
  const isDue = (each: Resident, first: Resident) =>
    each.request !== first.request && first.since >= (rank(each) < 2 ? turns.first : turns.ms);
  for (const each of waiting.sort((a, b) => rank(a) - rank(b) || inOrderOfComing(a, b))) {
    // A parked sequence that comes back leaves room for the one that it replaces.
    const roomAfter = room + (each.standing === "parked" ? 1 : 0);
    if (free > 0) free--;
    else {
      const first = leaving.find((other) => other.paused || (!swapped && isDue(each, other)));
      if (roomAfter === 0 || first === undefined) continue;
      leaving = leaving.filter((other) => other !== first);
      swapped ||= !first.paused;
      park.push(first.id);
      room--;
    }
    if (each.standing === "parked") room++;
    place.push(each.id);
  }
  return { park, place };
}

/** Newcomers as they came, the parked that wait longest first. */
function inOrderOfComing(a: Resident, b: Resident): number {
  return a.standing === "new" ? a.id - b.id : b.since - a.since || a.id - b.id;
}

/** Paused ones, then those that have had their rows longest. */
function inOrderOfLeaving(a: Resident, b: Resident): number {
  if (a.paused !== b.paused) return a.paused ? -1 : 1;
  return b.since - a.since || b.id - a.id;
}
