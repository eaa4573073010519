import type { Table } from "../../loadtest/report/report.js";

/** A cell of a table: numbers are rounded for people and kept for programs. */
export type Cell = string | number | null;

/** What a line of a table is held to. */
export interface Goal {
  /** In words, with its figure. */
  readonly goal: string;
  readonly met: boolean;
}

interface Line {
  readonly cells: readonly Cell[];
  readonly goal?: string;
  readonly met?: boolean;
}

/** A table that grows while it is measured. */
export interface FindingsTable {
  readonly title: string;
  readonly columns: readonly string[];
  readonly lines: readonly Line[];
}

/** What a section of the verification has measured so far. */
export class Findings {
  readonly tables: FindingsTable[] = [];
  readonly notes: string[] = [];
  /** What did not come to its end, and why. */
  readonly failures: string[] = [];

  /** @param changed called after every line, so that what was measured can be written down */
  constructor(readonly changed: () => void = () => {}) {}

  /** Begins a table; lines are added by what is returned. */
  table(title: string, columns: readonly string[]): (cells: readonly Cell[], goal?: Goal) => void {
    const lines: Line[] = [];
    this.tables.push({ title, columns, lines });
    return (cells, goal) => {
      lines.push({ cells, ...goal });
      this.changed();
    };
  }

  failed(sentence: string): void {
    this.failures.push(sentence);
    this.changed();
  }

  note(sentence: string): void {
    this.notes.push(sentence);
    this.changed();
  }

  /** Lines with a goal, as `table: first cells: goal`, and whether it is met. */
  get goals(): readonly (Goal & { readonly name: string })[] {
    return this.tables.flatMap(({ title, lines }) =>
      lines.flatMap(({ cells, goal, met }) =>
        goal === undefined || met === undefined ? [] : [{ name: `${title}: ${named(cells)}`, goal, met }],
      ),
    );
  }
}

/** A table as reports show it. */
export function toTable({ title, columns, lines }: FindingsTable): Table {
  const held = lines.some(({ goal }) => goal !== undefined);
  const rows = lines.map(({ cells, goal, met }) => [
    ...cells.map(shown),
    ...(held ? [goal === undefined ? "" : `${goal}: ${met ? "met" : "NOT MET"}`] : []),
  ]);
  return { title, columns: held ? [...columns, "goal"] : columns, rows };
}

/** The words with which a line begins. */
function named(cells: readonly Cell[]): string {
  const end = cells.findIndex((cell) => typeof cell !== "string");
  return cells.slice(0, end < 0 ? cells.length : end).join(", ");
}

function shown(cell: Cell): string {
  if (cell === null) return "-";
  if (typeof cell === "string") return cell;
  if (Number.isInteger(cell) && Math.abs(cell) < 1e15) return cell.toLocaleString("en");
  if (Math.abs(cell) >= 1e-3 || cell === 0) return cell.toLocaleString("en", { maximumSignificantDigits: 4 });
  return cell.toExponential(1);
}
