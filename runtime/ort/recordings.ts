/** They are freed with their session alone. */
const MOST_RECORDINGS = 256;

/** Hands out numbers under which runs of one session are recorded, see `Binding.run`. */
export class Recordings {
  #taken = 0;

  /** null: there are enough, the run is not recorded. */
  next(): number | null {
    return this.#taken < MOST_RECORDINGS ? ++this.#taken : null;
  }
}
