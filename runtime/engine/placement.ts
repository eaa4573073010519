/** What decides whether a sequence has a row of a cache. */
export interface Resident {
  readonly id: number;
  /** new: it never had a row; parked: it had one, and what the row held is kept elsewhere. */
  readonly standing: "new" | "running" | "parked";
  /** Its reader is behind: it gets nothing to do, and gives its row up where others wait. */
  readonly paused: boolean;
  /** Whether what its row holds can be kept elsewhere. */
  readonly parkable: boolean;
  /** Milliseconds since its standing changed. */
  readonly since: number;
}

export interface Placement {
  /** Sequences whose rows are parked, and those that get a row, new or parked ones. */
  readonly park: readonly number[];
  readonly place: readonly number[];
}

export interface Places {
  /** Rows that may be in use at once, and rows that may be parked. */
  readonly parallel: number;
  readonly parking: number;
}

/** A newcomer's row is its own for so long. */
const FIRST_TURN_MS = 500;
/** Where others have waited in parking, rows change hands after so long: parking one and bringing it back takes some 20 ms. */
const TURN_MS = 4000;
/** A parked sequence that waited for so many turns goes before newcomers. */
const PATIENCE = 4;

/**
 * Who has a row. Rows that are free go to newcomers in the order in which they came, then to the parked that wait longest.
 * Where none is free, a newcomer gets the row of a paused sequence, or of the one that has had its own longest: a short
 * text behind many long ones begins at once, and the long ones take turns.
 */
export function placement(sequences: readonly Resident[], { parallel, parking }: Places): Placement {
  const waiting = sequences.filter(({ standing, paused }) => standing !== "running" && !paused);
  const place: number[] = [];
  const park: number[] = [];
  const running = sequences.filter(({ standing }) => standing === "running");
  // What cannot be parked keeps its memory while its reader is away, but not its place: it lends that, to so many at most.
  const lent = running.filter(({ paused, parkable }) => paused && !parkable).length;
  let free = parallel - running.length + Math.min(lent, parallel);
  let room = parking - sequences.filter(({ standing }) => standing === "parked").length;
  const leaving = running.filter(({ parkable }) => parkable).sort(inOrderOfLeaving);
  for (const each of waiting.sort(inOrderOfComing)) {
    // A parked sequence that comes back leaves room for the one that it replaces.
    const roomAfter = room + (each.standing === "parked" ? 1 : 0);
    if (free > 0) free--;
    else {
      const [first] = leaving;
      if (roomAfter === 0 || first === undefined || !mayReplace(each, first)) continue;
      leaving.shift();
      park.push(first.id);
      room--;
    }
    if (each.standing === "parked") room++;
    place.push(each.id);
  }
  return { park, place };
}

const isOverdue = ({ standing, since }: Resident): boolean => standing === "parked" && since > PATIENCE * TURN_MS;

/** Overdue ones, then newcomers, then the parked; newcomers as they came, the parked that wait longest first. */
function inOrderOfComing(a: Resident, b: Resident): number {
  const rank = (each: Resident) => (isOverdue(each) ? 0 : each.standing === "new" ? 1 : 2);
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  return a.standing === "new" ? a.id - b.id : b.since - a.since || a.id - b.id;
}

/** Paused ones, then those that have had their rows longest. */
function inOrderOfLeaving(a: Resident, b: Resident): number {
  if (a.paused !== b.paused) return a.paused ? -1 : 1;
  return b.since - a.since || b.id - a.id;
}

function mayReplace(waiting: Resident, running: Resident): boolean {
  if (running.paused) return true;
  return running.since >= (waiting.standing === "new" || isOverdue(waiting) ? FIRST_TURN_MS : TURN_MS);
}
