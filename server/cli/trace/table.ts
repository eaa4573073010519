import type { WireReading } from "../../openai/features.js";
import { SCALARS, type Scalar } from "./flags.js";
import { closing, header, legend, saeLabels, short } from "./legend.js";
import type { Palette } from "./palette.js";
import { cell, columnsOf, visible } from "./printable.js";
import type { Scale } from "./scale.js";
import type { Trace, TracedToken, TraceView } from "./view.js";

/** Columns. With labels of two and features of five digits, a line of five features has 100. */
const POSITION = 4;
const TOKEN = 12;
const CHOSEN = 6;
const SCALAR: Readonly<Record<Scalar, { readonly heading: string; readonly columns: number }>> = {
  l0: { heading: "l0", columns: 4 },
  z: { heading: "z", columns: 4 },
  f: { heading: "f", columns: 4 },
  eps_lbo: { heading: "ε_lbo", columns: 6 },
  mse: { heading: "mse", columns: 6 },
};

type Cell = readonly [text: string, style: (text: string) => string];

/**
 * A line per token and SAE: position, token, SAE, scalars, features by strength. With colour, the lines of one token are one
 * block, whose first has its position and text; without, every line has them, for grep.
 * @param columns of the terminal: features that do not fit are left out, with an ellipsis. Infinity for a file.
 */
export function tableView(trace: Trace, palette: Palette, scale: Scale, columns: number): TraceView {
  const { card, color, sequence } = trace;
  const read = sequence.features?.saes ?? [];
  const labels = saeLabels(read);
  const labelColumns = Math.min(Math.floor(columns / 5), Math.max(...[...labels.values()].map(columnsOf)));
  const digits = String(
    Math.max(...card.saes.filter(({ id }) => read.includes(id)).map(({ dSae }) => dSae - 1)),
  ).length;
  const chosen = typeof color.of === "number" ? `:${color.of}` : null;
  const chosenColumns = Math.max(CHOSEN, chosen?.length ?? 0);
  const plain = (text: string) => text;
  let prompted = false;

  const headings = () => {
    const scalars = SCALARS.map((scalar) => SCALAR[scalar].heading.padStart(SCALAR[scalar].columns));
    const cells = ["#pos", cell("token", TOKEN), " ".repeat(labelColumns), ...scalars];
    if (chosen !== null) cells.push(chosen.padStart(chosenColumns));
    return `${palette.dim(`${cells.join(" ")}  features`)}\n`;
  };

  const line = ({ pos, name, value }: TracedToken, reading: WireReading, place: number) => {
    const again = place > 0 && palette.colored;
    const isColor = reading.sae === color.sae;
    const position = String(pos).padStart(POSITION);
    const cells: Cell[] = [
      [again ? " ".repeat(position.length) : position, palette.dim],
      [cell(again ? "" : visible(name), TOKEN), (text) => palette.shade(text, again ? 0 : scale.level(value, pos))],
      [cell(labels.get(reading.sae) ?? "", labelColumns), plain],
      ...SCALARS.map((scalar): Cell => {
        const number = scalar === "l0" ? String(reading.l0) : short(reading[scalar]);
        return [number.padStart(SCALAR[scalar].columns), isColor && color.of === scalar ? palette.bold : palette.dim];
      }),
    ];
    if (chosen !== null) cells.push([(isColor ? short(value) : "").padStart(chosenColumns), palette.bold]);
    const used = cells.reduce((sum, [text]) => sum + columnsOf(text) + 1, 1);
    const features = reading.top.map(([feature, activation]): Cell => {
      const text = `${String(feature).padStart(digits)}:${tiny(activation)}`;
      return [text, isColor && color.of === feature ? palette.bold : plain];
    });
    return `${[...cells, ["", plain] as const, ...fitting(features, columns - used)]
      .map(([text, style]) => style(text))
      .join(" ")
      .trimEnd()}\n`;
  };

  return {
    start: () => header(trace, palette) + headings(),
    token(token) {
      const turns = prompted && token.seq === 0;
      prompted ||= token.seq === null;
      const lines = token.saes.map((reading, place) => line(token, reading, place));
      return `${turns ? `${palette.dim("# generated")}\n` : ""}${lines.join("")}`;
    },
    end: (ending) =>
      [palette.reset, palette.colored ? legend(trace, palette, scale) : "", closing(ending, palette)].join(""),
  };
}

/** As many cells as fit beside each other; an ellipsis stands for the rest. */
function fitting(cells: readonly Cell[], columns: number): readonly Cell[] {
  const widths = cells.map(([text]) => columnsOf(text) + 1);
  const width = (count: number) => widths.slice(0, count).reduce((sum, each) => sum + each, -1);
  if (width(cells.length) <= columns) return cells;
  let count = cells.length - 1;
  while (count > 0 && width(count) + 2 > columns) count -= 1;
  return [...cells.slice(0, count), ["…", (text) => text]];
}

/** An activation in three columns: 137, 12, 3.2, .87; "-" for no number. */
function tiny(value: number | null): string {
  if (value === null) return "-  ";
  if (value >= 999.5 || value < 0.005) return value === 0 ? "0  " : value.toExponential(0).replace("+", "");
  if (value >= 9.95) return value.toFixed(0).padEnd(3);
  return value >= 0.995 ? value.toFixed(1) : value.toFixed(2).slice(1);
}
