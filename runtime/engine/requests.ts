import type { GenerationEvent } from "../contract/generation.js";
import { eventCredit } from "./event-credit.js";
import type { Member } from "./member.js";

/** Credit (`eventCredit`) that a reader may be behind before its sequences wait. */
const CREDIT = 128;

/** A request that is being answered. */
interface Request {
  readonly members: Set<Member>;
  /** Credit of the events sent and not yet read. */
  ahead: number;
  pausedAt: number | null;
}

/** Events of some requests, as they leave the engine after a step. */
export type Outbox = readonly { readonly request: number; readonly events: readonly GenerationEvent[] }[];

/** The requests that are being answered: which sequences they have, and how far their readers are behind. */
export class Requests {
  readonly #requests = new Map<number, Request>();
  #outbox = new Map<number, GenerationEvent[]>();

  open(id: number, members: readonly Member[]): void {
    this.#requests.set(id, { members: new Set(members), ahead: 0, pausedAt: null });
  }

  get ids(): readonly number[] {
    return [...this.#requests.keys()];
  }

  membersOf(id: number): readonly Member[] {
    return [...(this.#requests.get(id)?.members ?? [])];
  }

  /** Puts events where they leave from; a reader that is too far behind pauses its own sequences. */
  emit(id: number, events: readonly GenerationEvent[]): void {
    const request = this.#requests.get(id);
    if (request === undefined || events.length === 0) return;
    for (const event of events) request.ahead += eventCredit(event);
    if (request.ahead >= CREDIT) pause(request, true);
    const leaving = this.#outbox.get(id);
    if (leaving === undefined) this.#outbox.set(id, [...events]);
    else leaving.push(...events);
  }

  /** The reader has taken events of this much credit. */
  acknowledge(id: number, credit: number): void {
    const request = this.#requests.get(id);
    if (request === undefined) return;
    request.ahead -= credit;
    pause(request, request.ahead >= CREDIT);
  }

  /** Takes out what was put there since it was last called. */
  takeOutbox(): Outbox {
    const outbox = [...this.#outbox].map(([request, events]) => ({ request, events }));
    this.#outbox = new Map();
    return outbox;
  }

  /** Nobody reads this request any more. */
  close(id: number): void {
    this.#requests.delete(id);
    this.#outbox.delete(id);
  }

  /** A sequence has ended; its request is closed with the last one. */
  ended(member: Member): void {
    const request = this.#requests.get(member.options.request);
    request?.members.delete(member);
    if (request?.members.size === 0) this.#requests.delete(member.options.request);
  }

  /** Requests whose readers have taken nothing for so long, ms. */
  stalledFor(ms: number): readonly number[] {
    const now = performance.now();
    return [...this.#requests].flatMap(([id, { pausedAt }]) => (pausedAt !== null && now - pausedAt >= ms ? [id] : []));
  }
}

function pause(request: Request, paused: boolean): void {
  request.pausedAt = paused ? performance.now() : null;
  for (const each of request.members) each.paused = paused;
}
